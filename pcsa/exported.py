"""Run what ``pcsa export`` wrote, with NumPy, SciPy and ONNX Runtime alone: neither torch nor the rest of pcsa.

The file may be copied out of the package to where only these are installed.

>>> import onnxruntime  # doctest: +SKIP
>>> session = onnxruntime.InferenceSession("bed.onnx")  # doctest: +SKIP
>>> found = run(session, [points])  # a list of arrays [N, 3], in the units of the training clouds  # doctest: +SKIP
>>> found["position"].shape, about(session)["names"]  # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def about(session: Any) -> dict[str, Any]:
    """What a file says of itself: task, names of the keypoints, how they are read, and what is to be searched.

    Args:
        session: An ``onnxruntime.InferenceSession`` of the file.
    """
    found: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map["pcsa"])
    return found


def run(session: Any, clouds: Sequence[Array]) -> dict[str, Array]:
    """Keypoints of clouds ``[N, 3]``, by the names of the graph's outputs; of ``logits``, all clouds' end to end.

    Args:
        session: An ``onnxruntime.InferenceSession`` of a file that ``pcsa export`` wrote of a network on clouds. One
            that searches by itself runs cloud after cloud.
        clouds: The clouds, in the units and the pose of the training's. They may lie far from the origin: what is
            found is float64, as exact as they are.

    Raises:
        ValueError: If there is no cloud, or one is not ``[N, 3]`` with a point, or not finite.
    """
    known = about(session)
    names = [value.name for value in session.get_outputs()]
    if not clouds:
        raise ValueError("`clouds` must have at least one cloud")
    clouds = [_checked(cloud) for cloud in clouds]
    # About the middle of each: graphs are float32.
    middles = [(cloud.min(0) + cloud.max(0)) / 2 for cloud in clouds]
    near = [(cloud - middle).astype(np.float32) for cloud, middle in zip(clouds, middles, strict=True)]
    if known["geometry"] == "inside":
        each = [dict(zip(names, session.run(names, {"points": cloud}), strict=True)) for cloud in near]
        found = {name: np.concatenate([one[name] for one in each]) for name in names}
    else:
        taken = {value.name for value in session.get_inputs()}
        inputs = {name: value for name, value in inputs_of(near, known).items() if name in taken}
        found = dict(zip(names, session.run(names, inputs), strict=True))
    found["position"] = found["position"] + np.stack(middles)[:, None]
    return found


def inputs_of(clouds: Sequence[Array], known: Mapping[str, Any]) -> dict[str, Array]:
    """What a graph takes whose geometry is an input, for clouds ``[N, 3]`` laid end to end.

    Args:
        clouds: The clouds, float32, not far from the origin.
        known: What :func:`about` returned.

    Returns:
        - **points** ``[N, 3]`` of all clouds, **ptr** ``[B + 1]``: where each begins, then N;
        - **bandwidth** ``[N]``: the mean distance to the 3 nearest other places, of the normalized cloud, times the
          ``scale`` of ``bandwidth``, or the ``constant`` one; factors ``[N, 3, 3]`` of covariances along the surface
          where its ``normal`` is below 1;
        - for each level i: **index_i** ``[M]``, the rows of the level below that remain (farthest-point sampled);
          **neighbors_i** ``[M, k]``, rows of the level below, nearest first, and **inside_i** ``[M, k, scales]``,
          whether they are within each radius; **coarse_i** ``[N, 3]`` and **weight_i**, the rows of the level, nearest
          first, that every row of the level below is interpolated from, and by which shares;
        - **coarse_ptr** ``[B + 1]`` of the last level; **around** ``[N, k]``, where the network has local blocks.
    """
    ptr = np.cumsum([0, *map(len, clouds)])
    parts = [_searched(_normalized(cloud, known["frame"]), known) for cloud in clouds]
    levels = known["levels"]
    # Where the rows of each cloud begin, level by level.
    starts = [ptr[:-1]]
    for i in range(len(levels)):
        starts.append(np.cumsum([0, *(len(part[f"index_{i}"]) for part in parts)])[:-1])
    found: dict[str, Array] = {}
    for name in parts[0]:
        kind, _, place = name.partition("_")
        values = [part[name] for part in parts]
        if kind in ("index", "neighbors"):
            values = [value + start for value, start in zip(values, starts[int(place)], strict=True)]
        elif kind == "coarse":
            values = [value + start for value, start in zip(values, starts[int(place) + 1], strict=True)]
        elif kind == "around":
            values = [value + start for value, start in zip(values, starts[0], strict=True)]
        found[name] = np.concatenate(values)
    last = np.cumsum([0, *(len(part[f"index_{len(levels) - 1}"]) for part in parts)])
    points = np.concatenate([np.asarray(cloud, dtype=np.float32) for cloud in clouds])
    return {"points": points, "ptr": ptr.astype(np.int64), "coarse_ptr": last.astype(np.int64), **found}


def farthest(pos: Array, count: int) -> Array:
    """Rows of points that are far from each other, beginning with the first; none twice, of equals the lowest row."""
    nearest = np.full(len(pos), np.inf, dtype=np.float32)
    rows = np.zeros(min(count, len(pos)), dtype=np.int64)
    for i in range(1, len(rows)):
        away = pos - pos[rows[i - 1]]
        nearest = np.minimum(nearest, away[:, 0] ** 2 + away[:, 1] ** 2 + away[:, 2] ** 2)
        nearest[rows[i - 1]] = -1
        rows[i] = nearest.argmax()
    return rows


def _checked(cloud: Array) -> Array:
    cloud = np.asarray(cloud, dtype=np.float64)
    if cloud.ndim != 2 or cloud.shape[1] != 3 or not len(cloud) or not np.isfinite(cloud).all():
        raise ValueError(f"`clouds` must be finite [N, 3] with at least one point each, one is {list(cloud.shape)}")
    return cloud


def _normalized(cloud: Array, frame: str) -> Array:
    cloud = np.asarray(cloud, dtype=np.float64)
    if frame == "unit_sphere":
        offset: Array = cloud.mean(0)
        scale = np.linalg.norm(cloud - offset, axis=1).max()
    else:
        offset, scale = _range(cloud)
        side = np.ptp(cloud, axis=0).max()
        if 2 * scale > 10 * side > 0:
            center = (cloud.min(0) + cloud.max(0)) / 2
            shift, scale = _range(cloud - center)
            offset = center + shift
    scale = scale if scale > 0 else 1.0
    return ((cloud - offset) / scale).astype(np.float32)


def _range(cloud: Array) -> tuple[Array, Any]:
    return np.asarray((cloud.min() + cloud.max()) / 2), (cloud.max() - cloud.min()) / 2


def _searched(pos: Array, known: Mapping[str, Any]) -> dict[str, Array]:
    """The searches in one normalized cloud."""
    found = {"bandwidth": _bandwidth(pos, **known.get("bandwidth", {}))}
    if known["local_neighbors"]:
        found["around"] = _nearest(pos, pos, known["local_neighbors"])[0]
    for i, level in enumerate(known["levels"]):
        count = level["num_samples"]
        index = np.arange(len(pos)) if count is None else farthest(pos, count)
        centers = pos[index]
        neighbors, squared = _nearest(pos, centers, max(level["num_neighbors"]))
        radii = np.array(level["radii"], dtype=np.float32)
        coarse, near = _nearest(centers, pos, 3)
        near = np.maximum(near, np.finfo(np.float32).tiny)
        weight = near[:, :1] / near
        found |= {
            f"index_{i}": index,
            f"neighbors_{i}": neighbors,
            f"inside_{i}": np.sqrt(squared)[..., None] <= radii,
            f"coarse_{i}": coarse,
            f"weight_{i}": weight / weight.sum(1, keepdims=True),
        }
        pos = centers
    return found


def _nearest(points: Array, queries: Array, count: int) -> tuple[Array, Array]:
    """Rows of the nearest points, and squared distances; where there are no more, the nearest again, and infinity."""
    from scipy.spatial import cKDTree

    found = min(count, len(points))
    index = np.asarray(cKDTree(points).query(queries, k=found)[1]).reshape(len(queries), found)
    away = points[index] - queries[:, None]
    squared = away[..., 0] ** 2 + away[..., 1] ** 2 + away[..., 2] ** 2
    index = np.concatenate([index, np.repeat(index[:, :1], count - found, 1)], 1)
    more = np.full((len(queries), count - found), np.inf, dtype=squared.dtype)
    return index.astype(np.int64), np.concatenate([squared, more], 1)


def _bandwidth(pos: Array, constant: float | None = None, scale: float = 1.0, normal: float = 1.0) -> Array:
    """Mean distance to the 3 nearest other places, of which several points may be one; or as a training has it."""
    places, of = np.unique(pos, axis=0, return_inverse=True)
    of = of.reshape(-1)
    squared = _nearest(places, places, 4)[1][:, 1:]
    valid = np.isfinite(squared)
    mean = np.sqrt(np.where(valid, squared, 0)).sum(1) / np.maximum(valid.sum(1), 1)
    floor = max(1e-6 * float(np.linalg.norm(np.ptp(pos, axis=0))), float(np.finfo(np.float32).tiny))
    bandwidth = np.maximum(scale * mean, floor) if constant is None else np.full(len(places), constant)
    if normal < 1:
        bandwidth = bandwidth[:, None, None] * _local_shape(places, normal)
    return bandwidth.astype(np.float32)[of]


def _local_shape(places: Array, normal: float, count: int = 12) -> Array:
    """Factors ``[N, 3, 3]`` of covariances that are ``normal`` wide across the surface and 1 along it."""
    index, squared = _nearest(places, places, count + 1)
    near = np.where(np.isfinite(squared)[..., None], places[index].astype(float) - places[:, None], 0)
    number = np.isfinite(squared).sum(1)[:, None, None]
    mean = near.sum(1, keepdims=True) / number
    variance, directions = np.linalg.eigh(near.swapaxes(1, 2) @ near / number - mean.swapaxes(1, 2) * mean)
    widest = variance[:, -1:]
    share = np.divide(variance, widest, out=np.ones_like(variance), where=widest > 0).clip(0)
    least = share[:, :1]
    along = np.maximum((10 * (share - least)).clip(max=1), (2 * least - 1).clip(0))
    square = normal**2 + (1 - normal**2) * along
    return np.linalg.cholesky((directions * square[:, None]) @ directions.swapaxes(1, 2))
