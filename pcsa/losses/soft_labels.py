"""Cross-entropy of the map with a distribution around the target."""

import functools
import math
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import check_floating, check_positive, check_shape, raise_first, reads_values
from pcsa._core.points import Points, cloud_log_softmax, cloud_sum
from pcsa.losses.arguments import Clouds, Keypoints, Logits, Options, Positions, Target, map_of
from pcsa.losses.geometry import offsets

# Of a distance over the standard deviation: its square stays finite in float32, a Gaussian is 0 long before.
_FAR = 1e15


def soft_label_cross_entropy(
    logits: Logits,
    pos: Positions,
    sigma: float,
    target: Target | None = None,
    batch: Clouds | None = None,
    *,
    target_distance: Float[Tensor, "*N K"] | None = None,
    subtract_entropy: bool = False,
    **options: Unpack[Options],
) -> Tensor:
    r"""Cross-entropy of the map with a Gaussian around the target, :math:`-\sum_i q_i \log \pi_i`.

    :math:`q_i \propto e^{-d_i^2 / 2\sigma^2}` is normalized over the points of the cloud, with the distance
    :math:`d_i` of point i from the target: Euclidean, or any other that is given as ``target_distance``, such as
    :func:`pcsa.metrics.geodesic_distances` of an annotated point along the surface. It says that a neighbor of the
    annotated point is nearly as right, as annotations are no more exact than their spread. As :math:`\sigma` goes to 0,
    its gradient becomes that of :func:`nearest_point_cross_entropy`.

    The gradient to the logits is :math:`\pi - q`. Differentiable in ``logits`` only: q is a constant.

    Args:
        logits: Scores before softmax.
        pos: Positions of the points.
        sigma: Standard deviation of the Gaussian, in the units of ``pos``; positive.
        target: True positions; not read where ``target_distance`` is given.
        batch: Cloud of each point.
        target_distance: Distance of each point from each keypoint's true position ``[N, K]``, dense ``[B, N, K]``, in
            the units of ``pos`` and at least 0, in place of ``target``; infinite where no path leads. A keypoint
            that is not visible may have any values, NaN too.
        subtract_entropy: Subtract the entropy of q, which makes it the Kullback-Leibler divergence
            :math:`D_{KL}(q \,\|\, \pi)`: the same gradient, and 0 where the map is right.
        **options: ``ptr``, ``mask``, ``batch_size``, ``temperature``, ``visible``, ``reduction`` and ``validate``, see
            :class:`pcsa.losses.Options`.

    Example:
        >>> pos = torch.tensor([[0.0], [1.0], [50.0]])  # half of the label lies on each of the first two
        >>> loss = soft_label_cross_entropy(torch.zeros(3, 1), pos, 1.0, torch.tensor([[[0.5]]]))
        >>> round(loss.exp().item(), 4)
        3.0
    """
    check_positive("sigma", sigma)
    if (target is None) == (target_distance is None):
        raise ValueError("`target` and `target_distance` say the same thing: give exactly one of them")
    points, keypoints = map_of(logits, pos, None, batch, **options)
    with torch.no_grad():
        if target_distance is not None:
            check_floating("target_distance", target_distance)
            check_shape("target_distance", target_distance, logits.shape)
            score = _given(target_distance.reshape(points.logits.shape).to(points.logits.dtype), points, keypoints)
            score = (score / sigma).clamp(max=_FAR).square() / -2
        elif target is not None:
            away = offsets(points, keypoints.known(target, points))
            score = functools.reduce(torch.add, ((x / sigma).clamp(-_FAR, _FAR).square() for x in away)) / -2
        log_label = cloud_log_softmax(score.masked_fill(points.logits == -math.inf, -math.inf), points)
        # Points that a mask switches off are at -inf here and in the map; a finite floor makes them 0 · 0.
        log_label = log_label.clamp(min=-1e30)
        label = log_label.exp()
    loss = -label * cloud_log_softmax(points.logits, points).clamp(min=-1e30)
    if subtract_entropy:
        loss = loss + label * log_label
    return keypoints.reduce(cloud_sum(loss, points))


def _given(distance: Tensor, points: Points, keypoints: Keypoints) -> Tensor:
    """Distances with zeros in place of what is not visible or does not exist."""
    unused = points.logits == -math.inf
    if keypoints.visible is not None:
        unused = unused | ~keypoints.visible.index_select(0, points.batch)
    distance = distance.masked_fill(unused, 0.0)
    if reads_values(keypoints.validate):
        raise_first([((distance >= 0).all(), "`target_distance` must be at least 0 wherever `visible`: others found")])
    return distance
