"""The rules on arguments, each written once. A broken one raises a ValueError: "`name` (=value) must be …"."""

import math
import numbers
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsa._core.transforms import mapped

#: How a loss is reduced.
Reduction = Literal["mean", "sum", "none"]
#: Numbers in a row.
Numbers = Sequence[float] | NDArray[Any] | Tensor
#: A flag that a device holds, and the message where it is false, or what looks closer and may find nothing wrong; see
#: :func:`raise_first`.
Rule = tuple[Tensor, str | Callable[[], str | None]]

# Characters of a value that an error shows, and entries of a tensor or array.
_SHOWN, _FEW = 80, 4


def shown(value: object) -> str:
    """Return how an error shows a value: a tensor or array of many numbers by its shape, and nothing at length."""
    if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) > _FEW:
        return f"{type(value).__name__} {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def check_count(name: str, value: int, least: int = 1, most: int | None = None) -> None:
    """Raise unless ``value`` is a whole number from ``least`` to ``most``; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, (numbers.Integral, torch.SymInt)):
        raise ValueError(f"`{name}` (={shown(value)}) must be a whole number of at least {least}")
    if most is not None and not least <= value <= most:
        raise ValueError(f"`{name}` (={value}) must be from {least} to {most}")
    if value < least:
        raise ValueError(f"`{name}` (={value}) must be at least {least}")


def check_number(name: str, value: object) -> None:
    """Raise unless ``value`` is a real number; a bool is none, a numpy scalar is one."""
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, torch.SymInt, torch.SymFloat)):
        raise ValueError(f"`{name}` (={shown(value)}) must be a number")


def check_positive(name: str, value: int | float) -> None:
    """Raise unless ``value`` is a positive, finite number."""
    check_number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"`{name}` (={value}) must be positive and finite")


def check_non_negative(name: str, value: int | float) -> None:
    """Raise unless ``value`` is a finite number of at least 0."""
    check_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"`{name}` (={value}) must be at least 0 and finite")


def check_between(
    name: str, value: int | float, low: int | float, high: int | float, ends: Literal["[]", "[)", "(]"] = "[]"
) -> None:
    """Raise unless ``value`` is a number in the interval; ``ends`` says which of its ends belong to it."""
    check_number(name, value)
    inside = (low < value if ends[0] == "(" else low <= value) and (value < high if ends[1] == ")" else value <= high)
    if not inside:
        above, below = ("above" if ends[0] == "(" else "at least"), ("below" if ends[1] == ")" else "at most")
        rule = f"from {low} to {high}" if ends == "[]" else f"{above} {low} and {below} {high}"
        raise ValueError(f"`{name}` (={value}) must be {rule}")


def check_interval(name: str, interval: Sequence[int | float]) -> None:
    """Raise unless ``interval`` is two finite numbers, the second above the first."""
    if not isinstance(interval, Sequence) or len(interval) != 2:
        raise ValueError(f"`{name}` (={shown(interval)}) must be two numbers, low and high")
    for value in interval:
        check_number(name, value)
    if not -math.inf < interval[0] < interval[1] < math.inf:
        raise ValueError(f"`{name}` (={tuple(interval)}) must be finite, and rise")


def check_temperature(temperature: float | Tensor) -> None:
    """Raise unless ``temperature`` is a positive, finite number, or such a 0-d tensor.

    The tensor is on the CPU, or one to learn, whose value is not read on a device.
    """
    if isinstance(temperature, Tensor):
        on_device = temperature.device.type != "cpu"
        if temperature.dim() != 0 or (on_device and not temperature.requires_grad):
            raise ValueError(
                f"`temperature` {list(temperature.shape)} (on {temperature.device}) must be a number, or a 0-d tensor "
                "on the CPU or that needs a gradient"
            )
        if on_device or not reads_values(True):
            return
        temperature = temperature.item()
    elif not isinstance(temperature, (numbers.Real, torch.SymFloat)):
        hint = ": give the schedule's `value`" if hasattr(temperature, "value") else ""
        raise ValueError(f"`temperature` ({type(temperature).__name__}) must be a number, or a 0-d tensor{hint}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"`temperature` (={float(temperature)}) must be positive and finite")


def check_generator(name: str, generator: object) -> None:
    """Raise unless ``generator`` is torch's, or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        kind = f"{type(generator).__module__.partition('.')[0]}.{type(generator).__name__}"
        raise ValueError(f"`{name}` ({kind}) must be a torch.Generator, as torch.Generator().manual_seed(0) is")


def check_thresholds(name: str, thresholds: Iterable[int | float]) -> tuple[float, ...]:
    """Return ``thresholds`` as floats; raise unless they rise, and are finite and at least 0; there must be one."""
    if isinstance(thresholds, str) or not isinstance(thresholds, Iterable):
        raise ValueError(f"`{name}` (={shown(thresholds)}) must be a list of numbers")
    if isinstance(thresholds, Tensor | np.ndarray):
        thresholds = thresholds.tolist()
    given = list(thresholds) if isinstance(thresholds, Iterable) else [thresholds]  # an array of no axis is a number
    for value in given:
        check_number(name, value)
    values = tuple(float(value) for value in given)
    rising = all(a < b for a, b in pairwise(values))
    if not values or not rising or not all(0 <= t < math.inf for t in values):
        raise ValueError(f"`{name}` (={shown(list(values))}) must be increasing, at least 0, finite and not empty")
    return values


