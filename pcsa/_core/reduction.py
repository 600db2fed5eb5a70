"""How losses are reduced."""

from typing import Literal, get_args

from pcsa._core.checks import check_one_of

Reduction = Literal["mean", "sum", "none"]


def check_reduction(reduction: str) -> None:
    """Raise unless ``reduction`` is known."""
    check_one_of("reduction", reduction, get_args(Reduction))
