"""Checkpoints: what was saved is loaded bit for bit, anything else is refused and changes nothing."""

import os
import stat
from pathlib import Path

import hypothesis
import mindspore as ms
import numpy as np
import pytest
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]
from hypothesis import strategies as st
from mindspore import nn

from gan_mnist import checkpoint, config, imaging, sampling
from gan_mnist.errors import NonFiniteError, UserError
from gan_mnist.models import NetworkSpec, build_network, network_spec
from gan_mnist.rundir import find_checkpoint

SHAPE = (1, 28, 28)
SMALL = {"hidden": [6, 8]}


def spec_of(role: str, **options: object) -> NetworkSpec:
    return network_spec(config.Model(**{role: options or SMALL}), role, SHAPE)  # type: ignore[arg-type]


def randomised(network: nn.Cell, seed: int = 0) -> nn.Cell:
    """Give every parameter, statistics included, values that no initialiser gives."""
    rng = np.random.default_rng(seed)
    for parameter in network.get_parameters():
        parameter.set_data(ms.Tensor(rng.uniform(0.1, 1, parameter.shape).astype(np.float32)))
    return network


def values(network: nn.Cell) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Cell]:
    """A small generator and its file."""
    spec = spec_of("generator")
    G = randomised(build_network(spec))
    path = tmp_path / "Generator3.ckpt"
    checkpoint.save_network(path, G, spec, epoch=3)
    return path, G


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a tiny generator's file."""
    spec = NetworkSpec(
        model="dense", role="generator", latent_size=2, image_shape=(1, 2, 2), options={"hidden": [4, 4]}
    )
    path = tmp_path_factory.mktemp("content") / "Generator0.ckpt"
    checkpoint.save_network(path, randomised(build_network(spec)), spec, epoch=0)
    return path.read_bytes()


def entry_ends(content: bytes) -> list[int]:
    """Where each entry of the protobuf file ends."""
    ends, position = [], 0
    while position < len(content):
        _, position = _DecodeVarint(content, position)
        length, position = _DecodeVarint(content, position)
        position += length
        ends.append(position)
    return ends


def loads(path: Path) -> bool:
    """Whether a file loads as a generator; True also stands for silently."""
    try:
        checkpoint.load_network(path, "generator")
    except UserError as error:
        assert path.name in str(error) and "\n" not in str(error)
        return False
    return True


def test_what_was_saved_is_loaded_bit_for_bit_with_its_description(saved: tuple[Path, nn.Cell]) -> None:
    path, G = saved
    loaded = checkpoint.load(path)
    assert equal(loaded.arrays, values(G))
    assert loaded.description["epoch"] == 3
    assert NetworkSpec.model_validate(loaded.description["network"]) == spec_of("generator")

    network, spec = checkpoint.load_network(path, "generator")
    assert spec == spec_of("generator") and not network.training
    assert equal(values(network), values(G))


def test_types_shapes_and_extreme_values_survive(tmp_path: Path) -> None:
    arrays = {
        "float": np.array([0.0, -0.0, 1e-45, 3.4e38, -1e-30], np.float32),
        "scalar": np.float32(3.5),
        "int": np.array([[2**31 - 1, -(2**31)]], np.int32),
        "long": np.array([2**62], np.int64),
    }
    parameters = [ms.Parameter(ms.Tensor(value), name=name) for name, value in arrays.items()]
    checkpoint.save(
        tmp_path / "x.ckpt", parameters, {"text": "数字", "list": [1, 2.5, None], "inner": {"b": 1, "a": 2}}
    )
    loaded = checkpoint.load(tmp_path / "x.ckpt")
    for name, value in arrays.items():
        assert loaded.arrays[name].dtype == value.dtype and loaded.arrays[name].tobytes() == value.tobytes(), name
    assert loaded.description == {"text": "数字", "list": [1, 2.5, None], "inner": {"b": 1, "a": 2}}


def test_saving_leaves_one_ordinary_writable_file(saved: tuple[Path, nn.Cell]) -> None:
    path, G = saved
    assert os.listdir(path.parent) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    randomised(G, seed=1)
    checkpoint.save_network(path, G, spec_of("generator"), epoch=4)
    assert equal(checkpoint.load(path).arrays, values(G))
    assert os.listdir(path.parent) == [path.name]


