"""The configuration: frozen, typed, every field with its meaning and unit.

A YAML file fills it, `section.key=value` words from the command line override it, unknown keys and wrong types are
refused by name. The architecture's own options (`model.generator`, `model.discriminator`) are checked against the
signature of the network they configure, in `gan_mnist.models`.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pydantic
import yaml
from pydantic import Field, PositiveFloat, PositiveInt

from gan_mnist.errors import UserError

Device = Literal["auto", "CPU", "GPU", "Ascend"]
Latent = Literal["normal", "uniform", "uniform01"]
"""Distributions of z: N(0, 1), U(-1, 1), U(0, 1), each entry on its own."""
Scale = Literal["symmetric", "unit"]
"""What a pixel's 0 to 255 becomes: -1 to 1, or 0 to 1."""
Widths = Annotated[list[PositiveInt], Field(min_length=1)]
"""Widths of a network's hidden layers."""
Precision = Literal["off", "bf16", "fp16"]
"""What matrix products and convolutions are computed in: float32, bfloat16, float16."""
Share = Annotated[float, Field(ge=0, lt=1)]
"""A share that is left out."""
NetworkOptions = dict[str, bool | int | float | str | list[int]]


class Section(pydantic.BaseModel):
    """What all sections share: frozen, strict about types, no unknown keys."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(Section):
    """Which images, and how they are batched."""

    dataset: Literal["mnist", "digits", "images", "gaussian", "ring8", "grid25"] = "mnist"
    """`mnist`: the 60,000 training images. `digits`: scikit-learn's real digits, enlarged; needs no download. `images`:
    pictures of any size and format, see `gan_mnist.data.pictures`. The others are points: a Gaussian on a line, and
    mixtures of 8 and of 25 in the plane, see `gan_mnist.data.toys`."""
    folder: str | None = None
    """Folder with train/ and test/ in it, or for images a folder or zip of pictures; by default MNIST_Data for mnist,
    MNIST_Data/digits for digits, and for images MNIST_Data/faces.zip, the anime faces."""
    image_size: Annotated[int, Field(ge=4, le=1024)] = 64
    """Height and width to which pictures are resized (`images` only)."""
    channels: Literal[1, 3] = 3
    """3 to read pictures in colour, 1 in grey (`images` only)."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Images per step; BatchNorm needs at least 2. The remainder of an epoch is dropped."""
    limit: PositiveInt | None = None
    """Train on the first `limit` images only; null for all of them."""
    scale: Scale = "symmetric"
    """`symmetric`: pixels reach D in [-1, 1], the range of G's Tanh. `unit`: in [0, 1], a known slip."""


class Model(Section):
    """The two networks."""

    name: str = "dense"
    """The architecture, a name from `gan_mnist.models.MODELS`."""
    latent_size: PositiveInt = 100
    """Length of the latent code z."""
    latent: Latent = "normal"
    """What z is drawn from."""
    pack: PositiveInt = 1
    """Images that D judges at once, so that it sees a lack of variety (PacGAN, Lin et al. 2018)."""
    generator: NetworkOptions = {}
    """Keyword arguments of the Generator, such as `hidden: [128, 256, 512, 1024]`."""
    discriminator: NetworkOptions = {}
    """Keyword arguments of the Discriminator, such as `hidden: [512, 256]`."""


class Loss(Section):
    """The objective of the game."""

    name: str = "bce"
    """A name from `gan_mnist.losses.LOSSES`."""
    halve_d: bool = False
    """Halve D's loss: the mean over real and generated images instead of the sum, which slows D down."""
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """One-sided label smoothing: D is asked for 1 - smoothing on real images (Salimans et al. 2016, section 3.4)."""
    label_noise: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Noisy labels: what D is asked for on a real image is moved at random, by up to this much up or down."""
    instance_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the noise that is added to all images that D sees (Sonderby et al. 2017)."""
    instance_noise_epochs: PositiveInt | None = None
    """Epochs over which that noise fades away linearly; null keeps it."""
    r1: Annotated[float, Field(ge=0)] = 0.0
    """gamma of the penalty gamma / 2 E[|grad D(x)|^2] on real images (Mescheder et al. 2018, equation 9)."""
    gradient_penalty: Annotated[float, Field(ge=0)] | None = None
    """lambda of the penalty lambda E[(|grad D(x')| - 1)^2] between real and generated images (Gulrajani et al. 2017,
    equation 3); null for what the loss wants: 10 for `wasserstein_gp`, 0 for the others."""
    orthogonal: Annotated[float, Field(ge=0)] = 0.0
    """beta of G's orthogonal regularisation (Brock et al. 2019, equation 3)."""