def check_one_of(name: str, value: object, known: Collection[object]) -> None:
    """Raise unless ``value`` is one of those known."""
    if value not in known:
        raise ValueError(f"`{name}` (={shown(value)}) must be one of {', '.join(map(repr, known))}")


def check_reduction(reduction: str) -> None:
    """Raise unless ``reduction`` is known."""
    check_one_of("reduction", reduction, get_args(Reduction))


def check_size(name: str, size: Sequence[int] | NDArray[Any] | Tensor, length: int = 2) -> tuple[int, ...]:
    """Return the size of an image (``length`` 2) or volume (3) as a tuple; raise unless whole numbers above 0."""
    axes = ("depth", "height", "width")[-length:]
    values = size.tolist() if isinstance(size, Tensor | np.ndarray) else size
    whole = isinstance(values, Sequence) and all(
        isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in values
    )
    if not whole or len(values) != length or min(values) < 1:
        raise ValueError(f"`{name}` (={shown(size)}) must be ({', '.join(axes)}): whole numbers above 0")
    return tuple(int(n) for n in values)


def check_tensor(name: str, value: object) -> None:
    """Raise unless ``value`` is a tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(f"`{name}` ({type(value).__name__}) must be a tensor")


def check_floating(name: str, value: Tensor) -> None:
    """Raise unless ``value`` is a floating point tensor."""
    check_tensor(name, value)
    if not value.is_floating_point():
        raise ValueError(f"`{name}` ({value.dtype}) must be floating point")


def check_shape(name: str, value: Tensor | NDArray[Any], shape: Sequence[int | str]) -> None:
    """Raise unless a tensor or array has this shape; an axis of any size is named, as in ``(3, "N")``."""
    given = list(value.shape)
    if len(given) != len(shape) or any(a != b for a, b in zip(given, shape, strict=True) if not isinstance(b, str)):
        raise ValueError(f"`{name}` {given} must be [{', '.join(map(str, shape))}]")


def check_keypoints(name: str, value: Tensor, shape: Sequence[int]) -> None:
    """Raise unless ``value`` has the shape [B, K, D] of positions of a batch's keypoints; say what may be wrong."""
    check_tensor(name, value)
    given, wanted = list(value.shape), list(shape)
    if given != wanted:
        swapped = given == [wanted[0], wanted[2], wanted[1]]
        hint = "; are `logits` and `pos` in each other's place?" if swapped else joined_hint(given, wanted)
        raise ValueError(f"`{name}` {given} must be {wanted}{hint}")


def joined_hint(given: Sequence[int], wanted: Sequence[int]) -> str:
    """Return what to do with [B K, …] where [B, K, …] is wanted; nothing for any other shape."""
    if len(wanted) < 2 or list(given) != [wanted[0] * wanted[1], *wanted[2:]]:
        return ""
    each, view = ", ".join(map(str, (1, *wanted[1:]))), ", ".join(map(str, wanted))
    return f"; PyTorch Geometric joins what clouds hold: keep [{each}] in each `Data`, or give `.view({view})`"


def check_mask(name: str, mask: Tensor, shape: Sequence[int]) -> None:
    """Raise unless ``mask`` is a bool tensor of this shape."""
    _check_kind(name, mask, shape, "bool", (torch.bool,))


def check_index(name: str, index: Tensor, shape: Sequence[int]) -> None:
    """Raise unless ``index`` is an int64 or int32 tensor of this shape."""
    _check_kind(name, index, shape, "int64", (torch.int64, torch.int32))


def check_rows(name: str, index: Tensor, num_rows: int, of: str) -> None:
    """Raise unless every entry of ``index`` is a row of the argument called ``of``."""
    if ((index < 0) | (index >= num_rows)).any():
        rule = f"must lie in 0 to {num_rows - 1}, the rows of `{of}`"
        raise ValueError(f"`{name}` ({int(index.min())} to {int(index.max())}) {rule}")


def _check_kind(name: str, value: Tensor, shape: Sequence[int], kind: str, dtypes: Sequence[torch.dtype]) -> None:
    check_tensor(name, value)
    if value.dtype not in dtypes or value.shape != torch.Size(shape):
        hint = joined_hint(value.shape, shape)
        raise ValueError(f"`{name}` {list(value.shape)} ({value.dtype}) must be {kind} {list(shape)}{hint}")


def reads_values(validate: bool) -> bool:
    """Whether rules on values hold: where the caller wants them, and no value is hidden by compiler or vmap."""
    return validate and not torch.compiler.is_compiling() and not mapped()


def finite(name: str, value: Tensor, where: str = "") -> Rule:
    """Rule for :func:`raise_first`: no NaN and nothing infinite, ``where`` for instance "wherever `visible`"."""
    return value.isfinite().all(), f"`{name}` must be finite{where and ' ' + where}: NaN or infinite values found"


def check_finite(name: str, value: Tensor, validate: bool = True) -> None:
    """Raise unless ``value`` is finite everywhere; ``validate=False`` and compilation skip it."""
    if reads_values(validate):
        raise_first([finite(name, value)])


def raise_first(rules: Sequence[Rule]) -> None:
    """Raise the first rule that does not hold, with one read from the device for all of them."""
    if not rules:
        return
    for good, (_, rule) in zip(torch.stack([flag for flag, _ in rules]).tolist(), rules, strict=True):
        wrong = None if good else rule if isinstance(rule, str) else rule()
        if wrong is not None:
            raise ValueError(wrong)