def test_nothing_that_is_not_finite_is_saved(saved: tuple[Path, nn.Cell]) -> None:
    path, G = saved
    before = path.read_bytes()
    for poison in (np.nan, np.inf, -np.inf):
        bias = G.trainable_params()[1]
        bias.set_data(ms.Tensor(np.array([poison, *[0] * 5], np.float32)))
        with pytest.raises(NonFiniteError, match=bias.name):
            checkpoint.save_network(path, G, spec_of("generator"), epoch=4)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_is_said_and_the_old_file_stays(
    saved: tuple[Path, nn.Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, G = saved
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=f"no space left to write .*{path.name}"):
        checkpoint.save_network(path, G, spec_of("generator"), epoch=4)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_any_mindspore_program_can_read_our_generator(saved: tuple[Path, nn.Cell]) -> None:
    path, G = saved
    entries = ms.load_checkpoint(str(path))
    network = build_network(spec_of("generator"))
    missing, unexpected = ms.load_param_into_net(network, entries)
    assert not missing and set(unexpected) <= {checkpoint.DESCRIPTION}
    assert equal(values(network), values(G))


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Generator0.ckpt"
    ends = entry_ends(content)
    boundaries = set(ends[:-1])
    lengths = set(range(0, len(content), 41)) | {end + 1 for end in boundaries} | {end - 1 for end in ends}
    for length in sorted(lengths - boundaries):
        path.write_bytes(content[:length])
        assert not loads(path), f"{length} of {len(content)} bytes were loaded"


def test_a_file_cut_between_two_entries_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Generator0.ckpt"
    loaded = []
    for end in entry_ends(content)[:-1]:
        path.write_bytes(content[:end])
        loaded += [end] if loads(path) else []
    assert not loaded


def flipped(content: bytes, place: int, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    return bytes(damaged)


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Generator0.ckpt"
    description = entry_ends(content)[0 if b"sha256" in content[: entry_ends(content)[0]] else -2]
    rng = np.random.default_rng(0)
    flips = {(int(place), int(rng.integers(8))) for place in rng.integers(0, len(content), 800)}
    flips |= {(place, bit) for place in [*range(60), *range(description, description + 30)] for bit in range(8)}
    loaded = []
    for place, bit in sorted(flips):
        path.write_bytes(flipped(content, place, bit))
        loaded += [(place, bit)] if loads(path) else []
    assert not loaded


@hypothesis.settings(max_examples=150)
@hypothesis.given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=5),
    st.floats(0, 0.2),
    st.binary(max_size=5),
)
def test_fuzz_a_mutated_file_is_refused_or_is_the_original(
    tmp_path: Path, content: bytes, changes: list[tuple[float, int]], cut: float, tail: bytes
) -> None:
    damaged = bytearray(content[: len(content) - int(cut * len(content))])
    for place, change in changes:
        damaged[int(place * len(damaged))] ^= change
    path = tmp_path / "Generator0.ckpt"
    path.write_bytes(content)
    original = checkpoint.load(path).arrays
    path.write_bytes(bytes(damaged) + tail)
    try:
        network, _ = checkpoint.load_network(path, "generator")
    except UserError as error:
        assert path.name in str(error)
    else:
        assert equal(values(network), original)


@hypothesis.settings(max_examples=100)
@hypothesis.given(st.binary(max_size=200))
def test_fuzz_random_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Generator0.ckpt"
    path.write_bytes(content)
    assert not loads(path)


@pytest.mark.parametrize("content", [b"", b"\0", b"just text\n", b"name: x\n" * 1000, b"PK\x03\x04" + bytes(100)])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Generator0.ckpt"
    path.write_bytes(content)
    assert not loads(path)


def test_other_paths_are_refused_by_name(tmp_path: Path, saved: tuple[Path, nn.Cell]) -> None:
    with pytest.raises(UserError, match="nowhere.ckpt: no such checkpoint"):
        checkpoint.load(tmp_path / "nowhere.ckpt")
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.load(tmp_path)
    renamed = saved[0].rename(tmp_path / "weights.bin")
    with pytest.raises(UserError, match=r"weights.bin: .*\.ckpt"):
        checkpoint.load(renamed)


def test_a_file_too_large_for_the_format_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "huge.ckpt", "wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(UserError, match="huge.ckpt: larger than any checkpoint"):
        checkpoint.load(tmp_path / "huge.ckpt")


def test_the_other_network_is_refused_by_name(tmp_path: Path, saved: tuple[Path, nn.Cell]) -> None:
    with pytest.raises(UserError, match="holds a generator, but a discriminator is needed"):
        checkpoint.load_network(saved[0], "discriminator")
    spec = spec_of("discriminator")
    checkpoint.save_network(tmp_path / "Discriminator0.ckpt", build_network(spec), spec, epoch=0)
    with pytest.raises(UserError, match="holds a discriminator, but a generator is needed"):
        checkpoint.load_network(tmp_path / "Discriminator0.ckpt", "generator")


@pytest.mark.parametrize("hidden", [[6], [6, 9], [6, 8, 8], [5, 8]])
def test_weights_of_another_architecture_change_nothing(saved: tuple[Path, nn.Cell], hidden: list[int]) -> None:
    other = randomised(build_network(spec_of("generator", hidden=hidden)), seed=5)
    before = values(other)
    with pytest.raises(UserError, match=r"Generator3.ckpt: is of another architecture \(.*`model\..*model.*section"):
        checkpoint.restore(other, checkpoint.load(saved[0]), saved[0])
    assert equal(values(other), before)


