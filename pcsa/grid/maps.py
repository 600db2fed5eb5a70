"""Heatmaps as point sets of cells."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import check_floating, raise_first, reads_values
from pcsa.grid.frames import Frame, Spacing, affine_of


def cells(
    shape: Sequence[int],
    *,
    frame: Frame | None = None,
    spacing: Spacing | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "N D"]:
    """Positions of a grid's cell centers, in the order in which :func:`flatten` has the cells.

    With both, whatever is for point sets is for grids: the losses, metrics and read-outs.

    Args:
        shape: Sizes of the spatial axes, in the order of the array: ``(z, y, x)``, ``(y, x)`` or ``(x,)``.
        frame: Frame of the positions, see :mod:`pcsa.grid`.
        spacing: Units per cell, see :func:`pcsa.grid.from_index`.
        dtype: Floating point type; default torch's.
        device: Default torch's.

    Returns:
        Positions ``[N, D]``, in the order x, y, z. For a batch, ``.expand(B, -1, -1)`` costs no memory.

    Raises:
        ValueError: If an argument breaks a rule; the message names the argument, its value and the rule.

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
    affine = affine_of(shape, frame, spacing)
    dtype = dtype or torch.get_default_dtype()
    along = [torch.arange(n, dtype=dtype, device=device) for n in shape]
    index = torch.stack(torch.meshgrid(*along, indexing="ij")[::-1], -1).view(-1, len(along))
    return affine.apply(index)


def flatten(logits: Float[Tensor, "B K *spatial"]) -> Float[Tensor, "B N K"]:
    """Maps as the dense logits of a point set, cells in the order of :func:`cells`; a view of contiguous maps.

    Args:
        logits: Raw scores on one, two or three axes.

    Returns:
        Logits ``[B, N, K]`` with N cells.

    Raises:
        ValueError: If an argument breaks a rule; the message names the argument, its value and the rule.

    Example:
        >>> flatten(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]]))
        tensor([[[1., 5.],
                 [2., 6.],
                 [3., 7.],
                 [4., 8.]]])
    """
    check_logits(logits, validate=False)
    return logits.flatten(2).transpose(1, 2)


def check_logits(logits: Tensor, validate: bool) -> tuple[int, ...]:
    """Check maps and return the sizes of their spatial axes."""
    check_floating("logits", logits)
    if not 3 <= logits.dim() <= 5:
        raise ValueError(
            f"`logits` {list(logits.shape)} must be [B, K, x], [B, K, y, x] or [B, K, z, y, x]: one, two or three "
            "spatial axes"
        )
    if 0 in logits.shape:
        raise ValueError(f"`logits` {list(logits.shape)} must have no axis of size 0")
    if reads_values(validate):
        raise_first([(logits.isfinite().all(), partial(_bad_scores, logits))])
    return tuple(logits.shape[2:])


def _bad_scores(logits: Tensor) -> str | None:
    """What is wrong with scores that are not all finite: nothing, if they only leave cells of a map out."""
    top = logits.detach().flatten(2).amax(2)
    if not bool((top < math.inf).all()):
        return "`logits` must be finite, or -inf where a cell is not for a keypoint: NaN or infinite values found"
    return (
        "`logits` must be finite in a cell of every map: a map of -inf alone found" if bool(top.isinf().any()) else None
    )
