"""The explorer's answers, without a web page, on a trained run and on small networks of the other kinds."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_mnist import checkpoint, config, rundir, sampling, scoring
from gan_mnist.errors import UserError
from gan_mnist.explorer import BATCH, DIRECTIONS, STEPS, Explorer
from gan_mnist.models import build_network, network_spec

CONDITIONAL = config.Model(
    name="biggan",
    latent_size=6,
    generator={"classes": 3, "channels": [4, 4], "embedding": 4},
    discriminator={"classes": 3, "channels": [4, 4]},
)


def make_run(folder: Path, model: config.Model, image_shape: tuple[int, int, int], epochs: int = 1) -> Path:
    """A run directory of networks with random weights."""
    for epoch in range(epochs):
        for role in ("generator", "discriminator"):
            spec = network_spec(model, role, image_shape)
            path = folder / "checkpoints" / f"{role.capitalize()}{epoch}.ckpt"
            checkpoint.save_network(path, build_network(spec), spec, epoch=epoch)
    return folder


@pytest.fixture(scope="module")
def explorer(trained_run: Path) -> Explorer:
    return Explorer(trained_run, device="CPU")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    return Explorer(make_run(tmp_path_factory.mktemp("conditional"), CONDITIONAL, (3, 8, 8)), device="CPU")


def fresh(explorer: Explorer, epoch: int) -> sampling.Sampler:
    """The generator of an epoch, loaded anew."""
    return sampling.Sampler.open(rundir.generators(explorer.run_dir)[epoch], device="CPU", mode="eval")


def test_it_draws_what_sample_draws_back_and_forth_through_the_epochs(explorer: Explorer) -> None:
    assert explorer.epochs == [0, 1]
    codes = explorer.codes(BATCH + 3, seed=5)
    pictures = {epoch: fresh(explorer, epoch).sample(BATCH + 3, seed=5) for epoch in (0, 1)}
    assert not np.array_equal(pictures[0], pictures[1])
    for epoch in (1, 0, 1, 0):
        np.testing.assert_array_equal(explorer.draw(codes, epoch=epoch), pictures[epoch])
        np.testing.assert_array_equal(explorer.draw(codes[:1], epoch=epoch), pictures[epoch][:1])


def test_threads_do_not_mix_their_epochs(explorer: Explorer) -> None:
    codes = explorer.codes(3, seed=6)
    pictures = [explorer.draw(codes, epoch=epoch) for epoch in (0, 1)]
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda number: explorer.draw(codes, epoch=number % 2), range(24)))
    for number, images in enumerate(drawn):
        np.testing.assert_array_equal(images, pictures[number % 2])


def test_training_mode_is_that_of_sample_and_leaves_the_other_as_it_was(explorer: Explorer) -> None:
    codes = explorer.codes(BATCH, seed=1)
    before = explorer.draw(codes, epoch=0)
    for epoch in (0, 1, 0):
        G = fresh(explorer, epoch).G
        together = explorer.draw_together(codes, epoch=epoch)
        np.testing.assert_array_equal(together, sampling.generate(G, codes, mode="train"))
    others = np.concatenate([codes[:1], explorer.codes(BATCH - 1, seed=2)])
    assert not np.array_equal(explorer.draw_together(others, epoch=0)[0], together[0])
    np.testing.assert_array_equal(explorer.draw(codes, epoch=0), before)
    with pytest.raises(ValueError, match="15 codes are not 16"):
        explorer.draw_together(codes[:-1], epoch=0)


def test_the_directions_move_the_picture_more_than_random_ones(explorer: Explorer) -> None:
    directions = explorer.directions
    np.testing.assert_allclose(directions @ directions.T, np.eye(DIRECTIONS), atol=1e-5)
    codes = explorer.codes(40, seed=9)

    def change(direction: np.ndarray) -> float:
        """How far the mean picture moves."""
        ends = [explorer.draw(codes + step * direction, epoch=1).mean(axis=0) for step in (-1, 1)]
        return float(np.linalg.norm(ends[1] - ends[0]))

    random = np.linalg.qr(np.random.default_rng(0).normal(size=(100, DIRECTIONS)))[0].T.astype(np.float32)
    strengths = [change(direction) for direction in directions]
    assert min(strengths) > max(change(direction) for direction in random)
    assert strengths[0] == max(strengths)


def test_a_slider_moves_its_own_coordinate_and_nothing_else(explorer: Explorer) -> None:
    code = explorer.codes(1, seed=3)[0]
    assert np.allclose(explorer.moved(code, explorer.coordinates(code)), code, atol=1e-6)
    wanted = explorer.coordinates(code)
    wanted[2] = 3.5
    moved = explorer.moved(code, wanted)
    np.testing.assert_allclose(explorer.coordinates(moved), wanted, atol=1e-5)
    across = np.eye(len(code)) - explorer.directions.T @ explorer.directions
    np.testing.assert_allclose(across @ moved, across @ code, atol=1e-5)


def test_between_two_codes_and_beyond_three(explorer: Explorer) -> None:
    a, b, c = explorer.codes(3, seed=4)
    path = explorer.between(a, b)
    assert len(path) == STEPS + 1
    np.testing.assert_allclose(path[[0, -1]], [a, b], atol=1e-6)
    lengths = np.linalg.norm(path, axis=1)
    assert lengths.min() >= min(lengths[0], lengths[-1]) - 1e-4  # A straight line would dip to about 0.7 of them.
    result = explorer.analogy(a, b, c)
    total = a - b + c
    assert np.linalg.norm(result) == pytest.approx(np.linalg.norm([a, b, c], axis=1).mean(), rel=1e-5)
    assert result @ total == pytest.approx(np.linalg.norm(result) * np.linalg.norm(total), rel=1e-5)
    twice = np.linalg.norm([a, b, b], axis=1).mean() / np.linalg.norm(a)
    np.testing.assert_allclose(explorer.analogy(a, b, b), a * twice, rtol=1e-4, atol=1e-5)
    assert np.isfinite(explorer.analogy(a, 2 * a, a)).all()


def test_d_says_what_score_says(explorer: Explorer, trained_run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "paper.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 60), np.uint8)).save(picture)
    for epoch in (1, 0):
        D = trained_run / "checkpoints" / f"Discriminator{epoch}.ckpt"
        expected = scoring.score_files(D, [picture], device="CPU", invert=True)[0][1]
        assert explorer.score(explorer.read(picture, invert=True), epoch=epoch) == (pytest.approx(expected), None)


def test_epochs_appear_while_it_runs_and_others_are_refused(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    saved = (trained_run / "checkpoints" / "Generator0.ckpt").read_bytes()
    for epoch in (0, 2, 3):
        (tmp_path / "checkpoints" / f"Generator{epoch}.ckpt").write_bytes(saved)
    explorer = Explorer(tmp_path, device="CPU")
    codes = explorer.codes(1)
    with pytest.raises(UserError, match=r"epoch 7 was not saved in .*; there are 0, 2-3$"):
        explorer.draw(codes, epoch=7)
    (tmp_path / "checkpoints" / "Generator7.ckpt").write_bytes(saved[:1000])
    assert explorer.epochs == [0, 2, 3, 7]
    with pytest.raises(UserError, match=r"Generator7.ckpt: truncated"):
        explorer.draw(codes, epoch=7)
    with pytest.raises(UserError, match=r"Discriminator3.ckpt: no such checkpoint"):
        explorer.score(explorer.draw(codes, epoch=3)[0], epoch=3)


def test_of_a_conditional_one_the_class_is_chosen(conditional: Explorer) -> None:
    codes = conditional.codes(5, seed=1, truncation=0.5)
    assert np.abs(codes).max() <= 0.5
    drawn = {label: conditional.draw(codes, epoch=0, label=label) for label in (None, 0, 2)}
    assert drawn[0].shape == (5, 8, 8, 3)
    G = fresh(conditional, 0).G
    for label, images in drawn.items():
        labels = np.arange(5) % 3 if label is None else np.full(5, label)
        np.testing.assert_array_equal(images, sampling.generate(G, codes, labels.astype(np.int32)))
    assert not np.array_equal(drawn[0], drawn[2])
    with pytest.raises(UserError, match="class 3: the generator knows the classes 0 to 2"):
        conditional.draw(codes, epoch=0, label=3)


def test_a_conditional_d_names_the_class_that_it_finds_likeliest(conditional: Explorer, tmp_path: Path) -> None:
    image = conditional.draw(conditional.codes(1), epoch=0)[0]
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    probability, label = conditional.score(image, epoch=0)
    D = conditional.run_dir / "checkpoints" / "Discriminator0.ckpt"
    by_class = [scoring.score_files(D, [path], device="CPU", invert=False, label=y)[0][1] for y in range(3)]
    assert label == int(np.argmax(by_class)) and probability == pytest.approx(max(by_class), abs=1e-6)
    for y in range(3):
        assert conditional.score(image, epoch=0, label=y) == (pytest.approx(by_class[y], abs=1e-6), y)


def test_uniform_codes_stay_in_their_cube(tmp_path: Path) -> None:
    model = config.Model(latent_size=4, latent="uniform01", generator={"hidden": [8]}, discriminator={"hidden": [8]})
    explorer = Explorer(make_run(tmp_path, model, (1, 6, 6)), device="CPU")
    assert explorer.span == (0, 1)
    assert sorted(map(tuple, explorer.directions)) == sorted(map(tuple, np.eye(4)))
    a, b, c = explorer.codes(3)
    result = explorer.analogy(a, b, c)
    np.testing.assert_allclose(result, np.clip(a - b + c, 0, 1), atol=1e-6)


def test_points_and_packs_are_refused(tmp_path: Path) -> None:
    toy = make_run(tmp_path / "toy", config.Model(name="toy", latent_size=2), (2, 1, 1))
    with pytest.raises(UserError, match="draws points, not pictures"):
        Explorer(toy, device="CPU")
    packed = config.Model(latent_size=4, pack=2, generator={"hidden": [8]}, discriminator={"hidden": [8]})
    explorer = Explorer(make_run(tmp_path / "packed", packed, (1, 6, 6)), device="CPU")
    with pytest.raises(UserError, match="judges packs of 2 images"):
        explorer.score(explorer.draw(explorer.codes(1), epoch=0)[0], epoch=0)
    with pytest.raises(UserError, match="holds no checkpoints/Generator<E>.ckpt"):
        Explorer(tmp_path, device="CPU")
