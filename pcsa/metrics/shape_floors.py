"""Floors that look at the shape: what is known without any learning, by moving training shapes onto a cloud."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import check_floating, check_mask
from pcsa.metrics.per_shape import PerShape, TensorOrArray, nearest
from pcsa.metrics.registration import FINE, Array, Placed, Registration, best_motion, registered

# A motion of landmarks has to be known; fewer leave it open.
_LEAST = 3
_ROUNDS = 100
# Points of the mean cloud, about.
_POINTS = 4096


class MeanShape(NamedTuple):
    """What training shapes have in common, from :func:`mean_shape`.

    Attributes:
        keypoints: Mean place of each keypoint, float64; NaN for one that no shape has.
        cloud: Points of all shapes, moved with their keypoints onto the mean; float64.
    """

    keypoints: Float[Tensor, "K 3"]
    cloud: Float[Tensor, "M 3"]


class NearestShape(NamedTuple):
    """Keypoints of the training shape that fits best, from :func:`nearest_shape_keypoints`.

    Attributes:
        keypoints: Where the keypoints of that shape come to lie, float64; NaN for one that no shape has.
        which: Number of the shape that gave each; -1 for one that no shape has.
        residual: How well each shape fits, see :class:`pcsa.metrics.Registration`; in the units of the cloud.
        mirrored: Which shapes were mirrored for it.
    """

    keypoints: Float[Tensor, "K 3"]
    which: Int[Tensor, " K"]
    residual: Float[Tensor, " n"]
    mirrored: Bool[Tensor, " n"]


class TrainingShapes:
    """Annotated shapes that are moved onto many clouds: their trees are built once.

    Args:
        keypoints: Annotated positions, each shape's in the frame of its cloud; may hold anything where not visible.
        visible: Which keypoints each shape has.
        clouds: Points of each shape.

    Shapes:
        - **keypoints:** :math:`(n, K, 3)`
        - **visible:** :math:`(n, K)`
        - **clouds:** n times :math:`(N_i, 3)`

    Raises:
        ValueError: If there is no shape, shapes do not fit, a position is not finite, or all points of a cloud are
            equal.
    """

    def __init__(self, keypoints: Float[Tensor, "n K 3"], visible: Bool[Tensor, "n K"], clouds: PerShape) -> None:
        check_floating("keypoints", keypoints)
        if keypoints.ndim != 3 or keypoints.shape[2] != 3 or 0 in keypoints.shape:
            raise ValueError(f"`keypoints` {list(keypoints.shape)} must be [n, K, 3], of one shape or more")
        check_mask("visible", visible, keypoints.shape[:2])
        if len(clouds) != len(keypoints):
            raise ValueError(f"`clouds` (of {len(clouds)} shapes) must be of {len(keypoints)}, as `keypoints`")
        self.visible = visible.detach().cpu().numpy()
        places = keypoints.detach().cpu().double().numpy()
        if not np.isfinite(places[self.visible]).all():
            raise ValueError("`keypoints` must be finite where visible")
        self.keypoints = np.where(self.visible[..., None], places, 0.0)
        self.clouds = [Placed.of(f"clouds[{i}]", cloud) for i, cloud in enumerate(clouds)]

    def nearest(
        self, cloud: TensorOrArray, *, scaled: bool = True, mirrored: bool = False, snap: bool = False
    ) -> NearestShape:
        """See :func:`nearest_shape_keypoints`."""
        target = Placed.of("cloud", cloud)
        found = [registered(source, target, scaled=scaled, mirrored=mirrored) for source in self.clouds]
        residual = torch.tensor([r.residual for r in found], dtype=torch.float64)
        K = self.visible.shape[1]
        places, index = np.full((K, 3), np.nan), np.full(K, -1)
        for i in reversed(residual.argsort(stable=True).tolist()):
            index[self.visible[i]] = i
        flipped = torch.tensor([r.mirrored for r in found])
        for i in set(index.tolist()) - {-1}:
            # Which one fits best, a part of the points says; where it lies, more of them do.
            motion = registered(self.clouds[i], target, scaled=scaled, mirrored=found[i].mirrored, count=FINE)
            places[index == i], flipped[i] = _moved(motion, self.keypoints[i, index == i]), motion.mirrored
        return NearestShape(
            torch.from_numpy(_snapped(places, cloud) if snap else places),
            torch.from_numpy(index),
            residual,
            flipped,
        )

    def mean(self, *, scaled: bool = True, mirrored: bool = False) -> MeanShape:
        """See :func:`mean_shape`."""
        enough = [i for i in range(len(self.clouds)) if self.visible[i].sum() >= _LEAST]
        if not enough:
            raise ValueError(f"`visible` must have a shape with {_LEAST} keypoints: its motion is open with fewer")
        first = max(enough, key=lambda i: (self.visible[i].sum(), -i))
        mean, known = self.keypoints[first].copy(), self.visible[first].copy()
        motions: dict[int, tuple[Array, Array]] = {}
        for _ in range(_ROUNDS):
            motions = {
                i: _onto(self.keypoints[i], mean, self.visible[i] & known, scaled, mirrored)
                for i in enough
                if (self.visible[i] & known).sum() >= _LEAST
            }
            moved = np.stack([self.keypoints[i] @ linear.T + offset for i, (linear, offset) in motions.items()])
            count = self.visible[list(motions)].sum(axis=0)
            before, mean = mean, (moved * self.visible[list(motions)][..., None]).sum(0) / np.maximum(count, 1)[:, None]
            # Means of what is turned are smaller: they would shrink from round to round.
            sizes = [np.cbrt(abs(np.linalg.det(linear))) for linear, _ in motions.values()]
            growth = float(np.exp(-np.mean(np.log(sizes))))
            middle = mean[count > 0].mean(axis=0)
            mean = np.where(count[:, None] > 0, (mean - middle) * growth + middle, 0.0)
            same, known = np.array_equal(known, count > 0), count > 0
            if same and np.abs(mean - before).max() <= 1e-9 * np.abs(mean[known] - middle).max():
                break
        each = -(-_POINTS // len(motions))
        parts = []
        for i, (linear, offset) in motions.items():
            source = self.clouds[i]
            parts.append((source.some(each) * source.size + source.center) @ linear.T + offset)
        places = np.where(known[:, None], mean, np.nan)
        return MeanShape(torch.from_numpy(places), torch.from_numpy(np.concatenate(parts)))


def mean_shape(
    keypoints: Float[Tensor, "n K 3"],
    visible: Bool[Tensor, "n K"],
    clouds: PerShape,
    *,
    scaled: bool = True,
    mirrored: bool = False,
) -> MeanShape:
    r"""Mean of annotated shapes after they are aligned: generalized Procrustes analysis of their keypoints.

    `Gower, 1975 <https://doi.org/10.1007/BF02291478>`_: each shape is moved onto the mean by its keypoints, and the
    mean taken again, until it stays. Of keypoints that some shapes lack the others have the mean. Shapes with fewer
    than three keypoints are left out. Place it on another cloud by :func:`mean_shape_keypoints`.

    Args:
        keypoints: Annotated positions of training shapes, in the frames of their clouds: shapes may lie in any way.
            May hold anything where not visible.
        visible: Which keypoints each shape has.
        clouds: Points of each shape.
        scaled: Whether shapes are brought to one size, the geometric mean of theirs.
        mirrored: Whether shapes may be mirrored where they fit better so, as left and right bones do: keypoints keep
            their names. Not for shapes that have a left and a right side themselves: the names would change sides.

    Returns:
        :class:`MeanShape`, in the frame of one of the shapes and in their units. Not differentiable.

    Shapes:
        - **keypoints:** :math:`(n, K, 3)`
        - **visible:** :math:`(n, K)`
        - **clouds:** n times :math:`(N_i, 3)`

    Raises:
        ValueError: As :class:`TrainingShapes`, or if no shape has three keypoints.
    """
    return TrainingShapes(keypoints, visible, clouds).mean(scaled=scaled, mirrored=mirrored)


def mean_shape_keypoints(
    shape: MeanShape, cloud: TensorOrArray, *, scaled: bool = True, mirrored: bool = False, snap: bool = False
) -> Float[Tensor, "K 3"]:
    r"""Floor: the mean of the training shapes, placed on a cloud by :func:`pcsa.metrics.register_cloud`.

    It looks at the cloud, and at no keypoint of it. A detector has to know more than where a shape lies.

    Args:
        shape: From :func:`mean_shape`.
        cloud: Points of another shape, in any frame.
        scaled: Whether the mean may take the size of the cloud.
        mirrored: Whether it may be mirrored; see :func:`mean_shape`.
        snap: Whether keypoints move to the nearest point of the cloud.

    Returns:
        Positions, float64, in the frame and units of ``cloud``; NaN for a keypoint that no training shape has. Not
        differentiable.

    Shapes:
        - **cloud:** :math:`(N, 3)`
        - **output:** :math:`(K, 3)`

    Raises:
        ValueError: If shapes do not fit, a position is not finite, or all points of the cloud are equal.

    Example:
        >>> cloud = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1]])
        >>> mean = mean_shape(cloud[None, :3], torch.ones(1, 3, dtype=torch.bool), [cloud])
        >>> mean_shape_keypoints(mean, cloud[:, [1, 2, 0]] + 5).round(decimals=6)
        tensor([[5., 5., 5.],
                [5., 5., 8.],
                [7., 5., 5.]], dtype=torch.float64)
    """
    clouds = Placed.of("shape.cloud", shape.cloud), Placed.of("cloud", cloud)
    motion = registered(*clouds, scaled=scaled, mirrored=mirrored, count=FINE)
    places = _moved(motion, shape.keypoints.numpy())
    return torch.from_numpy(_snapped(places, cloud) if snap else places)


def nearest_shape_keypoints(
    keypoints: Float[Tensor, "n K 3"],
    visible: Bool[Tensor, "n K"],
    clouds: PerShape,
    cloud: TensorOrArray,
    *,
    scaled: bool = True,
    mirrored: bool = False,
    snap: bool = False,
) -> NearestShape:
    r"""Floor: the keypoints of the training shape that fits a cloud best.

    Each training cloud is moved onto the cloud by :func:`pcsa.metrics.register_cloud`; the one with the smallest
    residual gives its keypoints. What that shape lacks comes from the next best that has it. For many clouds,
    :class:`TrainingShapes` builds the trees once: about 0.1 s for each training shape and cloud.

    Args:
        keypoints: As for :func:`mean_shape`.
        visible: As there.
        clouds: As there.
        cloud: Points of another shape, in any frame.
        scaled: Whether training shapes may change their size.
        mirrored: Whether they may be mirrored; see :func:`mean_shape`.
        snap: Whether keypoints move to the nearest point of the cloud.

    Returns:
        :class:`NearestShape`, in the frame and units of ``cloud``. Not differentiable.

    Shapes:
        - **keypoints:** :math:`(n, K, 3)`
        - **visible:** :math:`(n, K)`
        - **clouds:** n times :math:`(N_i, 3)`
        - **cloud:** :math:`(N, 3)`

    Raises:
        ValueError: As :class:`TrainingShapes`, also for ``cloud``.
    """
    shapes = TrainingShapes(keypoints, visible, clouds)
    return shapes.nearest(cloud, scaled=scaled, mirrored=mirrored, snap=snap)


def _onto(places: Array, mean: Array, both: npt.NDArray[np.bool_], scaled: bool, mirrored: bool) -> tuple[Array, Array]:
    """What moves the keypoints of a shape onto those of the mean, of which both have some."""
    a, b = places[both], mean[both]
    weights = np.full(len(a), 1 / len(a))
    found = []
    for side in (np.eye(3), np.diag([-1.0, 1.0, 1.0]))[: 1 + mirrored]:
        linear, offset = best_motion(a @ side, b, weights, None if scaled else 1.0)
        linear = linear @ side
        found.append((float(((a @ linear.T + offset - b) ** 2).sum()), linear, offset))
    _, linear, offset = min(found, key=lambda f: f[0])
    return linear, offset


def _moved(motion: Registration, places: Array) -> Array:
    return motion.move(torch.from_numpy(places)).numpy()


def _snapped(places: Array, cloud: TensorOrArray) -> Array:
    points = np.asarray(cloud.detach().cpu().double() if isinstance(cloud, Tensor) else cloud, dtype=np.float64)
    known = np.isfinite(places).all(axis=1)
    out = places.copy()
    if known.any():
        out[known] = points[nearest(points, places[known])[1]]
    return out
