"""Drawing and judging: walks between codes, evaluation against training mode, and the two scripts on a trained run."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from gan_mnist import config, imaging, sampling, scoring
from gan_mnist.errors import UserError
from gan_mnist.latents import fixed_latents
from gan_mnist.models import build_network, network_spec
from gan_mnist.rundir import find_checkpoint

Cli = Callable[..., CompletedProcess[str]]
CliHere = Callable[..., None]
Refused = Callable[[CompletedProcess[str]], str]


@pytest.fixture(scope="module")
def sampler(trained_run: Path) -> sampling.Sampler:
    """The trained run's generator of the last epoch."""
    return sampling.Sampler.open(trained_run / "checkpoints" / "Generator1.ckpt", device="CPU", mode="eval")


def angles(path: np.ndarray) -> np.ndarray:
    """The angle between each point and the next."""
    directions = path.astype(np.float64) / np.linalg.norm(path.astype(np.float64), axis=1, keepdims=True)
    return np.arccos(np.clip((directions[:-1] * directions[1:]).sum(axis=1), -1, 1))


def test_a_walk_passes_its_codes_exactly_and_turns_at_constant_speed() -> None:
    codes = fixed_latents(4, 100, seed=3)
    path = sampling.walk(codes, steps=7)
    assert path.shape == (22, 100) and path.dtype == np.float32
    np.testing.assert_allclose(path[::7], codes, atol=1e-6)
    assert np.array_equal(path[-1], codes[-1])
    for leg in range(3):
        turned = angles(path[7 * leg : 7 * leg + 8])
        np.testing.assert_allclose(turned, turned.mean(), rtol=1e-3)
        lengths = np.linalg.norm(path[7 * leg : 7 * leg + 8], axis=1)
        np.testing.assert_allclose(lengths, np.linspace(lengths[0], lengths[-1], 8), rtol=1e-5)


def test_a_quarter_turn_is_a_circle() -> None:
    path = sampling.walk(np.array([[2, 0], [0, 2]], np.float32), steps=2)
    np.testing.assert_allclose(path, [[2, 0], [2**0.5, 2**0.5], [0, 2]], atol=1e-6)


def test_between_parallel_codes_only_the_length_changes() -> None:
    code = fixed_latents(1, 10, seed=0)
    path = sampling.walk(np.concatenate([code, 3 * code]), steps=4)
    np.testing.assert_allclose(path, code * np.array([[1], [1.5], [2], [2.5], [3]]), rtol=1e-5)
    assert np.isfinite(sampling.walk(np.concatenate([code, code]), steps=4)).all()


def test_between_opposite_codes_the_walk_stays_finite_and_arrives() -> None:
    code = fixed_latents(1, 10, seed=0)
    path = sampling.walk(np.concatenate([code, -code]), steps=4)
    assert np.isfinite(path).all()
    np.testing.assert_allclose(path[-1], -code[0])


def test_in_evaluation_an_image_depends_on_its_own_code_alone(sampler: sampling.Sampler) -> None:
    codes = fixed_latents(12, sampler.spec.latent_size, seed=1)
    together = sampling.generate(sampler.G, codes)
    assert together.shape == (12, 28, 28) and together.dtype == np.uint8
    assert np.array_equal(sampling.generate(sampler.G, codes[5:9]), together[5:9])
    assert np.array_equal(sampling.generate(sampler.G, codes[3:4]), together[3:4])


def test_in_training_mode_it_depends_on_its_company(sampler: sampling.Sampler) -> None:
    codes = fixed_latents(12, sampler.spec.latent_size, seed=1)
    together = sampling.generate(sampler.G, codes, mode="train")
    assert not np.array_equal(sampling.generate(sampler.G, codes[:6], mode="train"), together[:6])
    assert not np.array_equal(sampling.generate(sampler.G, codes, mode="eval"), together)
    assert not sampler.G.training


def test_in_training_mode_one_code_alone_still_gives_an_image(sampler: sampling.Sampler) -> None:
    assert sampling.generate(sampler.G, fixed_latents(1, 100, seed=1), mode="train").shape == (1, 28, 28)


