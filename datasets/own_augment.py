"""Variation of a cloud by a function of one's own, ``package.module:function``."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from pcsa._core.imports import import_by_name

_NAME = "augment.custom"


def import_augmentation(path: str) -> Callable[[Data, torch.Generator], Data]:
    """Import a function that varies a cloud.

    Raises:
        ValueError: If there is no such function.
    """
    function: Any = import_by_name(_NAME, path)
    if not callable(function):
        raise ValueError(f"`{_NAME}` (={path!r}) must be a function, is a {type(function).__name__}")
    return function


def vary(path: str, data: Data, generator: torch.Generator, per_cloud: tuple[str, ...]) -> Data:
    """Call a function of one's own on a copy of a cloud, and check what it returns.

    Args:
        path: The function, called as ``function(data, generator)``. What it draws from torch's, NumPy's or Python's own
            generators follows from ``generator``, too.
        data: The cloud.
        generator: The source of randomness.
        per_cloud: Names of what a cloud has once, whatever its number of points.

    Returns:
        What the function returned; keypoints that are not visible are zeros.

    Raises:
        ValueError: Naming what is missing or of another shape, or not finite; or saying what the function raised.
    """
    function = import_augmentation(path)
    said = f"`{_NAME}` (={path!r})"
    with _seeded(generator):
        try:
            out = function(data.clone(), generator)
        # Whatever the code of the function does.
        except Exception as error:
            raise ValueError(f"{said} failed: {type(error).__name__}, {' '.join(str(error).split())}") from error
    if not isinstance(out, Data):
        raise ValueError(f"{said} must return a Data, returned a {type(out).__name__}")
    if lost := sorted(key for key in data.to_dict() if key not in out):
        raise ValueError(f"{said} must return all that it was given, lost `{lost[0]}`")
    pos = out.pos
    if not isinstance(pos, Tensor) or pos.dim() != 2 or not len(pos) or pos.shape[1:] != data.pos.shape[1:]:
        shape = list(pos.shape) if isinstance(pos, Tensor) else type(pos).__name__
        raise ValueError(f"{said} returned `pos` {shape}, must be [N, {data.pos.shape[1]}] with at least one point")
    for key, value in data.to_dict().items():
        if isinstance(value, Tensor):
            rows = len(pos) if _per_point(key, value, data, per_cloud) else None
            _check_same(said, key, value, out[key], rows)
    if "keypoints" in out and "visible" in out:
        out.keypoints = torch.where(out.visible[..., None], out.keypoints, 0.0)
    for key in ("pos", "keypoints"):
        if key in out and not bool(out[key].isfinite().all()):
            raise ValueError(f"{said} returned `{key}` with numbers that are not finite")
    return out


def _per_point(key: str, value: Tensor, data: Data, per_cloud: tuple[str, ...]) -> bool:
    return key not in per_cloud and value.dim() > 0 and len(value) == data.num_nodes


def _check_same(said: str, key: str, before: Tensor, after: Any, rows: int | None) -> None:
    """Raise unless a tensor has the kind and shape that it had, with this number of rows if one is given."""
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
