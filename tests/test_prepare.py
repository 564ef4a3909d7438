"""Fetching the data files: mirrors, imports, damage, bombs; against a local server, never the network."""

import gzip
import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan_mnist.data import prepare
from gan_mnist.data.idx import check_mnist, write_idx
from gan_mnist.data.prepare import DataFile, prepare_mnist
from gan_mnist.errors import UserError

ROOT = Path(__file__).parent.parent
NOWHERE = "http://127.0.0.1:9"  # the discard port: connections are refused

Served = dict[str, bytes | int]
"""Path on the server -> content, or status to answer with; a path ending in "!" is cut off half-way."""


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MNIST of 20 + 10 images."""
    folder, rng = tmp_path_factory.mktemp("original"), np.random.default_rng(0)
    for split, stem, count in (("train", "train", 20), ("test", "t10k", 10)):
        write_idx(folder / split / f"{stem}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(folder / split / f"{stem}-labels-idx1-ubyte", rng.integers(0, 10, count, np.uint8))
    return folder


@pytest.fixture(autouse=True)
def files(original: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DataFile, ...]:
    """The table of its files, in place of the real one; and no mirrors."""
    table = []
    for file in prepare.MNIST_FILES:
        content = file.within(original).read_bytes()
        table.append(DataFile(file.split, file.name, len(content), hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(prepare, "MNIST_FILES", tuple(table))
    monkeypatch.setattr(prepare, "MIRRORS", ())
    monkeypatch.setattr(prepare, "PAUSE", 0.0)
    return tuple(table)


@pytest.fixture
def contents(original: Path, files: tuple[DataFile, ...]) -> dict[str, bytes]:
    """Name -> content."""
    return {file.name: file.within(original).read_bytes() for file in files}


class Server:
    """A web server on this machine that answers from a dict and remembers what it was asked for."""

    def __init__(self) -> None:
        self.served: Served = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                server.asked.append(self.path)
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                content = server.served.get(self.path, 404)
                cut = server.served.get(f"{self.path}!")
                if isinstance(cut, bytes):
                    content = cut
                self.send_response(200 if isinstance(content, bytes) else content)
                if isinstance(content, bytes):
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body and isinstance(content, bytes):
                    self.wfile.write(content[: len(content) // 2] if cut is not None else content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with nothing to serve yet."""
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def packed(contents: dict[str, bytes], prefix: str = "") -> dict[str, bytes]:
    """The files as the mirrors serve them."""
    return {f"{prefix}{name}.gz": gzip.compress(content) for name, content in contents.items()}


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip of `members`, whose names are taken literally."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def fill(folder: Path, members: dict[str, bytes]) -> Path:
    """Write `members` below `folder`."""
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def assert_complete(folder: Path, contents: dict[str, bytes]) -> None:
    """The four files are there, and nothing else is."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {f"{'train' if name.startswith('train') else 'test'}/{name}": contents[name] for name in contents}


# Mirrors


def download(folder: Path, *mirrors: str) -> None:
    """Prepare from `mirrors`; the fixture `files` resets them."""
    prepare.MIRRORS = mirrors
    prepare_mnist(folder)


def test_dead_and_empty_mirrors_are_passed_over(tmp_path: Path, server: Server, contents: dict[str, bytes]) -> None:
    server.served.update(packed(contents, "/good/"))
    download(tmp_path, NOWHERE, f"{server.url}/empty", f"{server.url}/good")
    assert_complete(tmp_path, contents)
    assert len(server.asked) == 4


def test_zip_mirror(tmp_path: Path, server: Server, contents: dict[str, bytes]) -> None:
    server.served["/MNIST_Data.zip"] = zipped({f"MNIST_Data/x/{name}": content for name, content in contents.items()})
    download(tmp_path, f"{server.url}/MNIST_Data.zip")
    assert_complete(tmp_path, contents)
    assert server.asked == ["/MNIST_Data.zip"]


def test_interrupted_transfer_is_repeated_and_then_left(
    tmp_path: Path, server: Server, contents: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    served = packed(contents, "/cut/")
    served["/cut/t10k-images-idx3-ubyte.gz!"] = served.pop("/cut/t10k-images-idx3-ubyte.gz")
    server.served.update(served)
    with pytest.raises(UserError, match="breaks off, 3 times"):
        download(tmp_path, f"{server.url}/cut")
    assert server.asked.count("/cut/t10k-images-idx3-ubyte.gz") == 3
    kept = {name: content for name, content in contents.items() if name.startswith("train")}
    assert_complete(tmp_path, kept)  # what was complete is kept, and nothing is half-written

    server.asked.clear()
    server.served.update(packed(contents, "/whole/"))
    download(tmp_path, f"{server.url}/cut", f"{server.url}/whole")
    assert_complete(tmp_path, contents)
    assert not any("train" in path for path in server.asked)
    assert "train-images-idx3-ubyte: already there" in capsys.readouterr().out


def test_wrong_content_moves_on_to_the_next_mirror(tmp_path: Path, server: Server, contents: dict[str, bytes]) -> None:
    flipped = {name: bytes([*content[:-1], content[-1] ^ 1]) for name, content in contents.items()}
    portal = dict.fromkeys(contents, b"<html>please log in")
    server.served.update({**packed(flipped, "/flipped/"), **packed(portal, "/portal/"), **packed(contents, "/good/")})
    with pytest.raises(UserError, match="is not MNIST's"):
        download(tmp_path, f"{server.url}/flipped")
    with pytest.raises(UserError, match="holds 19 bytes, not the"):
        download(tmp_path, f"{server.url}/portal")
    download(tmp_path, *(f"{server.url}/{name}" for name in ("portal", "flipped", "good")))
    assert_complete(tmp_path, contents)


@pytest.mark.parametrize(("status", "asked"), [(403, 1), (503, 3)])
def test_refusing_server(tmp_path: Path, server: Server, status: int, asked: int) -> None:
    server.served["/data/train-images-idx3-ubyte.gz"] = status
    with pytest.raises(UserError, match=f"status {status}"):
        prepare_mnist(tmp_path, source=f"{server.url}/data")
    assert len(server.asked) == asked


def test_a_server_that_never_ends_is_cut_off(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "LARGEST_ARCHIVE", 10**5)
    server.served.update({"/endless.zip": bytes(10**6), "/folder/train-images-idx3-ubyte.gz": bytes(10**6)})
    for place in ("endless.zip", "folder"):
        with pytest.raises(UserError, match="more than"):
            prepare_mnist(tmp_path, source=f"{server.url}/{place}")


def test_a_silent_mirror_costs_no_more_than_the_patience(
    tmp_path: Path, server: Server, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "PATIENCE", 0.3)
    server.served.update(packed(contents, "/"))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        start = time.monotonic()
        download(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", server.url)
    assert time.monotonic() - start < 3
    assert_complete(tmp_path, contents)


def test_offline_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"place train-images-.*\.gz.* in .*--source DIR.*quickstart\.yaml") as caught:
        download(tmp_path, NOWHERE)
    assert all(file.name in str(caught.value) for file in prepare.MNIST_FILES)
    assert not list(tmp_path.iterdir())


# Imports


@pytest.mark.parametrize("place", ["", "MNIST_Data/"])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("pack", [False, True])
def test_import_from_folder(tmp_path: Path, contents: dict[str, bytes], place: str, split: bool, pack: bool) -> None:
    members = {
        f"{place}{('train/' if name.startswith('train') else 'test/') if split else ''}{name}{'.gz' if pack else ''}": (
            gzip.compress(content) if pack else content
        )
        for name, content in contents.items()
    }
    prepare_mnist(tmp_path / "out", source=str(fill(tmp_path / "in", members)))
    assert_complete(tmp_path / "out", contents)


def test_import_from_urls(tmp_path: Path, server: Server, contents: dict[str, bytes]) -> None:
    fill(tmp_path / "in put", dict(contents))
    archive = tmp_path / "some.zip"
    archive.write_bytes(zipped(contents))
    server.served.update({f"/flat/{name}": content for name, content in contents.items()})
    server.served["/a.ZIP"] = archive.read_bytes()
    local = [(tmp_path / "in put").as_uri(), archive.as_uri(), str(archive)]
    for number, source in enumerate([*local, f"{server.url}/flat/", f"{server.url}/a.ZIP"]):
        prepare_mnist(tmp_path / str(number), source=source)
        assert_complete(tmp_path / str(number), contents)


def test_zip_members_never_leave_the_folder(tmp_path: Path, contents: dict[str, bytes]) -> None:
    members = {f"../../{name}": content for name, content in contents.items()}
    archive = tmp_path / "evil.zip"
    archive.write_bytes(zipped({"../evil": b"x", "/tmp/evil": b"x", **members}))
    prepare_mnist(tmp_path / "a" / "b", source=str(archive))
    assert_complete(tmp_path / "a" / "b", contents)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "evil.zip"}


def test_bombs_are_refused(tmp_path: Path, contents: dict[str, bytes]) -> None:
    name = "train-images-idx3-ubyte"
    fill(tmp_path / "in", {**contents, f"{name}.gz": gzip.compress(bytes(10**8))})
    (tmp_path / "in" / name).unlink()
    (tmp_path / "bomb.zip").write_bytes(zipped({**contents, name: bytes(10**8)}))
    tracemalloc.start()
    for source in ("in", "bomb.zip"):
        with pytest.raises(UserError, match="holds more than the 15696 bytes"):
            prepare_mnist(tmp_path / "out", source=str(tmp_path / source))
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()
    assert not list((tmp_path / "out").rglob("*ubyte*"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "there is no such folder or zip"),
        ("ftp://host/mnist", "ftp URLs are not understood"),
        ("http://[host", "not a URL"),
        (NOWHERE, r"127\.0\.0\.1:9 cannot be reached"),
        (__file__, "neither a folder nor a sound zip"),
        (str(ROOT / "tests"), "train-images-idx3-ubyte is not there"),
    ],
)
def test_useless_source(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prepare_mnist(tmp_path / "out", source=source)
    assert source in str(caught.value)
    assert not (tmp_path / "out").exists()


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_fuzz_archives_are_imported_or_refused(tmp_path: Path, contents: dict[str, bytes], data: st.DataObject) -> None:
    members = packed(contents) if data.draw(st.booleans()) else contents
    archive = bytearray(zipped({f"MNIST_Data/{name}": content for name, content in members.items()}))
    for _ in range(data.draw(st.integers(1, 8))):
        # Mostly in the directory at the end, where the format is; the rest is checked by CRC and SHA-256.
        archive[data.draw(st.integers(-500, -1) | st.integers(-len(archive), -1))] = data.draw(st.integers(0, 255))
    (tmp_path / "fuzz.zip").write_bytes(archive[: data.draw(st.integers(0, len(archive)) | st.just(len(archive)))])
    for file in prepare.MNIST_FILES:
        file.within(tmp_path / "out").unlink(missing_ok=True)
    try:
        prepare_mnist(tmp_path / "out", source=str(tmp_path / "fuzz.zip"))
    except UserError:
        pass
    else:
        assert_complete(tmp_path / "out", contents)


@settings(max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_fuzz_gzip_is_imported_or_refused(tmp_path: Path, contents: dict[str, bytes], data: st.DataObject) -> None:
    name = "t10k-labels-idx1-ubyte"
    packed_file = bytearray(gzip.compress(contents[name]))
    for _ in range(data.draw(st.integers(0, 4))):
        packed_file[data.draw(st.integers(0, len(packed_file) - 1))] = data.draw(st.integers(0, 255))
    fill(tmp_path / "in", {**contents, f"{name}.gz": bytes(packed_file) + data.draw(st.binary(max_size=20))})
    (tmp_path / "in" / name).unlink()
    (tmp_path / "out" / "test" / name).unlink(missing_ok=True)
    try:
        prepare_mnist(tmp_path / "out", source=str(tmp_path / "in"))
    except UserError as error:
        assert name in str(error)
    else:
        assert_complete(tmp_path / "out", contents)


# What is in the folder already


def test_right_files_stay_and_wrong_ones_are_made_again(tmp_path: Path, contents: dict[str, bytes]) -> None:
    source = str(fill(tmp_path / "in", dict(contents)))
    out = tmp_path / "out"
    prepare_mnist(out, source=source)
    kept, mended = out / "train" / "train-images-idx3-ubyte", out / "train" / "train-labels-idx1-ubyte"
    before = kept.stat().st_mtime_ns
    mended.write_bytes(b"\0" * len(contents[mended.name]))
    (out / "train" / ".train-images-idx3-ubyte.partial-00").write_bytes(b"left by a kill")
    prepare_mnist(out, source=source)
    assert kept.stat().st_mtime_ns == before
    assert_complete(out, contents)


@pytest.mark.parametrize("flat", [True, False])
def test_files_placed_by_hand_are_unpacked(tmp_path: Path, contents: dict[str, bytes], flat: bool) -> None:
    for file in prepare.MNIST_FILES:
        fill(tmp_path, packed({file.name: contents[file.name]}, "" if flat else f"{file.split}/"))
    prepare.ensure_mnist(tmp_path)
    assert check_mnist(tmp_path, "train") == (20, 28, 28)
    assert check_mnist(tmp_path, "test") == (10, 28, 28)


def test_ensure_reads_nothing_when_all_is_there(
    original: Path, tmp_path: Path, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_sha256", None)
    prepare.ensure_mnist(original)


def test_ensure_continues_an_interrupted_download_but_spares_other_data(
    tmp_path: Path, contents: dict[str, bytes]
) -> None:
    fill(tmp_path, {"train/train-images-idx3-ubyte": contents["train-images-idx3-ubyte"]})
    with pytest.raises(UserError, match="could not be downloaded"):
        prepare.ensure_mnist(tmp_path)
    fill(tmp_path, {"train/train-labels-idx1-ubyte": b"the user's own"})
    prepare.ensure_mnist(tmp_path)
    assert (tmp_path / "train" / "train-labels-idx1-ubyte").read_bytes() == b"the user's own"


def test_file_where_a_folder_is_needed(tmp_path: Path, contents: dict[str, bytes]) -> None:
    fill(tmp_path / "in", dict(contents))
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        prepare_mnist(tmp_path / "out", source=str(tmp_path / "in"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_read_only_folder(tmp_path: Path, contents: dict[str, bytes]) -> None:
    fill(tmp_path / "in", dict(contents))
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot write"):
        prepare_mnist(tmp_path / "out", source=str(tmp_path / "in"))


# The command line


def command_line(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the real script where no network can be reached."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
    environment = {**os.environ, **proxies, "NO_PROXY": "", "no_proxy": ""}
    command = [sys.executable, str(ROOT / "scripts" / "prepare_data.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "configs/quickstart.yaml runs without any download"),
        (("--source", "nowhere"), "--source nowhere: there is no such folder or zip"),
        (("--dataset", "digits", "--source", "nowhere"), "--source is for --dataset mnist"),
    ],
)
def test_command_line_says_it_in_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = command_line(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
