"""Rules that tell labels in another unit, layout or frame, or of pictures of another size, from right ones.

Each holds on all real files that it was tried with, by a wide margin: a rule that refuses a real file is wrong.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.faults import Problem, noting
from pcsa.datasets.images import check_readable, labeled_size
from pcsa.datasets.values import ValueRange

_LEAST_PIXELS = 2.0  # no picture is that small
_MIDDLE = (0.35, 0.65)  # as a share of the picture
_SAMPLE, _FEWEST = 20, 5  # pictures whose headers are read when a dataset opens; with which a middle is one


def check_in_pixels(positions: NDArray[np.floating]) -> None:
    """Raise if all positions, `[..., 2]`, are so small that they must be shares of the picture."""
    if positions.size and np.abs(positions).max() <= _LEAST_PIXELS:
        raise ValueError(
            f"positions (from {positions.min():g} to {positions.max():g}) must be in pixels: these are shares of a "
            "picture"
        )


def check_first_pixel(positions: NDArray[np.floating], one_based: bool) -> None:
    """Raise if whole positions, `[..., 2]`, count from 0 although they are said to count from 1."""
    if one_based and positions.size and positions.min() == 0 and (positions == positions.round()).all():
        raise ValueError("positions (whole numbers, the least 0) count from 0: `one_based` must be false")


def check_inside(positions: NDArray[np.floating], names: Sequence[str], size: tuple[int, int], margin: float) -> None:
    """Raise if a position is farther outside of its picture than a share of the picture's longer side.

    Args:
        positions: `[K, 2]` in pixels from 0, NaN where not visible.
        names: Names of the keypoints.
        size: (width, height) of the picture.
        margin: The share.

    """
    most = margin * max(size)
    for name, (x, y) in zip(names, positions.tolist(), strict=True):
        if not np.isnan(x) and max(-0.5 - x, -0.5 - y, x + 0.5 - size[0], y + 0.5 - size[1]) > most:
            raise ValueError(
                f"`{name}` (={x:g}, {y:g}) must lie in its picture of {size[0]} x {size[1]} pixels: the labels are "
                "those of another picture or size"
            )


def check_middle(positions: Sequence[NDArray[np.floating]], sizes: Sequence[tuple[int, int]]) -> None:
    """Raise unless people, or faces, are in the middle of pictures that were cut out around them.

    Args:
        positions: `[K, 2]` of each picture in pixels, NaN where not visible.
        sizes: (width, height) of each picture.

    """
    if len(positions) < _FEWEST:
        return
    centers = [(np.nanmin(p, 0) + np.nanmax(p, 0)) / 2 / size for p, size in zip(positions, sizes, strict=True)]
    x, y = np.median(centers, 0).tolist()
    if not all(_MIDDLE[0] <= share <= _MIDDLE[1] for share in (x, y)):
        raise ValueError(
            f"the middle of the labels (the median, at {x:.2f} of the width and {y:.2f} of the height of their "
            f"pictures) must be from {_MIDDLE[0]} to {_MIDDLE[1]} of both: the pictures have another size than those "
            "that were labeled"
        )


def check_pictures(
    files: Sequence[Path],
    positions: Sequence[NDArray[np.floating]],
    names: Sequence[str],
    margin: float,
    *,
    of: Path,
    all_files: bool,
    value_range: ValueRange | None = None,
) -> list[Problem]:
    """Compare labels with their pictures, of which the headers are read, or what :func:`check_readable` reads.

    Args:
        files: The pictures.
        positions: `[K, 2]` of each in pixels from 0, NaN where not visible.
        names: Names of the keypoints.
        margin: As for :func:`check_inside`.
        of: What a problem of all pictures is one of.
        all_files: Whether all pictures are met, and that they can be read; otherwise a few, for a quick look.
        value_range: What 0 and 1 stand for in them.

    """
    problems: list[Problem] = []
    step = 1 if all_files else max(1, len(files) // _SAMPLE)
    met, sizes = [], []
    for file, position in zip(files[::step], positions[::step], strict=True):
        with noting(problems, file):
            size = labeled_size(file)
            if all_files:
                check_readable(file, value_range)
            if not np.isnan(position).all():
                met.append(position)
                sizes.append(size)
                check_inside(position, names, size, margin)
    with noting(problems, of):
        check_middle(met, sizes)
    return problems
