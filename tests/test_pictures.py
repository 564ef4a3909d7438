"""Folders and zips of pictures: against Pillow one by one, what is broken, the cache, labels, memory, and the download
of the anime faces; all without MindSpore, and against a local server.
"""

import io
import json
import os
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_mnist import config, imaging
from gan_mnist.data import Images, faces, image_shape, load_images, pictures, prepare
from gan_mnist.data.pictures import is_picture, label, load_pictures
from gan_mnist.errors import UserError

RANDOM = np.random.default_rng(0)


def picture(height: int = 24, width: int = 24, mode: str = "RGB") -> Image.Image:
    """A smooth picture: shades that differ from corner to corner, and from picture to picture."""
    corners = RANDOM.integers(0, 256, (2, 2, 3), np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR).convert(mode)


def encoded(image: Image.Image, suffix: str = "png") -> bytes:
    stream = io.BytesIO()
    image.save(stream, {"jpg": "jpeg", "tif": "tiff", "pgm": "ppm"}.get(suffix, suffix))
    return stream.getvalue()


def fill(folder: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


PLACES: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "folder": lambda path, members: fill(path / "some", members),
    "zip": lambda path, members: zipped(path / "some.zip", members),
}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`load(source)` with a cache of its own, 16x16 in colour."""

    def load(source: Path, *, size: int = 16, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
        return load_pictures(source, size=size, channels=channels, cache=tmp_path / "cache")

    return load


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for every picture that is decoded."""
    calls: list[int] = []
    decode = imaging.decode_image

    def counted(*arguments: object, **options: object) -> np.ndarray:
        calls.append(1)
        return decode(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(imaging, "decode_image", counted)
    return calls


def slowly(content: bytes, size: int, channels: int) -> np.ndarray:
    """The whole picture on white, its shorter side resized to `size`, then its centre: in another order than ours."""
    whole = Image.open(io.BytesIO(content)).convert("RGBA")
    paper = Image.new("RGBA", whole.size, (255, 255, 255, 255))
    paper.paste(whole, mask=whole)
    scale = size / min(whole.size)
    small = paper.convert("RGB").resize([round(side * scale) for side in whole.size], Image.Resampling.LANCZOS)
    left, top = (small.width - size) // 2, (small.height - size) // 2
    square = small.crop((left, top, left + size, top + size))
    return np.asarray(square.convert("L") if channels == 1 else square)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_equal_a_slow_reading_of_each(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]], place: str, channels: int
) -> None:
    members = {}
    for suffix in ("png", "jpg", "bmp", "tif", "webp", "gif", "ppm"):
        for height, width in ((16, 16), (64, 64), (48, 96), (96, 32), (8, 16)):
            members[f"{suffix}/{height}x{width}.{suffix.upper()}"] = encoded(picture(height, width), suffix)
    members["grey.pgm"] = encoded(picture(mode="L"), "pgm")
    members["palette.png"] = encoded(picture(mode="P"))
    holes = np.asarray(picture(32, 64).convert("RGBA")).copy()
    holes[8:24, 16:40, 3] = 0
    members["holes.png"] = encoded(Image.fromarray(holes))
    pixels, labels = load(PLACES[place](tmp_path, members), channels=channels)

    assert pixels.dtype == np.uint8 and len(labels) == len(members) == 38
    assert pixels.shape == ((38, 16, 16) if channels == 1 else (38, 16, 16, 3))
    for got, name in zip(pixels, sorted(members), strict=True):
        expected = slowly(members[name], 16, channels)
        # Rounding and clipping, in another order; most where the transparent part ends.
        assert np.abs(got.astype(int) - expected).max() <= (12 if name == "holes.png" else 4), name


def test_the_pixels_are_images_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "some", {f"{index}.png": encoded(picture()) for index in range(5)})
    monkeypatch.chdir(tmp_path)
    for channels in (1, 3):
        data = config.Data(dataset="images", folder=str(tmp_path / "some"), image_size=8, channels=channels, limit=4)
        images = load_images(data)
        assert images.shape == image_shape(data) == (channels, 8, 8)
        x = images.inputs(np.array([3, 0]))
        assert x.shape == (2, channels, 8, 8) and len(images.labels) == 4
        pixels = images.pixels.reshape(4, 8, 8, channels)
        np.testing.assert_allclose(x[1].transpose(1, 2, 0), pixels[0] / 127.5 - 1, atol=1e-6)


