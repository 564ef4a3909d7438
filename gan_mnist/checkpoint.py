"""Checkpoints: MindSpore `.ckpt` files, saved atomically, with a description and a checksum of their own inside.

Any MindSpore program can read them; files from elsewhere (the course's, the public tutorial's) are read too. The format
is protobuf: reading one never executes code.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np
import pydantic
from google.protobuf.message import DecodeError
from mindspore import nn
from mindspore.train import checkpoint_pb2

from gan_mnist import files
from gan_mnist.errors import NonFiniteError, UserError
from gan_mnist.models import NetworkSpec, Role, build_network, infer_spec

DESCRIPTION = "gan_mnist"
"""Name of the text entry that holds the description and the checksum, as JSON."""
MARK = '"sha256"'.encode("utf-32-le")
TYPES = {
    f"{kind}{bits}": f"<{kind[0].lower()}{bits // 8}"
    for kind, sizes in {"Float": (16, 32, 64), "Int": (8, 16, 32, 64), "UInt": (8, 16, 32, 64)}.items()
    for bits in sizes
} | {"Bool": "?"}
"""MindSpore's names of element types, and NumPy's."""
KINDS = {np.dtype(kind).newbyteorder("<").str: name for name, kind in TYPES.items()}
AVERAGED = "average."
"""Before the names of a network that is the moving average of another's weights (`gan_mnist.averaging`)."""
LARGEST_FILE = 2**31
"""Bytes; a protobuf message can't be larger."""


class Checkpoint(NamedTuple):
    """What a file holds."""

    arrays: dict[str, np.ndarray]
    description: dict[str, Any]
    """Empty for a file from elsewhere."""


def save(path: Path, parameters: Iterable[ms.Parameter], description: Mapping[str, Any]) -> None:
    """Write parameters and a JSON description to `path`, atomically, with a SHA-256 over both.

    Raises:
        NonFiniteError: a parameter is NaN or infinite; nothing is written.
        UserError: the disk is full or the folder can't be written.
    """
    save_arrays(path, {parameter.name: parameter.asnumpy() for parameter in parameters}, description)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Write arrays by name; see `save`."""
    if broken := not_finite(arrays):
        raise NonFiniteError(f"`{broken}` is no longer finite: training has diverged")
    text = json.dumps({**description, "sha256": _digest(arrays, description)})
    files.write_bytes(path, _serialise(arrays, text))


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint and verify it.

    Raises:
        UserError: the file is missing, truncated, corrupt or no checkpoint.
    """
    path = Path(path)
    damaged = "use another checkpoint, or train again"
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    if path.suffix != ".ckpt":
        raise UserError(f"{path}: a checkpoint's name ends in .ckpt; is it the right file?")
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(f"{path}: larger than any checkpoint can be (2 GiB); is it a checkpoint?")
    try:
        content = path.read_bytes()
        arrays, texts = _parse(content)
        description = json.loads(texts.get(DESCRIPTION, "{}"))
        checksum = description.pop("sha256", None)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, AttributeError, DecodeError) as error:
        raise UserError(f"{path}: truncated, corrupt, or not a MindSpore checkpoint; {damaged}") from error
    ours = DESCRIPTION in texts or MARK in content  # Also where damage hides the description.
    if ours and checksum != _digest(arrays, description):
        raise UserError(f"{path}: damaged (its checksum does not match its content); {damaged}")
    if broken := not_finite(arrays):
        raise UserError(f"{path}: `{broken}` holds values that are not finite; {damaged}")
    return Checkpoint(arrays, description)


def _serialise(arrays: Mapping[str, np.ndarray], text: str) -> bytes:
    """A `.ckpt` file: the description first, so that a file cut short still has it, and with it the checksum."""
    message = checkpoint_pb2.Checkpoint()
    tensor = message.value.add(tag=DESCRIPTION).tensor
    tensor.tensor_type, tensor.tensor_content = "str", text.encode("utf-32-le")
    for name, array in arrays.items():
        tensor = message.value.add(tag=name).tensor
        tensor.dims.extend(array.shape or (0,))  # As MindSpore writes a scalar.
        tensor.tensor_type, tensor.tensor_content = KINDS[array.dtype.newbyteorder("<").str], array.tobytes()
    return message.SerializeToString()


