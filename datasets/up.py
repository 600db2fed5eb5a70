"""Which way is up: the axis that turns leave as it is, and the planes that may mirror a shape."""

from typing import Literal, get_args

from pcsa._core.checks import check_one_of

Up = Literal["x", "y", "z", "none"]
"""The axis that points up, or down; ``"none"`` for shapes that lie in any way, as in the frame of a scanner."""

UPS: tuple[Up, ...] = get_args(Up)


def up_axis(up: str) -> int:
    """Return the number of the axis that points up, and -1 where none does.

    Raises:
        ValueError: If there is no such axis.

    Example:
        >>> [up_axis(name) for name in UPS]
        [0, 1, 2, -1]

    """
    check_one_of("up", up, UPS)
    return -1 if up == "none" else "xyz".index(up)


def mirror_normals(axis: int) -> tuple[int, ...]:
    """Return the normals of the planes that may mirror a shape: the vertical ones, or all where none is.

    Args:
        axis: The axis that points up, -1 for none.

    Example:
        >>> mirror_normals(1), mirror_normals(-1)
        ((0, 2), (0, 1, 2))

    """
    return tuple(normal for normal in range(3) if normal != axis)


def check_turns(name: str, degrees: float, up: str) -> None:
    """Raise if shapes without an axis that points up are to be turned about it."""
    if degrees > 0 and up == "none":
        raise ValueError(f"`{name}` (={degrees:g}) must be 0 for clouds whose `up` is 'none': it turns them about that")