def test_there_are_no_test_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.dataset=images has no test images.*checkpoint\.keep"):
        load_images(config.Data(dataset="images", folder=str(tmp_path)), "test")


# Broken ones

WHOLE = {f"{index}.png": encoded(picture()) for index in range(4)}
BROKEN = {
    "empty.png": b"",
    "text.jpg": b"no picture",
    "cut.png": encoded(picture())[:60],
    "bomb.png": encoded(Image.new("1", (10_000, 10_000))),
    "no_frames.gif": b"GIF89a",
}


@pytest.mark.parametrize("place", PLACES)
def test_broken_pictures_are_named_and_left_out(
    tmp_path: Path,
    load: Callable[..., tuple[np.ndarray, np.ndarray]],
    place: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    members = {f"{index}.png": encoded(picture()) for index in range(3)}
    source = PLACES[place](tmp_path, members | BROKEN)
    for _ in range(2):  # Freshly decoded, and from the cache.
        pixels, labels = load(source)
        assert len(pixels) == len(labels) == 3
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert line.startswith(f"warning: {source}: skipped 5 of 8 pictures: bomb.png: 10000 x 10000 pixels")
        assert "empty.png: empty" in line and "text.jpg: no picture" in line
        assert all(name in line for name in BROKEN)


def test_many_broken_pictures_are_summarised(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]], capsys: pytest.CaptureFixture[str]
) -> None:
    members = {"good.png": encoded(picture())} | {f"{index:04}.png": b"x" for index in range(1000)}
    assert len(load(zipped(tmp_path / "some.zip", members))[0]) == 1
    line = capsys.readouterr().err
    assert "skipped 1,000 of 1,001 pictures: 0000.png: no picture; " in line and len(line) < 500
    listed = line.split("and 995 more, see ")[1].strip()
    assert len(json.loads(Path(listed).read_text())["broken"]) == 1000


