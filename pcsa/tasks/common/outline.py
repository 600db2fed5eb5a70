"""What a checkpoint describes, found out before a tensor is made of it.

torch makes the tensors that a file describes, of any size, and hands out whatever nested structure it has. Here the
same description is read first, with tensors that have a shape and no memory, by rules of this package: a checkpoint is
numbers, texts and tensors in dictionaries and lists, all of it is in the file, and there is an end to it.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

_MOST_PARTS = 10**6  # of the structure
_DEEPEST = 60
_MOST_ENTRIES = 10**5  # of the zip file
_LARGEST_PICKLE = 2**26  # bytes
_BYTES = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Byte", "Char", "Bool"), 1),
    "ComplexDouble": 16,
}


class _Storage(NamedTuple):
    key: str
    numbers: int


class _Tensor(NamedTuple):
    shape: tuple[int, ...]


class _Kind(NamedTuple):
    """A type of storage, or anything else that has no content of its own."""

    bytes: int = 0

    def __call__(self, *arguments: Any) -> _Kind:
        return self


def check_outline(path: Path) -> None:
    """Raise a ValueError if a checkpoint describes what no checkpoint is, or more than it holds."""
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
        if len(entries) > _MOST_ENTRIES or len({entry.filename for entry in entries}) < len(entries):
            raise ValueError(f"has {len(entries)} entries, must be at most {_MOST_ENTRIES} of different names")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("is compressed, which no checkpoint is")
        if sum(entry.file_size for entry in entries) > os.stat(path).st_size:
            raise ValueError("has entries that are larger than the file")
        pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _LARGEST_PICKLE:
            raise ValueError("must have one description, `data.pkl`, of at most 64 MiB")
        folder = pickles[0].filename.removesuffix("data.pkl")
        sizes = {entry.filename.removeprefix(f"{folder}data/"): entry.file_size for entry in entries}
        raw = file.read(pickles[0])
    for operation, argument, _ in pickletools.genops(raw):
        # A place in the memory of a pickle, for which all places before it are made.
        if "PUT" in operation.name and int(argument or 0) > len(raw):
            raise ValueError("has a description that takes more memory than it may")
    _check_parts(_Outline(raw, sizes).load())


class _TooManyError(ValueError):
    """A network of more tensors than there are."""


def check_fits(build: Callable[[], nn.Module], weights: Mapping[str, Tensor]) -> None:
    """Raise unless weights are those of the network that a configuration describes, before that takes any memory.

    Args:
        build: Makes the network; on the device `meta` it has shapes alone. One that cannot be made there passes.
        weights: The weights.

    Raises:
        ValueError: If the network has many more tensors.
        RuntimeError: If its tensors have other names or shapes; the message names them, as torch does.
    """
    most, count = 2 * len(weights) + 100, 0

    def registered(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal count
        count += 1
        # A configuration may ask for any number of layers.
        if count > most:
            raise _TooManyError(f"its configuration describes a network of more than the {len(weights)} tensors it has")

    hook = register_module_parameter_registration_hook(registered)
    try:
        with torch.device("meta"):
            network = build()
    except (NotImplementedError, RuntimeError):  # it looks at numbers, which are not there
        return
    finally:
        hook.remove()
    if {k: v.shape for k, v in network.state_dict().items()} != {k: v.shape for k, v in weights.items()}:
        with warnings.catch_warnings(action="ignore"):  # of numbers that are not copied
            network.load_state_dict({name: value.to("meta") for name, value in weights.items()})  # says what is wrong


class _Outline(pickle.Unpickler):
    """The structure of a checkpoint, with tensors that are shapes."""

    def __init__(self, raw: bytes, sizes: dict[str, int]) -> None:
        super().__init__(io.BytesIO(raw), encoding="utf-8")
        self.sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("collections", "Counter"): Counter,
            ("builtins", "set"): set,
            ("__builtin__", "set"): set,
            ("builtins", "complex"): complex,
            ("_codecs", "encode"): _encoded,
            ("torch", "Size"): tuple,
            ("torch", "device"): _Kind(),
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch.nn.parameter", "Parameter"): _parameter,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name.removesuffix("Storage") in _BYTES:
            return _Kind(_BYTES[name.removesuffix("Storage")])
        if module == "torch" and name.lower() == name:  # a type of numbers, or a layout
            return _Kind()
        raise ValueError(f"holds `{module}.{name}`, which no checkpoint of this package has")

    def persistent_load(self, pid: Any) -> _Storage:
        what, kind, key, _, numbers = pid
        if what != "storage" or not isinstance(kind, _Kind) or not _are_counts([numbers]):
            raise ValueError("has a tensor whose numbers are not described")
        if not kind.bytes or numbers * kind.bytes > self.sizes.get(key, -1):
            raise ValueError(f"has {self.sizes.get(key, 0)} bytes where {numbers} numbers of a tensor must be")
        return _Storage(key, numbers)


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    shape, stride = tuple(shape), tuple(stride)
    if not isinstance(storage, _Storage) or len(shape) != len(stride) or not _are_counts([offset, *shape, *stride]):
        raise ValueError("has a tensor whose shape is not described")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    count = prod(shape)
    if count and (last >= storage.numbers or count > storage.numbers):
        raise ValueError(f"has a tensor {list(shape)} of {storage.numbers} numbers")
    return _Tensor(shape)


def _are_counts(values: list[Any]) -> bool:
    return len(values) <= 100 and all(type(value) is int and 0 <= value < 2**62 for value in values)


def _check_parts(content: Any) -> None:
    """Raise if a structure is deeper or larger than any, with what it repeats: a list of itself has no end."""
    waiting, count = [(content, 0)], 0
    while waiting:
        part, depth = waiting.pop()
        inner: list[Any] = []
        if isinstance(part, dict):
            inner = [*part.keys(), *part.values()]
        elif isinstance(part, (list, tuple, set)) and not isinstance(part, (_Tensor, _Storage, _Kind)):
            inner = [*part]
        count += 1 + len(inner)
        if depth > _DEEPEST or count > _MOST_PARTS:
            raise ValueError(f"describes more than {_MOST_PARTS} parts, or parts more than {_DEEPEST} deep")
        waiting += [(value, depth + 1) for value in inner if isinstance(value, (dict, list, tuple, set))]
