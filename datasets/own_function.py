"""Functions of one's own that vary what is trained on, ``package.module:function``: finding, seeding and checking."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcsa._core.imports import check_import_path, import_by_name

_NAME = "augment.custom"


class OwnFunction:
    """A variation that may end with a function of one's own, ``custom``: a base of dataclasses with that field."""

    custom: str | None

    def check_custom(self) -> None:
        """Raise unless ``custom`` can name a function."""
        if self.custom is not None:
            check_import_path(_NAME, self.custom)

    def prepare(self) -> None:
        """Import what ``custom`` names, so that a mistake is known before the first item is varied.

        Raises:
            ValueError: If there is no such function.
        """
        if self.custom is not None:
            import_augmentation(self.custom)


def import_augmentation(path: str) -> Callable[[Any, torch.Generator], Any]:
    """Import a function that varies an item.

    Raises:
        ValueError: If there is no such function.
    """
    function: Any = import_by_name(_NAME, path)
    if not callable(function):
        raise ValueError(f"{called(path)} must be a function, is a {type(function).__name__}")
    return function


def called(path: str) -> str:
    """What messages call a function."""
    return f"`{_NAME}` (={path!r})"


def call(path: str, item: Any, generator: torch.Generator) -> Any:
    """Call a function with an item, which is its own from then on.

    What it draws from torch's, NumPy's or Python's own generators follows from ``generator``, too.

    Raises:
        ValueError: If there is no such function, or saying what it raised.
    """
    function = import_augmentation(path)
    with _seeded(generator):
        try:
            return function(item, generator)
        # Whatever the code of the function does.
        except Exception as error:
            said = " ".join(str(error).split())
            raise ValueError(f"{called(path)} failed: {type(error).__name__}, {said}") from error


def check_same(path: str, key: str, before: Tensor, after: Any, rows: int | None = None) -> None:
    """Raise unless a tensor has the kind and shape that it had, with this number of rows if one is given."""
    said = called(path)
    expected = list(before.shape) if rows is None else [rows, *before.shape[1:]]
    if not isinstance(after, Tensor):
        raise ValueError(f"{said} returned `{key}` as a {type(after).__name__}, must be a tensor {expected}")
    if after.dtype != before.dtype or after.device != before.device:
        raise ValueError(
            f"{said} returned `{key}` as {after.dtype} on {after.device}, must be {before.dtype} on {before.device}"
        )
    if list(after.shape) != expected:
        hint = (
            "" if rows is None else f": a row for each of the {rows} points, see pcsa.datasets.transforms.take_points"
        )
        raise ValueError(f"{said} returned `{key}` {list(after.shape)}, must be {expected}{hint}")


def check_finite(path: str, key: str, value: Tensor) -> None:
    """Raise unless all numbers are finite."""
    if not bool(value.isfinite().all()):
        raise ValueError(f"{called(path)} returned `{key}` with numbers that are not finite")


@contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python, and put them back afterwards."""
    seed = int(torch.randint(2**32, (), generator=generator))
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # what others draw from
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
