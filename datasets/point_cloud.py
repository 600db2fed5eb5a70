"""What a file of points holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PointCloud:
    """A cloud as its file has it. It unpacks as ``points, colors``.

    Args:
        points: `[N, 3]` float64, finite, in the file's own units and frame.
        colors: `[N, 3]` uint8 (r, g, b), or None.
        num_dropped: Number of points of the file that were left out because they are not finite.

    """

    points: NDArray[np.float64]
    colors: NDArray[np.uint8] | None = None
    num_dropped: int = 0

    def __iter__(self) -> Iterator[NDArray[Any] | None]:
        yield self.points
        yield self.colors