def test_many_codes_are_drawn_in_portions_with_the_same_result(
    sampler: sampling.Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sampler.sample(12, seed=5)
    monkeypatch.setattr(sampling, "BATCH", 5)
    assert np.array_equal(sampler.sample(12, seed=5), whole)


def test_the_first_images_do_not_depend_on_the_count(sampler: sampling.Sampler) -> None:
    many = sampler.sample(9, seed=11)
    assert np.array_equal(sampler.sample(4, seed=11), many[:4])
    assert np.array_equal(sampler.sample(9, seed=11), many)
    assert not np.array_equal(sampler.sample(9, seed=12), many)


def test_a_grid_with_the_default_seed_is_the_training_grid_of_that_epoch(
    cli: Cli, training: CompletedProcess[str], trained_run: Path, tmp_path: Path
) -> None:
    process = cli(
        "sample", "--ckpt", "Generator1.ckpt", "--grid", "5x5", "--out", tmp_path / "a.png", cwd=trained_run.parents[1]
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"wrote {tmp_path / 'a.png'}\n"
    assert process.stderr == "using result/quickstart/checkpoints/Generator1.ckpt\n"
    assert (tmp_path / "a.png").read_bytes() == (trained_run / "images" / "epoch_0001.png").read_bytes()


def test_without_out_a_grid_goes_to_the_runs_samples(sampler: sampling.Sampler, tmp_path: Path) -> None:
    inside = sampler._replace(ckpt=tmp_path / "run" / "checkpoints" / "Generator1.ckpt")
    assert inside.write_grid(2, 3, seed=7) == tmp_path / "run" / "samples" / "Generator1_seed7_2x3.png"
    outside = sampler._replace(ckpt=tmp_path / "friend.ckpt")
    written = outside.write_grid(2, 3, seed=7)
    assert written == tmp_path / "friend_seed7_2x3.png"
    images = sampler.sample(6, seed=7)
    assert np.array_equal(imageio.imread(written), imaging.grid(images, rows=2, columns=3))


def test_a_count_is_written_as_one_array(
    cli_here: CliHere, sampler: sampling.Sampler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_here("sample", "--ckpt", sampler.ckpt, "--device", "CPU", "--count", 7, "--seed", 3, "--out", "x.npy")
    assert capsys.readouterr() == ("wrote x.npy\n", "")
    array = np.load(tmp_path / "x.npy")
    assert array.shape == (7, 28, 28) and array.dtype == np.uint8 and array.std() > 5
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_pictures_in_a_folder_equal_the_array(sampler: sampling.Sampler, tmp_path: Path) -> None:
    array = np.load(sampler.write_images(7, seed=3, out=tmp_path / "x.npy"))
    folder = sampler.write_images(7, seed=3, out=tmp_path / "new" / "pictures")
    assert [path.name for path in sorted(folder.iterdir())] == [f"{index:05d}.png" for index in range(7)]
    assert np.array_equal([imageio.imread(path) for path in sorted(folder.iterdir())], array)
    assert np.array_equal(array, sampler.sample(7, seed=3))


def test_a_walk_is_a_strip_and_a_film(sampler: sampling.Sampler, tmp_path: Path) -> None:
    out = sampler.write_walk(3, steps=4, seed=3, out=tmp_path / "walk.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.gif", "walk.png"]
    codes = sampler.sample(3, seed=3)
    strip = imageio.imread(out)
    assert strip.shape == (2 * 58 + 2, 5 * 58 + 2)
    ends = [strip[2:58, 2:58], strip[2:58, -58:-2], strip[60:116, 2:58], strip[60:116, -58:-2]]
    for end, code in zip(ends, (codes[0], codes[1], codes[1], codes[2]), strict=True):
        assert np.abs(end[::2, ::2].astype(int) - code).max() <= 1
    with Image.open(tmp_path / "walk.gif") as film:
        assert film.n_frames == 9


@pytest.mark.parametrize("out", ["x.jpg", "x.gif", "x"])
def test_a_grid_is_written_as_png_only(sampler: sampling.Sampler, tmp_path: Path, out: str) -> None:
    with pytest.raises(UserError, match=f"--out .*{out}: a picture's name must end in .png"):
        sampler.write_grid(1, 1, seed=0, out=tmp_path / out)
    with pytest.raises(UserError, match=f"--out .*{out}"):
        sampler.write_walk(2, steps=2, seed=0, out=tmp_path / out)
    assert not list(tmp_path.iterdir())


def test_other_impossible_outputs_are_refused(sampler: sampling.Sampler, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--interpolate needs at least 2"):
        sampler.write_walk(1, steps=2, seed=0, out=tmp_path / "x.png")
    with pytest.raises(UserError, match="--count writes a .npy array or a folder"):
        sampler.write_images(2, seed=0, out=tmp_path / "x.png")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        sampler.write_images(2, seed=0, out=tmp_path / "taken")


def test_bad_checkpoints_are_refused(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Discriminator1.ckpt: holds a discriminator, but a generator is needed"):
        sampling.Sampler.open(trained_run / "checkpoints" / "Discriminator1.ckpt", device="CPU", mode="eval")
    cut = tmp_path / "Generator1.ckpt"
    cut.write_bytes((trained_run / "checkpoints" / "Generator1.ckpt").read_bytes()[:100_000])
    with pytest.raises(UserError, match="Generator1.ckpt: "):
        sampling.Sampler.open(cut, device="CPU", mode="eval")
    with pytest.raises(UserError, match="TrainState.ckpt: "):
        sampling.Sampler.open(trained_run / "checkpoints" / "TrainState.ckpt", device="CPU", mode="eval")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "5x5"], "--ckpt"),
        (["--ckpt", "x.ckpt", "--grid", "5"], "'5' is not rows x columns, such as 5x5"),
        (["--ckpt", "x.ckpt", "--grid", "0x5"], "--grid"),
        (["--ckpt", "x.ckpt", "--count", "0"], "--count: '0' is not a positive whole number"),
        (["--ckpt", "x.ckpt", "--count", "2", "--grid", "2x2"], "--grid"),
        (["--ckpt", "x.ckpt", "--seed", "-1"], "--seed"),
        (["--ckpt", "x.ckpt", "--mode", "both"], "--mode"),
        (["--ckpt", "x.ckpt", "--sed", "1"], "--sed"),
        (["--ckpt", "nowhere.ckpt"], "--ckpt nowhere.ckpt: no such file"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(cli_here: CliHere, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        cli_here("sample", *arguments)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_command_line_refuses_in_one_line(cli: Cli, refused: Refused, tmp_path: Path, trained_run: Path) -> None:
    cut = tmp_path / "Generator1.ckpt"
    cut.write_bytes((trained_run / "checkpoints" / "Generator1.ckpt").read_bytes()[:-1000])
    assert "Generator1.ckpt: truncated, corrupt" in refused(cli("sample", "--ckpt", cut, cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["Generator1.ckpt"]
    assert "such as 5x5" in refused(cli("sample", "--ckpt", cut, "--grid", "5", cwd=tmp_path))  # Before MindSpore.


def test_training_mode_and_walks_are_drawn_from_the_command_line_too(
    cli_here: CliHere, sampler: sampling.Sampler, tmp_path: Path
) -> None:
    cli_here("sample", "--ckpt", sampler.ckpt, "--device", "CPU", "--mode", "train", "--count", 30, "--out", "x.npy")
    expected = sampling.generate(sampler.G, fixed_latents(30, 100, seed=2323), mode="train")
    assert np.array_equal(np.load(tmp_path / "x.npy"), expected)
    cli_here("sample", "--ckpt", sampler.ckpt, "--device", "CPU", "--interpolate", 3, "--steps", 2, "--out", "x.png")
    assert imageio.imread(tmp_path / "x.png").shape == (2 * 58 + 2, 3 * 58 + 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.gif", "x.npy", "x.png"]


def test_scores_are_probabilities_and_do_not_depend_on_the_format(
    cli: Cli, trained_run: Path, digits: Path, tmp_path: Path
) -> None:
    real = np.fromfile(digits / "train" / "train-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 28, 28)[:3]
    np.save(tmp_path / "real.npy", real)
    np.save(tmp_path / "scaled.npy", (real / 127.5 - 1).astype(np.float32)[:, None])
    imageio.imwrite(tmp_path / "grey.png", real[0])
    imageio.imwrite(tmp_path / "colour.png", np.stack([real[1]] * 3, axis=-1))
    Image.fromarray(real[2]).resize((140, 91)).save(tmp_path / "large.jpg")
    Image.fromarray(255 - real[0]).save(tmp_path / "paper.bmp")
    names = ["real.npy", "scaled.npy", "grey.png", "colour.png", "large.jpg"]

    process = cli("score", "--ckpt", "Discriminator1.ckpt", *(tmp_path / n for n in names), cwd=trained_run.parents[1])
    assert process.returncode == 0 and process.stderr == "using result/quickstart/checkpoints/Discriminator1.ckpt\n"
    lines = [line.split("  ") for line in process.stdout.splitlines()]
    listed = [f"real.npy[{i}]" for i in range(3)] + [f"scaled.npy[{i}]" for i in range(3)] + names[2:]
    assert [name for _, name in lines] == [str(tmp_path / name) for name in listed]
    scores = {name: float(score) for (score, _), name in zip(lines, listed)}
    assert all(0 <= score <= 1 for score in scores.values())
    assert scores["real.npy[0]"] == scores["scaled.npy[0]"] == scores["grey.png"]
    assert scores["real.npy[1]"] == scores["scaled.npy[1]"] == scores["colour.png"]

    scored = scoring.score_files(
        trained_run / "checkpoints" / "Discriminator1.ckpt", [tmp_path / "paper.bmp"], device="CPU", invert=True
    )
    assert scored[0][1] == pytest.approx(scores["grey.png"], abs=1e-4)


def test_scores_equal_the_discriminators_probabilities() -> None:
    D = build_network(network_spec(config.Model(), "discriminator", (1, 28, 28)))
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    weights = [parameter.asnumpy().astype(np.float64) for parameter in D.get_parameters()]
    h = images.reshape(5, 784) / 127.5 - 1
    for index in range(0, 6, 2):
        h = h @ weights[index].T + weights[index + 1]
        h = h if index == 4 else np.where(h > 0, h, 0.2 * h)
    np.testing.assert_allclose(scoring.score(D, images), 1 / (1 + np.exp(-h[:, 0])), atol=1e-5)


def test_bad_pictures_are_refused_on_the_command_line(cli_here: CliHere, trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="bad.png: cannot be read as a picture"):
        cli_here("score", "--ckpt", trained_run / "checkpoints" / "Discriminator1.ckpt", "bad.png", "--device", "CPU")
    with pytest.raises(UserError, match="IMAGE"):
        cli_here("score", "--ckpt", "Discriminator1.ckpt")


class Payload:
    """Would run code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code was run')",)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 28, 27), np.uint8), r"its shape is \(2, 28, 27\)"),
        (np.zeros((0, 28, 28), np.uint8), "its shape"),
        (np.zeros((2, 3, 28, 28), np.uint8), "its shape"),
        (np.zeros(784, np.uint8), "its shape"),
        (np.zeros((2, 28, 28), np.int64), "its values are int64"),
        (np.full((2, 28, 28), 255.0), "its values"),
        (np.full((2, 28, 28), np.nan), "its values"),
        (np.zeros((2, 28, 28), bool), "its values are bool"),
        (np.zeros((2, 28, 28), "datetime64[s]"), "its values"),
        (np.zeros((2, 28, 28), [("x", "u1")]), "its values"),
        (np.array([Payload()], object), "cannot be read as a NumPy array"),
    ],
)
def test_an_array_of_other_things_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UserError, match=f"x.npy: .*{message}"):
        scoring.read_images(tmp_path / "x.npy", shape=(1, 28, 28))


def test_arrays_of_images_are_read_in_every_form(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    images[0, 0, 0] = 0
    forms = {
        "plain": images,
        "channel": images[:, None],
        "signed": (images / 127.5 - 1).astype(np.float32),
        "unsigned": images / 255,
        "fortran": np.asfortranarray(images),
        "big_endian": (images / 255).astype(">f8"),
    }
    for name, array in forms.items():
        np.save(tmp_path / f"{name}.npy", array)
        got = scoring.read_images(tmp_path / f"{name}.npy", shape=(1, 28, 28))
        assert got.dtype == np.uint8 and np.array_equal(got, images), name
    np.save(tmp_path / "one.npy", images[1])
    assert np.array_equal(scoring.read_images(tmp_path / "one.npy", shape=(1, 28, 28)), images[1:2])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{",
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 28, 28)}",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 28, 28)}".ljust(128),
        b"\x93NUMPY\x01\x00\x40\x00{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 28, 28)}  ",
        b"text",
        "npz",
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "x.npy"
    if isinstance(content, str):
        with open(path, "wb") as file:
            np.savez(file, a=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="x.npy"):
        scoring.read_images(path, shape=(1, 28, 28))


def test_a_generator_cannot_judge(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Generator1.ckpt: holds a generator, but a discriminator is needed"):
        scoring.score_files(trained_run / "checkpoints" / "Generator1.ckpt", [], device="CPU", invert=False)
    with pytest.raises(UserError, match="no such file"):
        find_checkpoint("Discriminator1.ckpt", result_dir=tmp_path)
