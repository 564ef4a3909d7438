"""The explorer's page, asked over HTTP as a browser asks it."""

import base64
import importlib.util
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from conftest import ROOT, Cli
from PIL import Image

from gan_mnist.errors import UserError

DATA = re.compile(r'src="data:image/png;base64,([^"]+)"')
with_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the extra `web` is not installed")


LISTENER = """
import sys

def note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        with open({path!r}, "a") as file:
            print(arguments[1][0], file=file)

sys.addaudithook(note)
"""


class Page:
    """A running scripts/explore.py; whom it calls is noted in `calls`."""

    def __init__(self, run: Path, temporary: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, str(ROOT / "scripts" / "explore.py"), "--run", str(run), "--port", str(self.port)]
        self.temporary = temporary / "temporary"
        self.temporary.mkdir()
        self.calls = temporary / "calls"
        self.calls.touch()
        (temporary / "sitecustomize.py").write_text(LISTENER.format(path=str(self.calls)))
        self.run = run
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        self.url = f"http://127.0.0.1:{self.port}"

    def post(self, name: str, *asked: Any, event: Any = None) -> requests.Response:
        body = {"data": asked, "session_hash": "a-test", "event_data": event}
        return requests.post(f"{self.url}/gradio_api/run/{name}", json=body, timeout=30)

    def ask(self, name: str, *asked: Any, event: Any = None) -> Any:
        answer = self.post(name, *asked, event=event)
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        return data[0] if len(data) == 1 else data

    def upload(self, name: str, content: bytes) -> str:
        """What is said of an uploaded file."""
        sent = requests.post(f"{self.url}/gradio_api/upload", files={"files": (name, content)}, timeout=30)
        file = {"path": sent.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        return str(self.ask("upload", file, False, 1))


@pytest.fixture(scope="module")
def page(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    page = Page(shutil.copytree(trained_run, folder / "quickstart"), folder)
    yield page
    if page.process.poll() is None:
        page.process.kill()
    page.process.communicate()


def pictures(answer: str) -> list[np.ndarray]:
    """The PNGs in an answer."""
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in DATA.findall(answer)]


def png_of_zeros(side: int) -> bytes:
    """A sound PNG of side x side black pixels, a thousandth of their size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])  # 1 bit a pixel, grey.
    compressor = zlib.compressobj()
    data = b"".join(compressor.compress(bytes(side // 8 + 1)) for _ in range(side)) + compressor.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@with_gradio
def test_it_serves_this_machine_and_its_page_names_no_other(page: Page) -> None:
    assert page.first_line == f"{page.url}/   (Ctrl-C ends it)\n"
    html = requests.get(page.url, timeout=30).text
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', html)
    assert [url for url in loaded if not url.startswith(page.url)] == []
    assert "fonts.googleapis" not in html and '"analytics_enabled":false' in html and '"run_history":true' not in html


@with_gradio
def test_a_slider_gives_the_picture_that_sample_gives(page: Page, cli: Cli, trained_run: Path, tmp_path: Path) -> None:
    ckpt = trained_run / "checkpoints" / "Generator1.ckpt"
    cli("sample", "--ckpt", ckpt, "--count", 1, "--seed", 7, "--out", "one.npy", cwd=tmp_path)
    *where, shown = page.ask("start", 1, 0, 0, 7)
    assert len(where) == 8
    picture = pictures(shown)[0]
    difference = np.abs(picture.astype(int) - np.load(tmp_path / "one.npy")[0])
    assert picture.shape == (28, 28) and difference.mean() < 1, difference.max()  # Sliders stand at hundredths.
    where[0] = 3.0 if where[0] < 0 else -3.0
    moved = pictures(page.ask("picture", 1, 0, 0, 7, *where))[0]
    assert np.abs(moved.astype(int) - picture).max() > 20
    other = pictures(page.ask("picture", 0, 0, 0, 7, *where))[0]
    assert not np.array_equal(other, moved)
    assert page.ask("random", 1, 0, 0)[0] != page.ask("random", 1, 0, 0)[0]


@with_gradio
def test_pinned_pictures_are_mixed(page: Page) -> None:
    assert "Pin two pictures" in page.ask("mixtures", None, 50, 1, 0)[1]
    for seed, name in enumerate("abc"):
        where = page.ask("start", 1, 0, 0, seed)[:-1]
        _, pinned, way, analogy = page.ask(f"pin_{name}", None, 50, 1, 0, 0, seed, *where)
        assert len(pictures(pinned)) == seed + 1
    assert len(pictures(way)) == 2 and len(pictures(analogy)) == 4
    ends = [pictures(page.ask("between", None, share, 1, 0))[0] for share in (0, 100)]
    shown = pictures(pinned)
    for end, pin in zip(ends, shown):
        np.testing.assert_array_equal(end, pin)


@with_gradio
def test_the_two_modes_stand_side_by_side(page: Page) -> None:
    where = page.ask("start", 1, 0, 0, 7)[:-1]
    alone, together = pictures(page.ask("modes", 5, 1, 0, 0, 7, *where))
    other_alone, other_together = pictures(page.ask("modes", 6, 1, 0, 0, 7, *where))
    first = np.s_[: alone.shape[0] // 4, : alone.shape[1] // 4]
    assert alone.shape == together.shape
    np.testing.assert_array_equal(alone[first], other_alone[first])
    assert not np.array_equal(together[first], other_together[first])


@with_gradio
def test_d_is_asked_about_files_drawings_and_g(page: Page) -> None:
    file = io.BytesIO()
    Image.fromarray(np.tile(np.arange(0, 240, 4, dtype=np.uint8), (50, 1))).save(file, "png")
    said = page.upload("grey.png", file.getvalue())
    assert re.search(r'"probability">[01]\.\d{4}<', said) and len(pictures(said)) == 1
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    assert page.ask("drawing", 1, event={"picture": url}) == said
    where = page.ask("start", 1, 0, 0, 7)[:-1]
    assert "epoch 1" in page.ask("own", 1, 0, 0, 7, *where)


@with_gradio
@pytest.mark.parametrize(
    "content",
    [b"no picture at all", b"", png_of_zeros(20000), b"\x89PNG\r\n\x1a\n" + bytes(99)],
    ids=["text", "nothing", "bomb", "broken"],
)
def test_what_is_no_picture_is_answered_with_a_line(page: Page, content: bytes) -> None:
    said = page.upload("evil<b>.png", content)
    assert said.startswith('<p class="trouble">') and "cannot be read as a picture" in said
    assert "<b>" not in said and "/tmp" not in said
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    assert "cannot be read as a picture" in page.ask("drawing", 1, event={"picture": url})


@with_gradio
@pytest.mark.parametrize("event", [{"picture": "data:,%%%"}, {"picture": None}, {}])
def test_a_drawing_that_is_none_is_answered_with_a_line(page: Page, event: Any) -> None:
    assert "cannot be read as a picture" in page.ask("drawing", 1, event=event)


@with_gradio
def test_other_epochs_are_refused_and_no_file_of_the_machine_is_read(page: Page, trained_run: Path) -> None:
    where = page.ask("start", 1, 0, 0, 7)[:-1]
    answer = page.post("picture", 7, 0, 0, 7, *where)
    assert answer.status_code == 500 and answer.json()["error"] == "Value 7 is greater than maximum value 1."
    stolen = {"path": str(trained_run / "config.yaml"), "meta": {"_type": "gradio.FileData"}}
    assert page.post("upload", stolen, False, 1).status_code != 200
    assert requests.get(f"{page.url}/gradio_api/file={trained_run / 'config.yaml'}", timeout=30).status_code == 403


@with_gradio
def test_the_controls_speak_english_and_chinese(page: Page) -> None:
    english, chinese = ([str(update) for update in page.ask("language", name)] for name in ("English", "中文"))
    assert len(english) == len(chinese) > 20
    same = [text for text, other in zip(english, chinese) if text == other]
    assert len(same) == 2 and all("A" in text for text in same)  # Formulas.
    assert any("'Random'" in text for text in english) and any("'随机'" in text for text in chinese)
    assert not any(re.search("[\u4e00-\u9fff]", text) for text in english)


@with_gradio
def test_epochs_that_training_adds_are_there_when_the_page_is_loaded_again(page: Page) -> None:
    where = page.ask("start", 1, 0, 0, 7)[:-1]
    saved = page.run / "checkpoints"
    shutil.copy(saved / "Generator1.ckpt", saved / "Generator3.ckpt")
    assert page.ask("epochs")["maximum"] == 3
    assert DATA.findall(page.ask("picture", 3, 0, 0, 7, *where)) == DATA.findall(
        page.ask("picture", 1, 0, 0, 7, *where)
    )
    said = page.ask("picture", 2, 0, 0, 7, *where)
    assert said.startswith('<p class="trouble">epoch 2 was not saved') and said.endswith("there are 0-1, 3</p>")


@with_gradio
def test_it_has_called_nobody_but_itself(page: Page) -> None:
    assert set(page.calls.read_text().split()) == {"127.0.0.1"}


@with_gradio
def test_ctrl_c_ends_it(page: Page) -> None:
    page.process.send_signal(signal.SIGINT)
    assert page.process.communicate(timeout=20)[0] == ""
    assert page.process.returncode == 130
    assert list(page.temporary.glob("gan_mnist-*")) == []  # Uploads are gone, too.


def test_without_gradio_it_says_what_to_install(
    cli_here: Callable[..., None], monkeypatch: pytest.MonkeyPatch, trained_run: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install \.\[web\]"):
        cli_here("explore", "--run", trained_run)


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_is_none_is_refused(cli_here: Callable[..., None], port: str) -> None:
    with pytest.raises(UserError, match=f"'{port}' is not a port, 1 to 65535"):
        cli_here("explore", "--run", "result/mnist", "--port", port)


@with_gradio
@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_an_address_that_cannot_be_had_is_refused(cli_here: Callable[..., None], host: str, trained_run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--host {host} --port {port}: cannot be listened on"):
            cli_here("explore", "--run", trained_run, "--host", host, "--port", port)
