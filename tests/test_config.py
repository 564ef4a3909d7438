"""The configuration: every wrong key, type, range or file is refused in one line that helps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hypothesis
import pydantic
import pytest
import yaml
from hypothesis import strategies as st

from gan_mnist import config
from gan_mnist.config import Config
from gan_mnist.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """An empty recipe: all defaults."""
    path = tmp_path / "recipe.yaml"
    path.write_text("name: recipe\n")
    return path


def refusal(path: Path, *overrides: str) -> str:
    """The one line with which a recipe is refused."""
    with pytest.raises(UserError) as refused:
        config.load(path, overrides)
    return " ".join(str(refused.value).split())  # As errors.run shows it.


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    loaded = config.load(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(loaded.to_yaml(), encoding="utf-8")
    assert config.load(copy) == loaded
    assert loaded.name == path.stem


def test_mnist_is_the_courses_recipe() -> None:
    mnist = config.load(ROOT / "configs" / "mnist.yaml")
    assert mnist.optim_d == mnist.optim_g == config.Optimizer(lr=2e-4, beta1=0.5, beta2=0.999)
    assert (mnist.train.epochs, mnist.data.batch_size, mnist.model.latent_size, mnist.sample.seed) == (
        200,
        128,
        100,
        2323,
    )
    assert (mnist.data.dataset, mnist.model.name, mnist.loss.name) == ("mnist", "dense", "bce")
    assert mnist.model.generator == {"hidden": [128, 256, 512, 1024]}
    assert mnist.model.discriminator == {"hidden": [512, 256]}


def test_unusual_values_survive_a_round_trip(recipe: Path, tmp_path: Path) -> None:
    overrides = ["optim_g.lr=1e-7", "result_dir=résultats 数字", "checkpoint.keep=3", "data.limit=5000"]
    overrides += ["model.generator={hidden: [3], flag: true, rate: 0.5, word: 'yes', number: '5'}"]
    loaded = config.load(recipe, overrides)
    (tmp_path / "copy.yaml").write_text(loaded.to_yaml(), encoding="utf-8")
    assert config.load(tmp_path / "copy.yaml") == loaded


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("train.epoch=5", "train.epochs"),
        ("epochs=5", "train.epochs"),
        ("train.lr=1e-3", "optim_d.lr"),
        ("optim_g.learning_rate=1e-3", None),
        ("optim.lr=1e-3", "optim_g.lr"),
        ("batch_size=5", "data.batch_size"),
        ("data.batchsize=5", "data.batch_size"),
        ("model.latents=5", "model.latent"),
        ("trian.epochs=5", "train.epochs"),
        ("sample.cols=5", "sample.columns"),
        ("pretrained.generater=x", "pretrained.generator"),
        ("Device=CPU", "device"),
    ],
)
def test_an_unknown_key_is_named_with_the_closest_known_one(
    recipe: Path, override: str, suggestion: str | None
) -> None:
    line = refusal(recipe, override)
    key = override.split("=")[0]
    assert f"unknown key `{key.split('.')[0]}" in line and str(recipe) in line
    match = re.search(r"did you mean `(.*?)`\?", line)
    if suggestion is None:
        assert match is None or match[1] in config.known_keys(Config)
    elif suggestion.startswith("optim_"):
        assert match and match[1].startswith("optim_"), line
    else:
        assert match and (match[1] == suggestion or suggestion.startswith(match[1] + ".")), line


def test_a_key_like_no_other_is_refused_with_the_known_ones(recipe: Path) -> None:
    line = refusal(recipe, "zzz=1")
    assert "`zzz`" in line and "train.epochs" in line


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs='5'",
        "train.epochs=five",
        "train.epochs=true",
        "train.epochs=2.0",
        "train.epochs=null",
        "train.epochs=[5]",
        "train.epochs=0",
        "train.epochs=-1",
        "train.seed=-1",
        "train.seed=4294967296",
        "train.log_every=0",
        "train.on_nonfinite=ignore",
        "train=5",
        "train=null",
        "name=5",
        "name=''",
        "name=../elsewhere",
        "name=.hidden",
        "name=a/b",
        "name='a b'",
        "result_dir=5",
        "device=TPU",
        "device=cpu",
        "data.dataset=cifar",
        "data.folder=5",
        "data.image_size=3",
        "data.image_size=64.0",
        "data.image_size=2048",
        "data.channels=2",
        "data.channels='3'",
        "data.batch_size=1",
        "data.batch_size=true",
        "data.batch_size=128.0",
        "data.limit=0",
        "model.name=5",
        "model.latent_size=0",
        "model.latent_size='100'",
        "model.generator=[128]",
        "model.generator={hidden: {a: 1}}",
        "model.generator={hidden: [1.5]}",
        "model.latent=gamma",
        "model.pack=0",
        "loss.name=null",
        "loss.halve_d=1",
        "optim_g.lr=0",
        "optim_g.lr=-1e-4",
        "optim_g.lr=[2e-4]",
        "optim_g.lr='2e-4'",
        "optim_g.lr=true",
        "optim_g.lr=.nan",
        "optim_g.lr=.inf",
        "optim_d.beta1=1",
        "optim_d.beta1=-0.1",
        "optim_d.beta2=1.0",
        "optim_d.beta2=x",
        "optim_g.name=sgd",
        "optim_g.momentum=1",
        "optim_g.final_momentum=1.5",
        "optim_g.momentum_epochs=0",
        "optim_g.schedule.name=polynomial",
        "optim_g.schedule.warmup=-1",
        "optim_g.schedule.final=2",
        "optim_g.schedule.decay=0",
        "optim_g.schedule.decay=1.1",
        "optim_g.schedule.every=0",
        "loss.smoothing=0.5",
        "loss.smoothing=-0.1",
        "train.evaluate_every=0",
        "loss.label_noise=0.6",
        "loss.instance_noise=-1",
        "loss.instance_noise_epochs=0",
        "loss.r1=-1",
        "loss.gradient_penalty=-0.5",
        "loss.orthogonal=-0.5",
        "optim_d.weight_decay=-0.5",
        "train.d_steps=0",
        "train.g_steps=0",
        "train.first=both",
        "train.tensorboard=1",
        "train.histograms=0",
        "train.ema=1",
        "train.ema=0",
        "checkpoint.keep=0",
        "checkpoint.keep=some",
        "checkpoint.keep=true",
        "checkpoint.keep=2.5",
        "checkpoint.every_minutes=0",
        "distributed.sync_batch_norm=1",
        "distributed.scale_lr=cubic",
        "distributed.base_batch=0",
        "train.amp=fp8",
        "distributed.grad_accumulation=0",
        "sample.rows=0",
        "sample.columns=51",
        "sample.seed=-1",
        "sample.mode=training",
        "sample.every_steps=0",
        "data.scale=[0, 1]",
        "pretrained.generator=5",
        "pretrained.discriminator=[a]",
    ],
)
def test_a_wrong_type_or_range_is_refused_by_key_and_value(recipe: Path, override: str) -> None:
    key, text = override.split("=", 1)
    line = refusal(recipe, override)
    assert f"`{key}" in line and str(recipe) in line
    value = yaml.load(text, Loader=config._Loader)
    assert f" is {value!r}, but " in line or isinstance(value, dict | list)


def test_every_field_has_a_case_above() -> None:
    cases = next(
        mark.args[1]
        for mark in test_a_wrong_type_or_range_is_refused_by_key_and_value.pytestmark
        if mark.args[0] == "override"
    )
    tried = {case.split("=")[0] for case in cases}
    sections = {key.rsplit(".", 1)[0] for key in config.known_keys(Config) if "." in key}
    twins = {key.replace("optim_g", "optim_d") for key in tried} | {key.replace("optim_d", "optim_g") for key in tried}
    missing = set(config.known_keys(Config)) - sections - tried - twins
    assert missing <= {"model.discriminator"}, f"without a case of bad input: {missing}"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optim_g.lr=2e-4", "optim_g.lr", 2e-4),
        ("optim_g.lr=1E-3", "optim_g.lr", 1e-3),
        ("optim_g.lr=2.e-4", "optim_g.lr", 2e-4),
        ("optim_g.lr=1", "optim_g.lr", 1.0),
        ("optim_g.beta1=0", "optim_g.beta1", 0.0),
        ("data.limit=null", "data.limit", None),
        ("data.limit=", "data.limit", None),
        ("data.folder=/tmp/a=b", "data.folder", "/tmp/a=b"),
        ("model.generator.hidden=[8, 9]", "model.generator", {"hidden": [8, 9]}),
        ("checkpoint.keep=best", "checkpoint.keep", "best"),
        ("checkpoint.keep=7", "checkpoint.keep", 7),
        ("train.seed=4294967295", "train.seed", 2**32 - 1),
        ("name=2e-4x", "name", "2e-4x"),
    ],
)
def test_an_override_is_read_as_yaml(recipe: Path, override: str, key: str, value: Any) -> None:
    loaded: Any = config.load(recipe, [override])
    for part in key.split("."):
        loaded = getattr(loaded, part)
    assert loaded == value and type(loaded) is type(value)


def test_numbers_in_scientific_notation_are_numbers_in_a_recipe_too(recipe: Path) -> None:
    recipe.write_text("optim_g: {lr: 2e-4, beta1: 5e-1}\noptim_d:\n  lr: 1e-3\n")
    loaded = config.load(recipe)
    assert (loaded.optim_g.lr, loaded.optim_g.beta1, loaded.optim_d.lr) == (2e-4, 0.5, 1e-3)


def test_later_overrides_win_and_leave_the_rest(recipe: Path) -> None:
    recipe.write_text("train: {epochs: 7, log_every: 3}\n")
    loaded = config.load(recipe, ["train.epochs=8", "train.epochs=9"])
    assert loaded.train == config.Train(epochs=9, log_every=3)


def test_an_override_changes_no_other_section_that_shares_an_anchor(recipe: Path) -> None:
    recipe.write_text("optim_g: &adam {lr: 2e-4}\noptim_d: *adam\n")
    loaded = config.load(recipe, ["optim_d.lr=1e-3"])
    assert (loaded.optim_g.lr, loaded.optim_d.lr) == (2e-4, 1e-3)


@pytest.mark.parametrize("override", ["train.epochs", "epochs 5", "=5", "", "--epochs"])
def test_what_is_no_override_is_refused_with_an_example(recipe: Path, override: str) -> None:
    assert "train.epochs=5" in refusal(recipe, override)


@pytest.mark.parametrize("override", ["name.first=x", "optim_g.lr.start=1", "train.epochs.more.still=1"])
def test_a_key_below_a_value_is_refused(recipe: Path, override: str) -> None:
    recipe.write_text("name: x\noptim_g: {lr: 1e-3}\ntrain: {epochs: 3}\n")
    assert "holds a value" in refusal(recipe, override)


@pytest.mark.parametrize(
    "override", ["train.epochs=[1", "train.epochs='", "train.epochs={a: 1, a: 2}", "name=\t-\tx: ["]
)
def test_an_override_that_is_no_yaml_is_refused_by_name(recipe: Path, override: str) -> None:
    line = refusal(recipe, override)
    assert override.split("=")[0] in line and "not valid YAML" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epochs: 1}\ntrain: {epochs: 2}\n", r"line 2: .*`train` is given twice"),
        ("train:\n  epochs: 1\n  epochs: 2\n", r"line 3: .*`epochs` is given twice"),
        ("- train\n- data\n", "this one is a list"),
        ("just words\n", "this one is a str"),
        ("42\n", "this one is a int"),
        ("train: [1\ndata: 2", "not valid YAML"),
        ("train:\n\tepochs: 1\n", "line 2: not valid YAML"),
        ("a: *nobody\n", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("name: !!python/name:os.system\n", "not valid YAML"),
        ("5: x\n", "5 is not a word"),
        ("[1, 2]: x\n", "is not a word"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
        ("train: 2001-99-99\n", "not valid YAML"),
    ],
)
def test_a_recipe_that_is_no_mapping_is_refused_with_its_line(recipe: Path, text: str, message: str) -> None:
    recipe.write_text(text)
    line = refusal(recipe)
    assert re.search(message, line), line
    assert str(recipe) in line


def test_an_empty_recipe_is_all_defaults_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "my first GAN.yaml"
    path.write_text("# nothing yet\n")
    assert config.load(path) == Config(name="my_first_GAN")


def test_a_missing_recipe_suggests_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert "did you mean configs/mnist.yaml?" in refusal(Path("configs/minst.yaml"))
    assert "configs/quickstart.yaml" in refusal(Path("nothing like it"))
    monkeypatch.chdir(tmp_path)
    assert "no such file" in refusal(Path("configs/mnist.yaml"))


def test_a_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert "cannot be read as a text file" in refusal(tmp_path / "binary.yaml")
    assert "cannot be read" in refusal(tmp_path)


def test_the_resolved_configuration_cannot_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError):
        Config().train.epochs = 5  # type: ignore[misc]


def test_a_long_value_does_not_make_a_long_line(recipe: Path) -> None:
    recipe.write_text(f"name: {'x' * 100_000}\n")
    assert len(refusal(recipe)) < 2000


def test_aliases_cannot_blow_up_memory_or_time(recipe: Path) -> None:
    levels = "".join(f"  - &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]\n" for level in range(1, 7))
    recipe.write_text(f"result_dir:\n  - &l0 [x, x]\n{levels}")
    assert len(refusal(recipe)) < 2000


KEYS = config.known_keys(Config)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([10**400, -(10**400), 1e308, 5e-324]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["epochs", "hidden", "lr", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)
OVERRIDES = st.one_of(
    st.text(max_size=30),
    st.builds("{}={}".format, st.sampled_from([*KEYS, "a", "train.x", ".", "a..b", "train."]), st.text(max_size=30)),
    st.builds(
        "{}={}".format,
        st.sampled_from(KEYS),
        VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True, width=10**9).removesuffix("\n...\n")),
    ),
)


def load_or_refuse(text: str, overrides: list[str], folder: Path) -> None:
    """Load; anything else than a configuration or a refusal in one line is an error."""
    (folder / "fuzz.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        loaded = config.load(folder / "fuzz.yaml", overrides)
    except UserError as error:
        assert len(str(error)) < 5000
    else:
        assert isinstance(loaded, Config)
        (folder / "copy.yaml").write_text(loaded.to_yaml(), encoding="utf-8")
        assert config.load(folder / "copy.yaml") == loaded


@hypothesis.settings(max_examples=150)
@hypothesis.given(st.text(max_size=60) | st.text(alphabet="abn:{}[]-&*!|>%@#?,.'\" \n\t0159e~<=", max_size=40))
def test_fuzz_any_text_as_recipe_is_loaded_or_refused(tmp_path: Path, text: str) -> None:
    load_or_refuse(text, [], tmp_path)


@hypothesis.settings(max_examples=200)
@hypothesis.given(st.lists(OVERRIDES, max_size=2))
def test_fuzz_any_overrides_are_applied_or_refused(tmp_path: Path, overrides: list[str]) -> None:
    load_or_refuse("train: {epochs: 5}\n", overrides, tmp_path)


@hypothesis.settings(max_examples=100)
@hypothesis.given(st.dictionaries(st.sampled_from([*Config.model_fields, "x"]), VALUES, max_size=4))
def test_fuzz_any_mapping_is_loaded_or_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    load_or_refuse(yaml.safe_dump(values), [], tmp_path)


def test_flattened_settings_have_dotted_keys() -> None:
    nested = {"name": "a", "model": {"generator": {"hidden": [1, 2]}, "discriminator": {}}}
    assert config.flatten(nested) == {"name": "a", "model.generator.hidden": [1, 2], "model.discriminator": {}}