def _parse(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and texts of a `.ckpt` file.

    `ms.load_checkpoint` aborts the process where damaged dimensions do not fit the data.

    Raises:
        ValueError, KeyError, DecodeError: it is damaged.
    """
    if content[-17:-10] == b"crc_num":  # MindSpore's own checksum, which is no protobuf.
        content = content[:-17]
    portions: dict[str, list[Any]] = {}  # Large arrays come in several.
    for entry in checkpoint_pb2.Checkpoint.FromString(content).value:
        portions.setdefault(entry.tag, []).append(entry.tensor)
    arrays, texts = {}, {}
    for name, tensors in portions.items():
        data = b"".join(tensor.tensor_content for tensor in tensors)
        kind, shape = tensors[0].tensor_type, tuple(tensors[0].dims)
        if kind == "str":
            texts[name] = data.decode("utf-32-le")
        else:
            array = np.frombuffer(data, TYPES[kind])
            arrays[name] = array.reshape(() if shape == (0,) else shape)
            if any(size < 0 for size in shape):
                raise ValueError(f"{name}: {shape}")
    return arrays, texts


def save_network(path: Path, network: nn.Cell, spec: NetworkSpec, **progress: int) -> None:
    """Write a network's weights and statistics, with what is needed to build it again.

    Args:
        path: where to.
        network: the network.
        spec: its description.
        progress: numbers to keep beside it, such as `epoch=199`.
    """
    arrays = {parameter.name.removeprefix(AVERAGED): parameter.asnumpy() for parameter in network.get_parameters()}
    save_arrays(path, arrays, {"network": spec.model_dump(mode="json"), **progress})


def load_network(path: str | Path, role: Role) -> tuple[nn.Cell, NetworkSpec]:
    """Build the network that a checkpoint describes, with its weights, in evaluation mode.

    Raises:
        UserError: the file can't be used, or holds the other network.
    """
    checkpoint = load(path)
    spec = read_spec(path, checkpoint)
    if spec.role != role:
        raise UserError(f"{path}: holds a {spec.role}, but a {role} is needed here ({role.capitalize()}<E>.ckpt)")
    try:
        network = build_network(spec)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    restore(network, checkpoint, path)
    network.set_train(False)
    return network, spec


def read_spec(path: str | Path, checkpoint: Checkpoint) -> NetworkSpec:
    """The network that a checkpoint describes, recognised by its shapes if the file comes from elsewhere.

    Raises:
        UserError: it describes none.
    """
    if "network" in checkpoint.description:
        try:
            described = NetworkSpec.model_validate(checkpoint.description["network"])
        except pydantic.ValidationError:
            raise UserError(f"{path}: describes a network that this version does not understand") from None
        _check_size(described, checkpoint, path)
        return described
    spec = infer_spec({_plain_name(name): array for name, array in checkpoint.arrays.items()})
    if spec is None:
        raise UserError(f"{path}: holds no description of a network, and its weights are not those of the Dense GAN")
    return spec


def _check_size(spec: NetworkSpec, checkpoint: Checkpoint, path: str | Path) -> None:
    """Refuse a description of layers wider than any weight in the file, before memory is allocated for them."""
    widest = max((size for array in checkpoint.arrays.values() for size in array.shape), default=0)
    sizes = [spec.latent_size] if spec.role == "generator" else []
    for option in spec.options.values():
        sizes += option if isinstance(option, list) else [option]
    if any(isinstance(size, int) and size > widest for size in sizes):
        raise UserError(f"{path}: describes a network that is larger than its weights; use another checkpoint")


def restore(network: nn.Cell, checkpoint: Checkpoint, path: str | Path) -> None:
    """Put a checkpoint's weights into a network that has not run yet: all of them or, if one does not fit, none.

    MindSpore's compiled graphs keep their own buffers: weights loaded after the first step would be ignored.

    Raises:
        UserError: a weight is missing, left over or of another shape.
    """
    arrays = {_plain_name(name): array for name, array in checkpoint.arrays.items()}
    parameters = {_plain_name(parameter.name): parameter for parameter in network.get_parameters()}
    assign(parameters, arrays, path)


def assign(parameters: Mapping[str, ms.Parameter], arrays: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Set each parameter to the array of the same name: all of them or, if one does not fit, none.

    Raises:
        UserError: names or shapes differ.
    """
    fault = None
    if missing := sorted(parameters.keys() - arrays.keys()):
        fault = f"`{missing[0]}` is missing in it"
    elif extra := sorted(arrays.keys() - parameters.keys()):
        fault = f"its `{extra[0]}` has no place here"
    else:
        for name, parameter in parameters.items():
            if arrays[name].shape != tuple(parameter.shape):
                fault = f"its `{name}` is {arrays[name].shape}, here it is {tuple(parameter.shape)}"
                break
    if fault:
        raise UserError(f"{path}: is of another architecture ({fault}); check the `model` section of the configuration")
    for name, parameter in parameters.items():
        parameter.set_data(ms.Tensor(arrays[name], parameter.dtype))


def _plain_name(name: str) -> str:
    """`generator.model.0.weight`, the tutorial's `optim_ggeneratormodel.0.weight` and `model.0.weight` are one."""
    return re.sub(r"^.*?(?=model\.\d)", "", name)


def not_finite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The name of the first array with a NaN or infinity in it."""
    return next(
        (name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()), None
    )


def _digest(arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(dict(description), sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data if array.ndim else array.tobytes())
    return digest.hexdigest()