class Schedule(Section):
    """How a learning rate moves; see `gan_mnist.schedules`."""

    name: Literal["constant", "linear", "cosine", "exponential", "step"] = "constant"
    """`linear` and `cosine` fall to `final` over the whole run, `exponential` at every step by the factor `decay`,
    `step` by that factor every `every` epochs."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """The first steps, over which the rate rises linearly."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The rate never falls below this fraction of `lr`."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The factor of `exponential` and `step`."""
    every: PositiveInt = 50
    """Epochs from one `step` to the next."""


class Optimizer(Section):
    """Adam (Kingma & Ba 2015), or stochastic gradient descent with momentum."""

    name: Literal["adam", "momentum"] = "adam"
    lr: PositiveFloat = 2e-4
    """Learning rate, before the schedule."""
    schedule: Schedule = Schedule()
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Adam's decay of the gradient's running mean."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Adam's decay of the squared gradient's running mean."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """What is added to the gradient, times the weight: a pull towards zero."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """The share of its last change that a weight repeats (`momentum` only)."""
    final_momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Where the momentum ends, rising or falling linearly, epoch by epoch; null for no change."""
    momentum_epochs: PositiveInt = 250
    """Epochs until `final_momentum` is reached."""


class Train(Section):
    """The loop."""

    epochs: PositiveInt = 200
    """Passes over the data, counted from the run's beginning (also when it is resumed)."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seeds the initial weights, the shuffling and the latent codes."""
    d_steps: PositiveInt = 1
    """Updates of D in a step, each with images of its own: k in algorithm 1 of Goodfellow et al. 2014."""
    g_steps: PositiveInt = 1
    """Updates of G in a step."""
    first: Literal["discriminator", "generator"] = "discriminator"
    """Who is updated first; the other one then sees the same generated images."""
    amp: Precision = "off"
    """Mixed precision, on GPU and Ascend: matrix products and convolutions in bfloat16, or in float16 with the losses
    scaled; weights, statistics and updates stay float32."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of an exponential moving average of G's weights, which is then what is saved and sampled; see
    `gan_mnist.averaging`."""
    evaluate_every: PositiveInt | None = None
    """Epochs between two looks at the quality of 2,000 samples (of MNIST; of toys 2,500), for metrics.jsonl."""
    log_every: PositiveInt = 10
    """Steps between two lines of the console and of metrics.jsonl."""
    tensorboard: bool = False
    """Write scalars of every step, the grids and the hyper-parameters for TensorBoard, to tensorboard/ in the run."""
    histograms: PositiveInt | None = None
    """Epochs between two TensorBoard histograms of all weights; null for none. Switches TensorBoard on."""
    on_nonfinite: Literal["stop", "rollback"] = "stop"
    """When a loss or weight is no longer finite: stop, or go back to the last saved state and draw other batches."""


class Distributed(Section):
    """Training in several processes, see docs/scaling.md; `data.batch_size` is what all of them take together."""

    sync_batch_norm: bool = True
    """BatchNorm normalises by the statistics of the whole batch, as one process would; false: of each worker's part."""
    scale_lr: Literal["none", "linear", "sqrt"] = "none"
    """How both learning rates grow with the batch: not at all, by the factor data.batch_size / base_batch (Goyal et al.
    2017), or by its square root (Krizhevsky 2014). The number of workers changes nothing."""
    base_batch: PositiveInt = 128
    """The batch that the recipe's learning rates were chosen for."""
    grad_accumulation: PositiveInt = 1
    """Slices of each worker's part of the batch that are computed one after the other and update together: larger
    batches in the same memory. BatchNorm normalises by the slice. One process may slice, too."""


class Checkpoint(Section):
    """What is saved, and how often."""

    keep: Literal["all", "best"] | PositiveInt = "all"
    """Which Generator<E>.ckpt and Discriminator<E>.ckpt stay: all, the newest N, or the best one by Parzen window."""
    every_minutes: PositiveFloat = 5.0
    """The state for --resume is saved after every epoch, and within one whenever this many minutes have passed."""


class Sample(Section):
    """The grid of samples drawn after every epoch, always from the same latent codes."""

    rows: Annotated[int, Field(ge=1, le=50)] = 5
    columns: Annotated[int, Field(ge=1, le=50)] = 5
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 2323
    """Seeds the fixed latent codes."""
    mode: Literal["eval", "train"] = "eval"
    """`eval`: BatchNorm uses its running statistics. `train`: those of the grid's own codes, so that an image depends
    on the others too; a known slip."""
    every_steps: PositiveInt | None = None
    """Draw further grids every so many steps, counted over the whole run: images/step_<epoch>_<step>.png."""


class Pretrained(Section):
    """Weights to start from instead of random ones (optimizers start afresh)."""

    generator: str | None = None
    """Path of a Generator<E>.ckpt."""
    discriminator: str | None = None
    """Path of a Discriminator<E>.ckpt."""


