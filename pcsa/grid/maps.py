"""maps"""

from __future__ import annotations


def _check_logits(logits: Tensor, validate: bool) -> tuple[int, ...]:
    """The sizes of the spatial axes."""
    if not isinstance(logits, Tensor):
        raise ValueError(f"`logits` ({type(logits).__name__}) must be a tensor")
    if not 3 <= logits.dim() <= 5:
        raise ValueError(
            f"`logits` {list(logits.shape)} must be [B, K, x], [B, K, y, x] or [B, K, z, y, x]: one, two or three "
            "spatial axes"
        )
    if not logits.is_floating_point():
        raise ValueError(f"`logits` ({logits.dtype}) must be floating point")
    if 0 in logits.shape:
        raise ValueError(f"`logits` {list(logits.shape)} must have no axis of size 0")
    if validate and not torch.compiler.is_compiling():
        raise_first([(logits.isfinite().all(), "`logits` must be finite: NaN or infinite values found")])
    return tuple(logits.shape[2:])


def _working(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def flatten(logits: Float[Tensor, "B K *spatial"]) -> Float[Tensor, "B N K"]:
    """Maps as the dense logits of a point set, cells in the order of :func:`cells`; a view of contiguous maps.

    Args:
        logits: Raw scores on one, two or three axes.

    Returns:
        Logits ``[B, N, K]`` with N cells.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> flatten(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]]))
        tensor([[[1., 5.],
                 [2., 6.],
                 [3., 7.],
                 [4., 8.]]])
    """
    _check_logits(logits, validate=False)
    return logits.flatten(2).transpose(1, 2)
