"""The architectures by name, and how to build a network from a description of it.

To add one: a file with a `Generator` and a `Discriminator`, and a line in MODELS.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_type_hints

import numpy as np
import pydantic
from mindspore import nn

from gan_mnist import config
from gan_mnist.errors import UserError
from gan_mnist.models import biggan, conditional, dcgan, dense, maxout, toy

Role = Literal["generator", "discriminator"]


class Architecture(NamedTuple):
    """Generator(latent_size, image_shape, *, options) and Discriminator(image_shape, *, options)."""

    generator: Callable[..., nn.Cell]
    discriminator: Callable[..., nn.Cell]


MODELS: dict[str, Architecture] = {
    "dense": Architecture(dense.Generator, dense.Discriminator),
    "conditional": Architecture(conditional.Generator, conditional.Discriminator),
    "maxout": Architecture(maxout.Generator, maxout.Discriminator),
    "dcgan": Architecture(dcgan.Generator, dcgan.Discriminator),
    "biggan": Architecture(biggan.Generator, biggan.Discriminator),
    "toy": Architecture(toy.Generator, toy.Discriminator),
}


class NetworkSpec(pydantic.BaseModel):
    """All that is needed to build a network again; every checkpoint carries one."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    model: str
    role: Role
    latent_size: pydantic.PositiveInt
    latent: config.Latent = "normal"
    image_shape: tuple[pydantic.PositiveInt, pydantic.PositiveInt, pydantic.PositiveInt]
    pack: pydantic.PositiveInt = 1
    """Images that a discriminator judges at once: their channels are joined."""
    options: dict[str, Any] = {}

    @property
    def on_points(self) -> bool:
        """Whether it knows points of a toy data set instead of images: images of one pixel."""
        return self.image_shape[1:] == (1, 1)

    def __str__(self) -> str:
        options = "".join(f", {key}={value}" for key, value in self.options.items())
        return f"{self.model} {self.role} (latent {self.latent_size}, images {self.image_shape}{options})"


def network_spec(model: config.Model, role: Role, image_shape: tuple[int, int, int]) -> NetworkSpec:
    """The description of the network that a configuration asks for, all options resolved.

    Raises:
        UserError: unknown architecture, or an option that it does not have or of the wrong type.
    """
    if model.name not in MODELS:
        raise UserError(f"model.name is {model.name!r}; the known architectures are: {', '.join(MODELS)}")
    options = _options(getattr(MODELS[model.name], role), getattr(model, role), f"model.{role}")
    return NetworkSpec(
        model=model.name,
        role=role,
        latent_size=model.latent_size,
        latent=model.latent,
        image_shape=image_shape,
        pack=model.pack if role == "discriminator" else 1,
        options=options,
    )


def build_network(spec: NetworkSpec) -> nn.Cell:
    """A network with fresh weights; its parameters are named `generator.model...` or `discriminator.model...`.

    Raises:
        UserError: the description names an architecture or an option that this version does not know.
    """
    if spec.model not in MODELS:
        raise UserError(f"the architecture {spec.model!r} is not known here; known are: {', '.join(MODELS)}")
    construct = getattr(MODELS[spec.model], spec.role)
    options = _options(construct, spec.options, f"options of {spec.model}'s {spec.role}")
    channels, height, width = spec.image_shape
    packed = (spec.pack * channels, height, width)
    inputs = (spec.latent_size, spec.image_shape) if spec.role == "generator" else (packed,)
    network = construct(*inputs, **options)
    network.update_parameters_name(f"{spec.role}.")
    return network


def parameter_count(network: nn.Cell) -> int:
    """Number of weights and biases, without what layers keep beside them: BatchNorm's statistics, `spectral`'s u."""
    kept = re.compile(r".*\.(moving_\w+|u)")
    return sum(math.prod(weight.shape) for weight in network.get_parameters() if not kept.fullmatch(weight.name))


def infer_spec(arrays: Mapping[str, np.ndarray]) -> NetworkSpec | None:
    """Recognise a Dense network by its weights' shapes: checkpoints from elsewhere carry no description.

    Args:
        arrays: weights by name, names as `model.0.weight`.

    Returns:
        None if they do not form the course's Dense generator or discriminator.
    """
    weights = {
        int(match[1]): array.shape
        for name, array in arrays.items()
        if (match := re.fullmatch(r"model\.(\d+)\.weight", name)) and array.ndim == 2
    }
    shapes = [weights[index] for index in sorted(weights)]  # Each (width out, width in).
    if len(shapes) < 2 or any(below[0] != above[1] for below, above in zip(shapes, shapes[1:])):
        return None
    hidden = [shape[0] for shape in shapes[:-1]]
    role: Role = "discriminator" if shapes[-1][0] == 1 else "generator"
    pixels = shapes[0][1] if role == "discriminator" else shapes[-1][0]
    side = math.isqrt(pixels)
    if side * side != pixels:
        return None
    latent_size = shapes[0][1] if role == "generator" else 100
    options = _options(getattr(MODELS["dense"], role), {"hidden": hidden}, role)
    return NetworkSpec(model="dense", role=role, latent_size=latent_size, image_shape=(1, side, side), options=options)


def _options(construct: Callable[..., nn.Cell], given: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The keyword-only arguments of a network, those not given with their defaults; wrong ones are refused by name."""
    hints = get_type_hints(construct.__init__, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], parameter.default)
        for name, parameter in inspect.signature(construct).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    section = pydantic.create_model("Options", __base__=config.Section, **fields)
    return config.validate(section, dict(given), source="config", prefix=f"{key}.").model_dump()