class Config(Section):
    """Everything that decides a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "mnist"
    """The run's name: results go to <result_dir>/<name>/."""
    result_dir: str = "result"
    """Folder that holds all runs."""
    device: Device = "auto"
    """`auto` takes the best device that works here: Ascend, then GPU, then CPU."""
    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    optim_d: Optimizer = Optimizer()
    optim_g: Optimizer = Optimizer()
    train: Train = Train()
    sample: Sample = Sample()
    checkpoint: Checkpoint = Checkpoint()
    distributed: Distributed = Distributed()
    pretrained: Pretrained = Pretrained()

    @property
    def run_dir(self) -> Path:
        """Where this run leaves its files."""
        return Path(self.result_dir) / self.name

    def to_yaml(self) -> str:
        """The resolved configuration as YAML that `load` reads back to an equal Config."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read a YAML recipe and apply `section.key=value` overrides to it.

    Raises:
        UserError: the file is missing or no YAML, a key is unknown, a value has the wrong type or range.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"--config {path}: no such file{_other_recipes(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: cannot be read as a text file ({error})") from None
    values = _parse_yaml(text, source=str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a list of `key: value` lines, this one is a {type(values).__name__}")
    values.setdefault("name", re.sub(r"[^A-Za-z0-9._-]", "_", Path(path).stem))
    for override in overrides:
        _apply_override(values, override)
    return validate(Config, values, source=str(path))


def validate(section: type[Any], values: Any, *, source: str, prefix: str = "") -> Any:
    """Build a pydantic model from plain values.

    Args:
        section: the pydantic class to build.
        values: a mapping, as YAML gives it.
        source: where the values come from, for the message.
        prefix: dotted key of the section, with a trailing dot, for the message.

    Raises:
        UserError: naming the first wrong key, with the closest known key where it is unknown.
    """
    try:
        return section.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
    key = prefix + ".".join(_field_names(first["loc"], section))
    if first["type"] == "extra_forbidden":
        known = [prefix + name for name in known_keys(section)]
        raise UserError(f"{source}: unknown key `{key}`{_suggest(key, known)}")
    reason = first["msg"][0].lower() + first["msg"][1:]
    raise UserError(
        f"{source}: `{key}` is {_SHORT.repr(first['input'])}, but {reason.replace('input should be', 'it should be')}"
    )


def known_keys(section: type[pydantic.BaseModel]) -> list[str]:
    """All dotted keys of a section, its own sections included."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, pydantic.BaseModel):
            keys += [f"{name}.{key}" for key in known_keys(field.annotation)]
    return keys


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections -> dotted keys; a section without keys counts as a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inside = isinstance(value, Mapping) and bool(value)
        flat |= flatten(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return flat


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 2e-4 is a number (YAML 1.1 reads a string), and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is not a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key}` is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring = 2, 80

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _parse_yaml(text: str, *, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader: builds plain values only)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{source}: {line}not valid YAML ({error.problem})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{source}: not valid YAML ({error})") from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"{override!r} is not an override: write section.key=value, such as train.epochs=5")
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UserError(f"{override}: `{section}` holds a value, not further keys")
        values[section] = dict(inner)  # Of its own: YAML's anchors share one among sections.
        values = values[section]
    values[last] = _parse_yaml(text, source=override)


def _field_names(location: tuple[int | str, ...], section: type[pydantic.BaseModel]) -> list[str]:
    """A pydantic error's location without the union branches it also lists (`int`, `literal[...]`)."""
    names: list[str] = []
    current: Any = section
    for part in location:
        if isinstance(current, type) and issubclass(current, pydantic.BaseModel):
            names.append(str(part))
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        elif get_origin(current) is dict:
            names.append(str(part))
            current = get_args(current)[1]
    return names


def _suggest(key: str, known: list[str]) -> str:
    last = key.rsplit(".", 1)[-1]
    # Right word, wrong section: `epochs` for `train.epochs`.
    close = [name for name in known if name.rsplit(".", 1)[-1] == last][:1]
    if not close:
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if not close:
        by_last = {name.rsplit(".", 1)[-1]: name for name in known}
        close = [by_last[name] for name in difflib.get_close_matches(key.rsplit(".", 1)[-1], by_last, n=1, cutoff=0.7)]
    return f"; did you mean `{close[0]}`?" if close else f"; known here: {', '.join(known)}"


def _other_recipes(path: str | Path) -> str:
    folder = Path("configs")
    names = sorted(str(recipe) for recipe in folder.glob("*.yaml")) if folder.is_dir() else []
    close = difflib.get_close_matches(str(path), names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(names)}" if names else ""
