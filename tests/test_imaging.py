"""Pictures: the layout of grids, rounding, captions, films, and reading whatever picture a student brings."""

import io
import subprocess
import sys
from pathlib import Path

import hypothesis
import imageio.v3 as imageio
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from gan_mnist import imaging
from gan_mnist.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
GREY = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)


@pytest.mark.parametrize(
    "module", ["gan_mnist", "gan_mnist.report, gan_mnist.imaging, gan_mnist.config, gan_mnist.rundir, gan_mnist.data"]
)
def test_importing_it_does_not_import_mindspore(module: str) -> None:
    code = f"import sys, {module}; sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_to_uint8_covers_the_range_rounds_and_clips() -> None:
    values = np.array(
        [-1, 1, 0, -2, 2, np.inf, -np.inf, -1 + 1 / 127.5, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5], np.float32
    )
    assert imaging.to_uint8(values).tolist() == [0, 255, 128, 0, 255, 255, 0, 1, 0, 1]


def test_every_grey_survives_training_range_and_back() -> None:
    greys = np.arange(256, dtype=np.uint8)
    x = (greys.astype(np.float32) - 127.5) / 127.5
    assert np.array_equal(imaging.to_uint8(x), greys)
    assert imaging.to_uint8(x.reshape(2, 8, 16)).shape == (2, 8, 16)


def test_grid_pixel_by_pixel() -> None:
    a, b, c = np.array([[1, 2]], np.uint8), np.array([[3, 4]], np.uint8), np.array([[5, 6]], np.uint8)
    sheet = imaging.grid(np.stack([a, b, c]), rows=2, columns=2, scale=2, gap=1)
    w = 255
    assert sheet.tolist() == [
        [w, w, w, w, w, w, w, w, w, w, w],
        [w, 1, 1, 2, 2, w, 3, 3, 4, 4, w],
        [w, 1, 1, 2, 2, w, 3, 3, 4, 4, w],
        [w, w, w, w, w, w, w, w, w, w, w],
        [w, 5, 5, 6, 6, w, 0, 0, 0, 0, w],
        [w, 5, 5, 6, 6, w, 0, 0, 0, 0, w],
        [w, w, w, w, w, w, w, w, w, w, w],
    ]
    assert sheet.dtype == np.uint8


def test_grid_without_gap_or_enlargement_is_a_plain_mosaic() -> None:
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    sheet = imaging.grid(images, rows=2, columns=3, scale=1, gap=0)
    assert np.array_equal(sheet, images.reshape(2, 3, 2, 2).transpose(0, 2, 1, 3).reshape(4, 6))


def test_grid_keeps_colours() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    sheet = imaging.grid(images, rows=1, columns=2, scale=1, gap=2)
    assert sheet.shape == (7, 14, 3)
    assert np.array_equal(sheet[2:5, 2:6], images[0]) and np.array_equal(sheet[2:5, 8:12], images[1])
    assert (sheet[:2] == 255).all()


def test_caption_adds_a_readable_strip_and_leaves_the_image() -> None:
    for image in (np.full((30, 80), 7, np.uint8), np.full((30, 80, 3), 7, np.uint8)):
        titled = imaging.caption(image, "epoch 12")
        assert titled.shape == (52, *image.shape[1:]) and titled.dtype == np.uint8
        assert np.array_equal(titled[22:], image)
        strip = titled[:22]
        assert (strip[:, -1] == 255).all() and strip.min() < 100
    assert not np.array_equal(imaging.caption(image, "epoch 1"), imaging.caption(image, "epoch 2"))


@pytest.mark.parametrize("colours", [(), (3,)])
def test_png_is_read_back_as_it_was_written(tmp_path: Path, colours: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, *colours), np.uint8)
    imaging.write_png(tmp_path / "new" / "image.png", image)
    assert np.array_equal(imageio.imread(tmp_path / "new" / "image.png"), image)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["image.png"]


def test_gif_shows_all_frames_in_order_for_ever_and_holds_the_last(tmp_path: Path) -> None:
    texture = np.random.default_rng(0).integers(0, 2, (8, 8), np.uint8)
    frames = [np.full((8, 8), shade, np.uint8) - texture * (shade > 0) for shade in (0, 80, 160, 255)]
    path = tmp_path / "film.gif"
    imaging.write_gif(path, frames, seconds_a_frame=0.1, hold=2.0)
    read = imageio.imread(path, index=None)
    assert [int(frame[0, 0].max()) for frame in read] == pytest.approx([0, 80, 160, 255], abs=3)
    durations = []
    with Image.open(path) as film:
        assert film.n_frames == 4 and film.info["loop"] == 0
        for index in range(film.n_frames):
            film.seek(index)
            durations.append(film.info["duration"])
    assert durations == [100, 100, 100, 2000]


def test_a_film_of_one_frame_is_a_film(tmp_path: Path) -> None:
    imaging.write_gif(tmp_path / "film.gif", [GREY])
    assert imageio.imread(tmp_path / "film.gif", index=None).shape[:3] == (1, 9, 7)


