"""Clouds as PyTorch Geometric holds them, known by their attributes: nothing of it is imported."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Cloud(Protocol):
    """What holds the positions of a cloud or of a batch of clouds, as a PyTorch Geometric ``Data`` or ``Batch`` does.

    Functions take it in place of ``pos``, and its ``ptr``, or else its ``batch``, where neither is given.
    """

    @property
    def pos(self) -> Any:
        """Positions ``[N, D]``."""


def unpacked(
    pos: Tensor | Cloud | None, batch: Tensor | None, ptr: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return positions, ``batch`` and ``ptr`` of a function's arguments, taken from what holds them."""
    if pos is None or isinstance(pos, Tensor) or not hasattr(pos, "pos"):
        return pos, batch, ptr  # type: ignore[return-value]  # what is no cloud at all is refused with its name
    if batch is None and ptr is None:
        ptr = getattr(pos, "ptr", None)
        batch = getattr(pos, "batch", None) if ptr is None else None
    return pos.pos, batch, ptr