def test_a_damaged_or_locked_member_costs_only_itself(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]], capsys: pytest.CaptureFixture[str]
) -> None:
    members = {f"{index}.png": encoded(picture()) for index in range(4)}
    path = zipped(tmp_path / "some.zip", members)
    content = bytearray(path.read_bytes())
    content[content.index(b"1.png") + 40] ^= 0xFF  # In the packed picture: its CRC no longer fits.
    locked = content.rindex(b"2.png") - 46 + 8  # The flags of its entry in the directory.
    content[locked] |= 1
    path.write_bytes(content)
    assert len(load(path)[0]) == 2
    line = capsys.readouterr().err
    assert "skipped 2 of 4 pictures: 1.png: " in line and "2.png: " in line and "encrypted" in line


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, r"holds no pictures \(\.jpg"),
        ({"README.txt": b"no picture"}, "holds no pictures"),
        ({"__MACOSX/._1.png": b"x", ".hidden/1.png": b"x"}, "holds no pictures"),
        (BROKEN, "none of its 5 pictures can be read"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_without_a_single_picture_it_is_refused(
    tmp_path: Path,
    load: Callable[..., tuple[np.ndarray, np.ndarray]],
    place: str,
    members: dict[str, bytes],
    message: str,
) -> None:
    (tmp_path / "some").mkdir()
    with pytest.raises(UserError, match=f"data.folder=.*some.*: {message}"):
        load(PLACES[place](tmp_path, members))


def test_what_is_no_folder_and_no_zip_is_refused(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    with pytest.raises(UserError, match="data.folder=.*nowhere: there is no such folder or zip"):
        load(tmp_path / "nowhere")
    whole = zipped(tmp_path / "whole.zip", {"1.png": encoded(picture())}).read_bytes()
    for content in (b"", b"text", whole[:-30], whole[: len(whole) // 2]):
        (tmp_path / "bad.zip").write_bytes(content)
        with pytest.raises(UserError, match="data.folder=.*bad.zip: neither a folder nor a sound zip"):
            load(tmp_path / "bad.zip")


def test_a_picture_that_unpacks_without_end_is_left_out(
    tmp_path: Path,
    load: Callable[..., tuple[np.ndarray, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pictures, "LARGEST_FILE", 10**6)
    source = zipped(tmp_path / "some.zip", {"bomb.bmp": bytes(10**8), "good.png": encoded(picture())})
    tracemalloc.start()
    assert len(load(source)[0]) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "bomb.bmp: more than 1 MB" in capsys.readouterr().err
    assert peak < 10**7


@settings(max_examples=60)
@given(st.data())
def test_fuzz_a_damaged_zip_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = zipped(tmp_path / "fuzz.zip", WHOLE)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(-250, -1) | st.integers(-len(content), -1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        pixels, labels = load_pictures(path, size=8, channels=3, cache=tmp_path / "cache")
    except UserError as error:
        assert "fuzz.zip" in str(error)
    else:
        assert 1 <= len(pixels) == len(labels) <= 4 and pixels.shape[1:] == (8, 8, 3)


def test_nothing_is_written_where_an_archive_says(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    names = ["../../evil.png", "/evil.png", "c:\\evil.png", "a/../../../evil.png"]
    (tmp_path / "in").mkdir()
    source = zipped(tmp_path / "in" / "x.zip", dict.fromkeys(names, encoded(picture())))
    assert len(load(source)[0]) == 4
    assert not list(tmp_path.rglob("*evil*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "in"]


# The cache


@pytest.mark.parametrize("place", PLACES)
def test_what_has_been_decoded_is_not_decoded_again(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]], decoded: list[int], place: str
) -> None:
    source = PLACES[place](tmp_path, {f"{index}.png": encoded(picture()) for index in range(6)})
    first = load(source)
    assert len(decoded) == 6
    for again in (load(source), load(source)):
        assert np.array_equal(again[0], first[0]) and isinstance(again[0], np.memmap)
        assert not again[0].flags.writeable
    assert len(decoded) == 6
    load(source, size=8)
    load(source, channels=1)
    assert len(decoded) == 18
    load(source)
    load(source, size=8)
    assert len(decoded) == 18  # Each has a file of its own.
    assert not list((tmp_path / "cache").glob(".*"))


@pytest.mark.parametrize("change", ["content", "time", "name", "more", "fewer"])
def test_a_changed_folder_is_decoded_again(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]], decoded: list[int], change: str
) -> None:
    source = fill(tmp_path / "some", {f"{index}.png": encoded(picture()) for index in range(3)})
    before = np.array(load(source)[0])
    del decoded[:]
    if change in ("content", "more"):
        fill(source, {"1.png" if change == "content" else "9.png": encoded(picture(30, 30))})
    elif change == "time":
        os.utime(source / "1.png", ns=(0, 10**18))
    elif change == "name":
        (source / "0.png").rename(source / "8.png")
    else:
        (source / "1.png").unlink()
    pixels, _ = load(source)
    files = sorted(source.iterdir())
    assert len(decoded) == len(files) == len(pixels)
    for got, path in zip(pixels, files, strict=True):
        assert np.array_equal(got, imaging.read_image(path, size=(16, 16), channels=3))
    assert np.array_equal(before, pixels) == (change == "time")


def test_a_changed_zip_is_decoded_again(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]], decoded: list[int]
) -> None:
    members = {f"{index}.png": encoded(picture()) for index in range(3)}
    source = zipped(tmp_path / "some.zip", members)
    load(source)
    zipped(source, members | {"1.png": encoded(picture(mode="L"))})
    pixels, _ = load(source)
    assert len(decoded) == 6
    assert np.ptp(pixels[1], axis=-1).max() == 0 < np.ptp(pixels[0], axis=-1).max()


@pytest.mark.parametrize("damage", ["bit", "short", "gone", "index", "index gone", "index old", "count"])
def test_a_damaged_cache_is_made_again(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]], decoded: list[int], damage: str
) -> None:
    source = fill(tmp_path / "some", {f"{index}.png": encoded(picture()) for index in range(3)})
    before = np.array(load(source)[0])
    (kept,), (index,) = (tmp_path / "cache").glob("*.bin"), (tmp_path / "cache").glob("*.json")
    content = bytearray(kept.read_bytes())
    if damage == "bit":
        content[1000] ^= 4
        kept.write_bytes(content)
    elif damage == "short":
        kept.write_bytes(content[:-1])
    elif damage == "gone":
        kept.unlink()
    elif damage == "index":
        index.write_text(index.read_text()[:-9])
    elif damage == "index gone":
        index.unlink()
    elif damage == "index old":
        index.write_text("{}")
    else:
        index.write_text(index.read_text().replace('"count": 3', '"count": -1'))
    assert np.array_equal(load(source)[0], before) and len(decoded) == 6


def test_equal_names_in_other_places_do_not_share_a_file(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]], decoded: list[int]
) -> None:
    sources = [fill(tmp_path / place / "faces", {"1.png": encoded(picture())}) for place in ("a", "b")]
    for _ in range(2):
        one, other = (load(source)[0] for source in sources)
        assert not np.array_equal(one, other)
    assert len(decoded) == 2


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    source = fill(tmp_path / "some", {"1.png": encoded(picture())})
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken.*a file stands where a folder is needed"):
        load_pictures(source, size=8, channels=3, cache=tmp_path / "taken")


