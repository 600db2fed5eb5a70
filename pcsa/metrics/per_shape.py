"""Lists with one array per shape, checked, and nearest points: what the scores without labels stand on.

Those scores take NumPy arrays or tensors on any device, compute on the CPU in float64 and are not differentiable.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

TensorOrArray = Tensor | npt.NDArray[Any]
PerShape = Sequence[TensorOrArray] | TensorOrArray
"""One array for each shape, or all of them stacked."""


def matched(**lists: PerShape) -> list[tuple[npt.NDArray[np.float64], ...]]:
    """Arrays ``[k, D]`` of each shape, in float64; raise unless all lists have the same shapes and the same D."""
    columns: list[list[npt.NDArray[np.float64]]] = []
    for name, arrays in lists.items():
        listed = list(arrays)
        if len(listed) == 0:
            raise ValueError(f"`{name}` has no shape: there is nothing to compute a score from")
        if columns and len(listed) != len(columns[0]):
            raise ValueError(f"`{name}` (of {len(listed)} shapes) must be of {len(columns[0])}, as the other arguments")
        columns.append([])
        for i, value in enumerate(listed):
            array = np.asarray(value.detach().cpu().double() if isinstance(value, Tensor) else value)
            if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiu":
                raise ValueError(
                    f"`{name}` of shape {i} ({array.dtype} {list(array.shape)}) must be numbers [k, D], at least one "
                    "point"
                )
            columns[-1].append(array.astype(np.float64))
            D = columns[0][0].shape[1]
            if array.shape[1] != D:
                raise ValueError(f"`{name}` of shape {i} {list(array.shape)} must have D={D}, as the other arrays")
            if not np.isfinite(array).all():
                raise ValueError(f"`{name}` of shape {i} must be finite")
    return list(zip(*columns, strict=True))


def squared_distances(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Squared distance of every row of ``a`` to every row of ``b``."""
    return ((a[:, None] - b[None]) ** 2).sum(axis=-1)


def nearest(
    cloud: npt.NDArray[np.float64], query: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Distance of every row of ``query`` to the nearest point of the cloud, and that point's row."""
    from scipy.spatial import cKDTree

    distance, index = cKDTree(cloud).query(query)
    return np.asarray(distance), np.asarray(index, dtype=np.int64)