def test_nothing_is_left_when_a_film_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        imaging.write_gif(tmp_path / "film.gif", [GREY, GREY[:5]])
    assert list(tmp_path.iterdir()) == []


def save(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "webp"])
def test_grey_pictures_are_read_exactly(tmp_path: Path, suffix: str) -> None:
    path = save(
        Image.fromarray(GREY), tmp_path / f"picture.{suffix}", **({"lossless": True} if suffix == "webp" else {})
    )
    got = imaging.read_image(path)
    assert got.shape == (9, 7) and got.dtype == np.uint8
    assert np.array_equal(got, GREY)


def test_a_jpeg_is_read_nearly(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8)
    path = save(Image.fromarray(smooth), tmp_path / "picture.jpg", quality=95)
    assert np.abs(imaging.read_image(path).astype(int) - smooth).max() <= 4


def test_colour_becomes_grey_by_brightness(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 3), (255, 0, 0))
    for mode in ("RGB", "P", "CMYK", "YCbCr"):
        path = save(picture.convert(mode), tmp_path / f"{mode}.{'jpg' if mode in ('CMYK', 'YCbCr') else 'png'}")
        assert np.abs(imaging.read_image(path).astype(int) - 76).max() <= 3, mode


def test_black_and_white_is_read_as_0_and_255(tmp_path: Path) -> None:
    path = save(Image.fromarray(GREY > 128), tmp_path / "bits.png")
    assert np.array_equal(imaging.read_image(path), np.where(GREY > 128, 255, 0))


def test_transparent_parts_are_white_paper(tmp_path: Path) -> None:
    ink = np.zeros((4, 4, 4), np.uint8)
    ink[1:3, 1:3, 3] = 255
    ink[0, 0] = [0, 0, 0, 128]
    expected = np.full((4, 4), 255)
    expected[1:3, 1:3] = 0
    expected[0, 0] = 127
    got = imaging.read_image(save(Image.fromarray(ink, "RGBA"), tmp_path / "ink.png"))
    assert np.abs(got.astype(int) - expected).max() <= 1
    palette = Image.fromarray(np.uint8([[0, 1], [1, 0]]), "P")
    palette.putpalette([0, 0, 0, 200, 0, 0])
    got = imaging.read_image(save(palette, tmp_path / "palette.png", transparency=1))
    assert got.tolist() == [[0, 255], [255, 0]]
    grey_alpha = Image.fromarray(np.uint8([[[0, 0], [0, 255]]]), "LA")
    assert imaging.read_image(save(grey_alpha, tmp_path / "la.png")).tolist() == [[255, 0]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_16_bit_picture_keeps_its_greys(tmp_path: Path, suffix: str) -> None:
    deep = GREY.astype(np.uint16) * 257
    imageio.imwrite(tmp_path / f"deep.{suffix}", deep)
    assert np.abs(imaging.read_image(tmp_path / f"deep.{suffix}").astype(int) - GREY).max() <= 1


def test_a_picture_is_resized_to_height_and_width(tmp_path: Path) -> None:
    left_dark = np.zeros((40, 60), np.uint8)
    left_dark[:, 30:] = 255
    got = imaging.read_image(save(Image.fromarray(left_dark), tmp_path / "large.png"), size=(28, 14))
    assert got.shape == (28, 14)
    assert (got[:, :5] < 10).all() and (got[:, -5:] > 245).all()
    same = imaging.read_image(save(Image.fromarray(GREY), tmp_path / "same.png"), size=(9, 7))
    assert np.array_equal(same, GREY)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM" + bytes(60)])
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(UserError, match="broken.png: cannot be read as a picture"):
        imaging.read_image(tmp_path / "broken.png")


def test_a_missing_picture_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere.png: no such picture"):
        imaging.read_image(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match="cannot be read as a picture"):
        imaging.read_image(tmp_path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif"])
def test_a_truncated_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    path = save(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)), tmp_path / f"cut.{suffix}"
    )
    whole = path.read_bytes()
    for length in (1, 8, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut"):
            imaging.read_image(path)


def test_a_picture_too_large_to_be_meant_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match="bomb.png: .*10000 x 10000"):
        imaging.read_image(tmp_path / "bomb.png", size=(28, 28))


def encoded(suffix: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    return stream.getvalue()


ENCODED = {suffix: encoded(suffix) for suffix in ("png", "jpg", "gif", "bmp", "tif", "ppm", "webp")}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@hypothesis.settings(max_examples=200, deadline=10_000)
@hypothesis.given(
    st.sampled_from(sorted(ENCODED)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_fuzz_a_damaged_picture_is_read_or_refused(
    tmp_path: Path, suffix: str, changes: list[tuple[float, int]]
) -> None:
    content = bytearray(ENCODED[suffix])
    for place, value in changes:
        content[int(place * len(content))] = value
    (tmp_path / "fuzz").write_bytes(content)
    try:
        image = imaging.read_image(tmp_path / "fuzz", size=(28, 28))
    except UserError as error:
        assert "fuzz" in str(error)
    else:
        assert image.shape == (28, 28) and image.dtype == np.uint8