def test_memory_stays_bounded(tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    content = [encoded(picture(32, 32), "jpg") for _ in range(10)]
    source = zipped(tmp_path / "some.zip", {f"{index:05}.jpg": content[index % 10] for index in range(2000)})
    tracemalloc.start()
    pixels, _ = load(source, size=64)  # 25 MB of pixels.
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pixels.nbytes == 2000 * 64 * 64 * 3
    assert np.array_equal(pixels[:10], pixels[1990:])
    assert peak < 12e6  # The list of names, and some hundred pictures.


# Labels and names


def test_labels_number_the_subfolders() -> None:
    assert label(["a.png", "b.png"]).tolist() == [0, 0]
    assert label(["faces/a.png", "faces/b.png"]).tolist() == [0, 0]
    names = ["x/tulip/1.png", "x/rose/1.png", "x/rose/old/2.png", "x/lily/3.png"]
    assert label(names).tolist() == [2, 1, 1, 0]
    assert label(["1.png", "rose/1.png", "tulip/1.png"]).tolist() == [0, 1, 2]
    assert label(["rose/1.png"]).dtype == np.uint8


def test_more_subfolders_than_labels_count_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{index:03}/x.png" for index in range(257)]
    assert label(names[:256]).tolist() == list(range(256))
    assert not capsys.readouterr().err
    assert label(names).tolist() == [0] * 257
    assert "257 subfolders are too many" in capsys.readouterr().err


def test_labels_follow_their_pictures_past_broken_ones(
    tmp_path: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    members = {f"set/{name}/{index}.png": encoded(picture()) for name in ("a", "b", "c") for index in range(2)}
    members["set/a/0.png"] = members["set/b/1.png"] = b""
    for place in PLACES.values():
        assert load(place(tmp_path, members))[1].tolist() == [0, 1, 2, 2]
    assert isinstance(Images(*load(tmp_path / "some.zip")), Images)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", True),
        ("A/B.JPEG", True),
        ("../a.webp", True),
        ("a.txt", False),
        ("png", False),
        (".a.png", False),
        ("__MACOSX/a.png", False),
        ("x/.git/a.png", False),
    ],
)
def test_pictures_are_told_by_their_names(name: str, expected: bool) -> None:
    assert is_picture(name) == expected


