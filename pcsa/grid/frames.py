"""Frames of positions on a grid, and the ways between them; :mod:`pcsa.grid` has the table of frames."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pcsa._core.checks import Numbers, check_count, check_floating, check_one_of, check_positive, shown
from pcsa._core.points import working_dtype

Frame = Literal["index", "normalized", "normalized_corners", "pixels", "physical", "released"]
Spacing = float | Numbers
"""Units per cell: a number, or one per axis, x first."""


class Affine(NamedTuple):
    """A frame: position = (scale * index + offset) / divisor along every axis, x first.

    In the normalized frames all of them are whole numbers, so that the outer centers come out as -1 and 1 exactly.
    """

    scale: list[float]
    offset: list[float]
    divisor: list[float]

    @staticmethod
    def unit(num_axes: int) -> "Affine":
        """Index units."""
        return Affine([1.0] * num_axes, [0.0] * num_axes, [1.0] * num_axes)

    def apply(self, index: Tensor) -> Tensor:
        """Positions in this frame from positions in index units, at least in float32 unless nothing changes."""
        if self == Affine.unit(index.shape[-1]):
            return index
        axes = zip(index.to(working_dtype(index)).unbind(-1), *self, strict=True)
        return torch.stack([(scale * x + offset) / divisor for x, scale, offset, divisor in axes], -1)

    def invert(self, position: Tensor) -> Tensor:
        """Positions in index units from positions in this frame, at least in float32."""
        axes = zip(position.to(working_dtype(position)).unbind(-1), *self, strict=True)
        # Axis by axis with Python's numbers: a tensor of them would be copied to the device in every step.
        return torch.stack([(x * divisor - offset) / scale for x, scale, offset, divisor in axes], -1)


def from_index(
    index: Float[Tensor, "*batch D"],
    shape: Sequence[int],
    *,
    frame: Frame | None = None,
    spacing: Spacing | None = None,
) -> Float[Tensor, "*batch D"]:
    """Positions in a frame from positions in index units; the inverse of :func:`to_index`. Differentiable.

    Args:
        index: Positions in index units, x first. Cell centers are integers.
        shape: Sizes of the spatial axes, in the order of the array: ``(z, y, x)``, ``(y, x)`` or ``(x,)``.
        frame: The other frame, see :mod:`pcsa.grid`. Default ``"index"``, or ``"physical"`` where ``spacing`` is given.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``: a number, or one per axis, x first.

    Returns:
        Positions in ``frame``, x first.

    Raises:
        ValueError: If an argument breaks a rule; the message names the argument, its value and the rule.

    Example:
        >>> corner = torch.tensor([63.0, 47.0])  # the last cell of 48 rows of 64
        >>> from_index(corner, (48, 64), frame="normalized"), from_index(corner, (48, 64), frame="normalized_corners")
        (tensor([0.9844, 0.9792]), tensor([1., 1.]))
        >>> from_index(corner, (48, 64), frame="pixels", spacing=4)  # of 256 x 192 pixels
        tensor([253.5000, 189.5000])
    """
    return _checked("index", index, shape, frame, spacing).apply(index)


def to_index(
    position: Float[Tensor, "*batch D"],
    shape: Sequence[int],
    *,
    frame: Frame | None = None,
    spacing: Spacing | None = None,
) -> Float[Tensor, "*batch D"]:
    """Positions in index units from positions in a frame; the inverse of :func:`from_index`. Differentiable.

    Args:
        position: Positions in ``frame``, x first.
        shape: As in :func:`from_index`.
        frame: As in :func:`from_index`.
        spacing: As in :func:`from_index`.

    Returns:
        Positions in index units, x first.

    Raises:
        ValueError: If an argument breaks a rule; the message names the argument, its value and the rule.

    Example:
        >>> to_index(torch.tensor([-1.0, 1.0]), (48, 64), frame="normalized")  # the outer edges
        tensor([-0.5000, 47.5000])
    """
    return _checked("position", position, shape, frame, spacing).invert(position)


def affine_of(shape: Sequence[int], frame: Frame | None, spacing: Spacing | None) -> Affine:
    """Check what names a frame, and return it."""
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"`shape` (={tuple(shape)}) must have one, two or three axes")
    for n in shape:
        check_count("shape", n)
    if frame is None:
        frame = "index" if spacing is None else "physical"
    check_one_of("frame", frame, get_args(Frame))
    sizes = list(shape)[::-1]
    if (spacing is not None) != (frame in ("pixels", "physical")):
        raise ValueError(
            f"`spacing` (={shown(spacing)}) must be given for `frame` 'pixels' or 'physical', and for no other; "
            f"`frame` is {frame!r}"
        )
    if spacing is not None:
        steps = _spacings(spacing, len(sizes))
        return Affine(steps, [(s - 1) / 2 if frame == "pixels" else 0.0 for s in steps], [1.0] * len(sizes))
    twos = [2.0] * len(sizes)
    if frame == "normalized":
        return Affine(twos, [1.0 - n for n in sizes], [float(n) for n in sizes])
    if frame == "normalized_corners":
        if min(sizes) < 2:
            raise ValueError(
                f"`frame` (='normalized_corners') must have `shape` (={tuple(shape)}) of at least 2 cells along every "
                "axis: -1 and 1 are the centers of the outer ones"
            )
        return Affine(twos, [1.0 - n for n in sizes], [n - 1.0 for n in sizes])
    if frame == "released":
        return Affine(twos, [-float(n) for n in sizes], [2.0 * n for n in sizes])
    return Affine.unit(len(sizes))


def plain_spacing(spacing: Spacing | NDArray[Any] | Tensor) -> float | tuple[float, ...]:
    """A spacing as a number, or a tuple of one for each axis."""
    plain: Any = spacing.tolist() if isinstance(spacing, np.ndarray | Tensor) else spacing
    return tuple(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else plain


def _spacings(spacing: Spacing, num_axes: int) -> list[float]:
    plain = plain_spacing(spacing)
    values: tuple[float, ...] = plain if isinstance(plain, tuple) else (plain,) * num_axes
    if len(values) != num_axes:
        raise ValueError(f"`spacing` (={shown(spacing)}) must be a number, or one for each of {num_axes} axes, x first")
    for value in values:
        check_positive("spacing", value)
    return [float(value) for value in values]


def _checked(name: str, value: Tensor, shape: Sequence[int], frame: Frame | None, spacing: Spacing | None) -> Affine:
    """The frame of positions that must have as many axes as the grid."""
    check_floating(name, value)
    if value.dim() == 0 or value.shape[-1] != len(shape):
        raise ValueError(f"`{name}` {list(value.shape)} must end in the {len(shape)} axes of `shape` (={tuple(shape)})")
    return affine_of(shape, frame, spacing)