def foreign(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A checkpoint as any MindSpore program writes it."""
    ms.save_checkpoint([{"name": name, "data": ms.Tensor(array)} for name, array in arrays.items()], str(path))
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_a_strangers_file_that_does_not_fit_changes_nothing(
    tmp_path: Path, saved: tuple[Path, nn.Cell], fault: str
) -> None:
    arrays = {name: array + 1 for name, array in values(saved[1]).items()}
    if fault == "missing":
        del arrays["generator.model.3.moving_variance"]
    elif fault == "extra":
        arrays["generator.model.9.weight"] = np.zeros((3, 3), np.float32)
    else:
        arrays["generator.model.5.bias"] = np.zeros(5, np.float32)
    path = foreign(tmp_path / "stranger.ckpt", arrays)
    G = saved[1]
    before = values(G)
    with pytest.raises(UserError, match="stranger.ckpt: is of another architecture"):
        checkpoint.restore(G, checkpoint.load(path), path)
    assert equal(values(G), before)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_strangers_file_with_values_that_are_not_finite_is_refused(
    tmp_path: Path, saved: tuple[Path, nn.Cell], poison: float
) -> None:
    arrays = values(saved[1])
    arrays["generator.model.2.weight"][1, 1] = poison
    with pytest.raises(UserError, match="`generator.model.2.weight` holds values that are not finite"):
        checkpoint.load(foreign(tmp_path / "stranger.ckpt", arrays))


def test_a_strangers_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path / "stranger.ckpt", {"conv.weight": np.zeros((2, 1, 3, 3), np.float32)})
    with pytest.raises(UserError, match="stranger.ckpt: holds no description"):
        checkpoint.load_network(path, "generator")


@pytest.mark.parametrize(
    "network",
    [
        {"model": "unknown", "role": "generator", "latent_size": 2, "image_shape": [1, 2, 2]},
        {"model": "dense", "role": "generator", "latent_size": -2, "image_shape": [1, 2, 2]},
        {"model": "dense", "role": "generator", "latent_size": 2, "image_shape": [1, 2, 2], "options": {"hidden": "x"}},
        {"model": "dense", "role": "generator", "latent_size": 2, "image_shape": [1, 2, 2], "options": {"hiden": [2]}},
        {"model": "dense", "role": "generator"},
        {"model": "dense", "role": "judge", "latent_size": 2, "image_shape": [1, 2, 2]},
        "dense",
        None,
    ],
    ids=["model", "latent", "option type", "option name", "fields", "role", "text", "null"],
)
def test_a_description_that_makes_no_sense_is_refused(tmp_path: Path, network: object) -> None:
    path = tmp_path / "Generator0.ckpt"
    checkpoint.save(path, [ms.Parameter(ms.Tensor([1.0]), name="generator.model.0.bias")], {"network": network})
    with pytest.raises(UserError, match="Generator0.ckpt"):
        checkpoint.load_network(path, "generator")


def test_a_description_of_a_giant_is_refused_before_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {"model": "dense", "role": "generator", "latent_size": 10**9, "image_shape": [1, 28, 28]}
    path = tmp_path / "Generator0.ckpt"
    checkpoint.save(path, [ms.Parameter(ms.Tensor([1.0]), name="generator.model.0.bias")], {"network": network})
    built = []
    monkeypatch.setattr(checkpoint, "build_network", lambda spec: built.append(spec))
    with pytest.raises(UserError, match="Generator0.ckpt"):
        checkpoint.load_network(path, "generator")
    assert not built


class TutorialGenerator(nn.Cell):
    """The public tutorial's generator, written by hand."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=True)
        self.model = nn.SequentialCell(
            nn.Dense(100, 128),
            nn.ReLU(),
            nn.Dense(128, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Dense(256, 512),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Dense(512, 1024),
            nn.BatchNorm1d(1024),
            nn.ReLU(),
            nn.Dense(1024, 784),
            nn.Tanh(),
        )

    def construct(self, z: ms.Tensor) -> ms.Tensor:
        return self.model(z).reshape(-1, 1, 28, 28)


class TutorialDiscriminator(nn.Cell):
    """The public tutorial's discriminator, written by hand."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=True)
        self.model = nn.SequentialCell(
            nn.Dense(784, 512), nn.LeakyReLU(), nn.Dense(512, 256), nn.LeakyReLU(), nn.Dense(256, 1), nn.Sigmoid()
        )

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        return self.model(image.reshape(image.shape[0], -1))


def tutorial(network: nn.Cell) -> nn.Cell:
    """With weights of a plausible size, and statistics as training leaves them."""
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        value = rng.normal(0, parameter.shape[-1] ** -0.5, parameter.shape)
        if parameter.name.endswith(("moving_variance", "gamma")):
            value = rng.uniform(0.5, 2, parameter.shape)
        parameter.set_data(ms.Tensor(value.astype(np.float32)))
    return network.set_train(False)


PREFIXES = ["generator.", "", "generator", "optim_ggenerator", "optim_g.generator."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_tutorials_generator_loads_and_draws_the_same_images(tmp_path: Path, prefix: str) -> None:
    theirs = tutorial(TutorialGenerator())
    assert {"model.0.weight", "model.11.bias", "model.3.moving_mean"} <= values(theirs).keys()
    path = foreign(tmp_path / "Generator99.ckpt", {prefix + name: array for name, array in values(theirs).items()})
    ours, spec = checkpoint.load_network(path, "generator")
    assert spec == network_spec(config.Model(), "generator", SHAPE)
    latents = np.random.default_rng(1).standard_normal((6, 100)).astype(np.float32)
    expected = theirs(ms.Tensor(latents)).asnumpy()
    np.testing.assert_allclose(ours(ms.Tensor(latents)).asnumpy(), expected, atol=2e-4)
    assert expected.std() > 0.1
    drawn = sampling.generate(ours, latents).astype(int)
    assert np.abs(drawn - imaging.to_uint8(expected)[:, 0]).max() <= 1


@pytest.mark.parametrize("prefix", ["discriminator.", "", "discriminator", "optim_ddiscriminator"])
def test_the_tutorials_discriminator_loads_and_judges_the_same(tmp_path: Path, prefix: str) -> None:
    theirs = tutorial(TutorialDiscriminator())
    path = foreign(tmp_path / "Discriminator99.ckpt", {prefix + name: array for name, array in values(theirs).items()})
    ours, spec = checkpoint.load_network(path, "discriminator")
    assert spec == network_spec(config.Model(), "discriminator", SHAPE)
    images = np.random.default_rng(1).uniform(-1, 1, (6, *SHAPE)).astype(np.float32)
    expected = theirs(ms.Tensor(images)).asnumpy()
    np.testing.assert_allclose(ours(ms.Tensor(images)).asnumpy(), expected, atol=1e-6)


def test_the_tutorials_weights_fit_a_configured_network(tmp_path: Path) -> None:
    theirs = tutorial(TutorialGenerator())
    path = foreign(tmp_path / "friend.ckpt", {f"generator.{name}": array for name, array in values(theirs).items()})
    G = build_network(network_spec(config.Model(), "generator", SHAPE))
    checkpoint.restore(G, checkpoint.load(path), path)
    assert equal({name.removeprefix("generator."): array for name, array in values(G).items()}, values(theirs))


def test_a_tutorial_file_cut_between_entries_is_refused_for_a_configured_network(tmp_path: Path) -> None:
    theirs = tutorial(TutorialGenerator())
    path = foreign(tmp_path / "friend.ckpt", values(theirs))
    content = path.read_bytes()
    G = build_network(network_spec(config.Model(), "generator", SHAPE))
    before = values(G)
    for end in entry_ends(content)[:-1]:
        path.write_bytes(content[:end])
        with pytest.raises(UserError, match="friend.ckpt"):
            checkpoint.restore(G, checkpoint.load(path), path)
    assert equal(values(G), before)


def make(path: Path, *, age: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (10**9 - age, 10**9 - age))
    return path


def test_a_bare_name_means_the_newest_of_all_runs_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("result/a/checkpoints/Generator1.ckpt"), age=50)
    newest = make(Path("result/b/checkpoints/Generator1.ckpt"), age=10)
    make(Path("result/c/checkpoints/Generator1.ckpt"), age=30)
    make(Path("result/c/checkpoints/Generator2.ckpt"), age=0)
    assert find_checkpoint("Generator1.ckpt") == newest
    assert str(newest) in capsys.readouterr().err


def test_a_path_means_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("result/b/checkpoints/Generator1.ckpt"), age=10)
    assert find_checkpoint("elsewhere/Generator1.ckpt") == Path("elsewhere/Generator1.ckpt")
    here = make(Path("Generator1.ckpt"), age=100)
    assert find_checkpoint("Generator1.ckpt") == here


def test_a_name_that_is_nowhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--ckpt Generator1.ckpt: no such file"):
        find_checkpoint("Generator1.ckpt")


@pytest.mark.parametrize("name", ["*.ckpt", "Generator[12].ckpt", "a**"])
def test_a_name_is_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("result/b/checkpoints/Generator1.ckpt"), age=10)
    with pytest.raises(UserError, match="no such file"):
        find_checkpoint(name)