# The anime faces


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a server on this machine offers the files of tmp_path/web."""
    monkeypatch.setattr(prepare, "PAUSE", 0.0)
    (tmp_path / "web").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


FACES = {f"faces/{index}.jpg": encoded(picture(96, 96), "jpg") for index in range(4)}


def test_the_faces_are_downloaded_when_training_needs_them(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zipped(tmp_path / "web" / "faces.zip", FACES)
    monkeypatch.setattr(faces, "URL", f"{url}/faces.zip")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        images = load_images(config.Data(dataset="images"))
        assert images.shape == (3, 64, 64) and images.labels.tolist() == [0] * 4
    out = capsys.readouterr().out
    assert out.count("downloading") == 1
    assert "MNIST_Data/faces.zip: written, a whole zip of 4 pictures (no checksum of it is published" in out
    assert (tmp_path / "MNIST_Data" / "faces.zip").read_bytes() == (tmp_path / "web" / "faces.zip").read_bytes()


def test_the_faces_are_taken_from_a_zip_or_url_and_not_twice(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = zipped(tmp_path / "web" / "x.zip", FACES)
    for source in (str(here), here.as_uri(), f"{url}/x.zip"):
        path = tmp_path / "out" / "faces.zip"
        faces.prepare_faces(path, source=source)
        assert path.read_bytes() == here.read_bytes()
        assert "written, a whole zip of 4" in capsys.readouterr().out
        before = path.stat().st_mtime_ns
        faces.prepare_faces(path, source=source)
        assert "already there, a whole zip of 4" in capsys.readouterr().out
        assert path.stat().st_mtime_ns == before
        path.write_bytes(path.read_bytes()[:-5])  # Damaged: replaced.
        faces.prepare_faces(path, source=source)
        assert path.read_bytes() == here.read_bytes()
        path.unlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text", "it is not a sound zip"),
        ("cut", "it is not a sound zip"),
        ("flipped", "faces/1.jpg in it is damaged"),
        ("locked", "it is not a sound zip"),
        ("other", "it holds no pictures"),
        ("large", "it unpacks to more than"),
        ("bzip2", "it is packed in an unusual way"),
    ],
)
def test_what_is_no_whole_zip_of_pictures_is_refused_and_nothing_left(
    tmp_path: Path, content: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zipped(tmp_path / "in.zip", {"README": b"x"} if content == "other" else FACES)
    whole = bytearray(source.read_bytes())
    if content == "large":
        monkeypatch.setattr(faces, "LARGEST_CONTENTS", 100)
    elif content == "bzip2":
        with zipfile.ZipFile(source, "w", zipfile.ZIP_BZIP2) as archive:
            archive.writestr("1.jpg", FACES["faces/1.jpg"])
    elif content != "other":
        if content == "flipped":
            whole[whole.index(b"faces/1.jpg") + 200] ^= 1
        elif content == "locked":
            whole[whole.rindex(b"faces/1.jpg") - 46 + 8] |= 1
        source.write_bytes({"text": b"<html>please log in", "cut": whole[:-40]}.get(content, whole))
    with pytest.raises(UserError, match=f"--source .*in.zip: {message}") as caught:
        faces.prepare_faces(tmp_path / "out" / "faces.zip", source=str(source))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_faces_that_cannot_be_had_are_refused_with_the_ways_out(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "faces.zip"
    for source, message in (
        (f"{url}/nothing.zip", "the server has no such file"),
        ("http://127.0.0.1:9/faces.zip", ".*cannot be reached"),
        ("ftp://host/faces.zip", "ftp URLs are not understood"),
        (str(tmp_path / "nothing.zip"), "there is no such zip"),
        (str(tmp_path / "web"), "it is a folder.*train with data.folder="),
    ):
        with pytest.raises(UserError, match=f"--source {source}: {message}"):
            faces.prepare_faces(path, source=source)
    monkeypatch.setattr(faces, "URL", f"{url}/faces.zip")
    with pytest.raises(UserError, match="no such file; fetch it in another way.*--source ZIP.*data.folder"):
        faces.ensure_faces(path)
    zipped(tmp_path / "web" / "faces.zip", FACES)
    monkeypatch.setattr(faces, "LARGEST_ARCHIVE", 100)
    with pytest.raises(UserError, match="the server sends more than 100 bytes"):
        faces.ensure_faces(path)
    assert not path.exists()


def test_the_command_line_prepares_the_faces(
    cli_here: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = zipped(tmp_path / "x.zip", FACES)
    cli_here("prepare_data", "--dataset", "faces", "--source", source)
    assert (tmp_path / "MNIST_Data" / "faces.zip").read_bytes() == source.read_bytes()
    cli_here("prepare_data", "--dataset", "faces", "--source", source, "--out", "other.zip")
    assert (tmp_path / "other.zip").exists() and "other.zip: written" in capsys.readouterr().out
