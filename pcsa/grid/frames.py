"""frames"""

from __future__ import annotations

Frame = Literal["index", "normalized", "normalized_corners", "pixels", "physical", "released"]


class _Affine(NamedTuple):
    """A frame: position = (scale * index + offset) / divisor along every axis, x first.

    All whole numbers in the normalized frames, so that the outer centers come out as -1 and 1 exactly.
    """

    scale: list[float]
    offset: list[float]
    divisor: list[float]

    @staticmethod
    def unit(num_axes: int) -> _Affine:
        return _Affine([1.0] * num_axes, [0.0] * num_axes, [1.0] * num_axes)


def cells(
    shape: Sequence[int],
    *,
    frame: Frame | None = None,
    spacing: float | Sequence[float] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "N D"]:
    """Positions of a grid's cell centers, in the order in which :func:`flatten` has the cells.

    With both, whatever is for point sets is for grids: the losses, metrics and read-outs.

    Args:
        shape: Sizes of the spatial axes, in the order of the array: ``(z, y, x)``, ``(y, x)`` or ``(x,)``.
        frame: Frame of the positions, see the module.
        spacing: Units per cell, see :func:`from_index`.
        dtype: Floating point type; default torch's.
        device: Default torch's.

    Returns:
        Positions ``[N, D]``, in the order x, y, z. For a batch, ``.expand(B, -1, -1)`` costs no memory.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> cells((2, 3))
        tensor([[0., 0.],
                [1., 0.],
                [2., 0.],
                [0., 1.],
                [1., 1.],
                [2., 1.]])
        >>> from pcsa.losses import variance_regularization
        >>> variance_regularization(
        ...     flatten(torch.zeros(1, 1, 2, 3)), cells((2, 3)).expand(1, -1, -1), target_variance=0.25
        ... )  # the variances are 2/3 along x and 1/4 along y: (2/3 - 1/4)^2
        tensor(0.1736)
    """
    affine = _affine(shape, frame, spacing)
    dtype = dtype or torch.get_default_dtype()
    along = [torch.arange(n, dtype=dtype, device=device) for n in shape]
    index = torch.stack(torch.meshgrid(*along, indexing="ij")[::-1], -1).view(-1, len(along))
    return _apply(index, affine)


def from_index(
    index: Float[Tensor, "*batch D"],
    shape: Sequence[int],
    *,
    frame: Frame | None = None,
    spacing: float | Sequence[float] | None = None,
) -> Float[Tensor, "*batch D"]:
    """Positions in a frame from positions in index units; the inverse of :func:`to_index`. Differentiable.

    Args:
        index: Positions in index units, x first. Cell centers are integers.
        shape: Sizes of the spatial axes, in the order of the array: ``(z, y, x)``, ``(y, x)`` or ``(x,)``.
        frame: The other frame, see the module. Default ``"index"``, or ``"physical"`` where ``spacing`` is given.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``: a number, or one per axis, x first.

    Returns:
        Positions in ``frame``, x first.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> corner = torch.tensor([63.0, 47.0])  # the last cell of 48 rows of 64
        >>> from_index(corner, (48, 64), frame="normalized"), from_index(corner, (48, 64), frame="normalized_corners")
        (tensor([0.9844, 0.9792]), tensor([1., 1.]))
        >>> from_index(corner, (48, 64), frame="pixels", spacing=4)  # of 256 x 192 pixels
        tensor([253.5000, 189.5000])
    """
    _check_positions("index", index, shape)
    return _apply(index, _affine(shape, frame, spacing))


def to_index(
    position: Float[Tensor, "*batch D"],
    shape: Sequence[int],
    *,
    frame: Frame | None = None,
    spacing: float | Sequence[float] | None = None,
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
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> to_index(torch.tensor([-1.0, 1.0]), (48, 64), frame="normalized")  # the outer edges
        tensor([-0.5000, 47.5000])
    """
    _check_positions("position", position, shape)
    axes = zip(position.to(_working(position)).unbind(-1), *_affine(shape, frame, spacing), strict=True)
    # Axis by axis with Python's numbers: a tensor of them would be copied to the device in every step.
    return torch.stack([(x * divisor - offset) / scale for x, scale, offset, divisor in axes], -1)


def _affine(shape: Sequence[int], frame: Frame | None, spacing: float | Sequence[float] | None) -> _Affine:
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"`shape` (={tuple(shape)}) must have one, two or three axes")
    for n in shape:
        check_count("shape", n)
    if frame is None:
        frame = "index" if spacing is None else "physical"
    _check_choice("frame", frame, Frame)
    sizes = list(shape)[::-1]
    if (spacing is not None) != (frame in ("pixels", "physical")):
        raise ValueError(
            f"`spacing` (={spacing}) must be given for `frame` 'pixels' or 'physical', and for no other; "
            f"`frame` is {frame!r}"
        )
    if spacing is not None:
        steps = _spacings(spacing, len(sizes))
        return _Affine(steps, [(s - 1) / 2 if frame == "pixels" else 0.0 for s in steps], [1.0] * len(sizes))
    twos = [2.0] * len(sizes)
    if frame == "normalized":
        return _Affine(twos, [1.0 - n for n in sizes], [float(n) for n in sizes])
    if frame == "normalized_corners":
        if min(sizes) < 2:
            raise ValueError(
                f"`frame` (='normalized_corners') must have `shape` (={tuple(shape)}) of at least 2 cells along every "
                "axis: -1 and 1 are the centers of the outer ones"
            )
        return _Affine(twos, [1.0 - n for n in sizes], [n - 1.0 for n in sizes])
    if frame == "released":
        return _Affine(twos, [-float(n) for n in sizes], [2.0 * n for n in sizes])
    return _Affine.unit(len(sizes))


def _apply(index: Tensor, affine: _Affine) -> Tensor:
    if affine == _Affine.unit(index.shape[-1]):
        return index
    axes = zip(index.to(_working(index)).unbind(-1), *affine, strict=True)
    return torch.stack([(scale * x + offset) / divisor for x, scale, offset, divisor in axes], -1)


def _spacings(spacing: float | Sequence[float], num_axes: int) -> list[float]:
    values = list(spacing) if isinstance(spacing, Sequence) and not isinstance(spacing, str) else [spacing] * num_axes
    if len(values) != num_axes:
        raise ValueError(f"`spacing` (={spacing!r}) must be a number, or one for each of {num_axes} axes, x first")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"`spacing` (={spacing!r}) must be positive and finite along every axis")
    return [float(value) for value in values]


def _check_positions(name: str, value: Tensor, shape: Sequence[int]) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"`{name}` ({getattr(value, 'dtype', type(value).__name__)}) must be a floating point tensor")
    if value.dim() == 0 or value.shape[-1] != len(shape):
        raise ValueError(f"`{name}` {list(value.shape)} must end in the {len(shape)} axes of `shape` (={tuple(shape)})")
