"""Reading a trained probability map: where the keypoint is, and how sure that is."""

import math
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.balls import best_ball, check_centers, heaviest_point, mass_within, squared_distance
from pcsa._core.checks import (
    check_floating,
    check_one_of,
    check_positive,
    check_temperature,
    raise_first,
    reads_values,
)
from pcsa._core.median import geometric_median
from pcsa._core.places import first_in_place
from pcsa._core.points import (
    Points,
    bandwidth_of,
    canonical,
    cloud_log_softmax,
    cloud_logsumexp,
    cloud_max,
    cloud_mean,
    cloud_softmax,
    cloud_sum,
    first_maximum,
    full_precision,
    tempered,
)
from pcsa._core.triangular import (
    axis_deviations,
    covariance_columns,
    lower_entries,
    precision_columns,
    solve,
    symmetric_times,
)

ReadOut = Literal["expectation", "peak", "local", "mode", "median", "ball", "ball_point"]
NEED_RADIUS: tuple[ReadOut, ...] = ("ball", "ball_point")
"""Read-outs that have no radius by default."""

_MODE_STARTS = 4
_MODE_STEPS = 30


class Localization(NamedTuple):
    """What :func:`pcsa.localize` returns; units and frame are those of ``pos``."""

    position: Float[Tensor, "B K D"]
    covariance: Float[Tensor, "B K D D"]
    peak: Float[Tensor, "B K"]
    entropy: Float[Tensor, "B K"]
    index: Int[Tensor, "B K"]  # type: ignore[assignment]  # hides tuple.index, as torch.return_types do
    confidence: Float[Tensor, "B K"]


@torch.no_grad()
def localize(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    bandwidth: float | Float[Tensor, ""] | Float[Tensor, "*N"] | Float[Tensor, "*N D"] | Float[Tensor, "*N D D"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    temperature: float = 1.0,
    read_out: ReadOut = "expectation",
    radius: float | Float[Tensor, " B"] | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    validate: bool = True,
) -> Localization:
    r"""Position and certainty of every keypoint from the scores of a trained network.

    The map is read as the mixture :math:`p(y) = \sum_i \pi_i \mathcal N(y; y_i, \sigma_i^2 I)` with
    :math:`\pi = \mathrm{softmax}(\ell / \tau)` over the points of one cloud (`"Localization with Sampling-Argmax"
    <https://arxiv.org/abs/2110.08825>`_, Eq. 5 and 9). Its position is one of

    - ``"expectation"``: :math:`\sum_i \pi_i y_i`, as :func:`pcsa.soft_argmax`;
    - ``"peak"``: the most probable point;
    - ``"local"``: the expectation over the ball of ``radius`` around the most probable point, which a second,
      far-away peak (a symmetric part) does not pull away;
    - ``"mode"``: where the mixture is densest, climbed to by mean shift from the places of the highest bases
      (:math:`\pi_i / \sigma_i^D`) that lie at least two bandwidths apart;
    - ``"median"``: the geometric median, which has the smallest mean distance :math:`\sum_i \pi_i \lVert y_i - y
      \rVert`;
    - ``"ball"``: the place, at a point or between points, whose ball of ``radius`` holds the most probability;
    - ``"ball_point"``: the same among the points.

    Each is the best decision for another metric: the expectation for the squared error, the median for the mean
    distance, ball for the share of keypoints nearer than ``radius`` to the truth (PCK), ball_point for that share where
    only points will do, as by geodesic distance. For other metrics they are worse, so report several.

    Median is `Weiszfeld's iteration as Vardi and Zhang complete it <https://doi.org/10.1073/pnas.97.4.1423>`_, of 48
    steps; its mean distance exceeds the smallest by less than 1 % (in trials 0.4 % at most, mostly below 0.01 %).

    Ball is found by branch and bound over cells of centers about the 64 most probable points; on a line, exactly. It
    holds no less than any ball of 0.985 ``radius`` does (but for the probability outside of the 512 most probable
    points) where it holds more than all points beyond the 64 together and no level has more than 32 cells that could
    hold more still: so it is on the map of a trained network with a radius of a few spacings, as PCK has. On a flat
    map, or with hundreds of points within the radius, the search keeps the most promising cells; that missed up to 0.03
    of probability in trials. It never holds less than the ball about any of the 64.

    Of the places that hold the same points, ball takes the mean of these points, moved no farther than needed to have
    all of them inside by a margin of 1.5 %. What the search counts on lies inside by at least 0.1 % of the radius, so
    that rounding loses none of it. Ball_point is exact.

    Several points in exactly the same place are several points: their probabilities and the heights of their bases
    add up in expectation and mode, and each has its own where the most probable *point* counts.

    Not differentiable: train through :func:`pcsa.sampling_argmax` or :func:`pcsa.soft_argmax`.

    Args:
        logits: Raw scores, before softmax: ragged ``[N, K]`` or dense ``[B, N, K]``.
        pos: Positions ``[N, D]`` or ``[B, N, D]``.
        bandwidth: Standard deviation of each point's basis, or a matrix for each, as in :func:`pcsa.sampling_argmax`.
        batch: Cloud of each point, sorted, for ragged input; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        temperature: Divides the logits. Default 1.
        read_out: One of those above. Default ``"expectation"``.
        radius: Radius of the ball, in the units of ``pos``: a number, or ``[B]``, one for each cloud. Needed by
            ``"ball"`` and ``"ball_point"``; for ``"local"`` the default is three bandwidths (the mean over the axes) of
            the most probable point; to the others it is for the confidence alone.
        mask: True at the points of dense input that exist.
        batch_size: Number of clouds; see :func:`pcsa.sampling_argmax`.
        validate: Check values too. Without it, as for :func:`pcsa.soft_argmax`: what is found of a map of −inf alone
            or of a cloud without points means nothing.

    Returns:
        A named tuple of

        - **position** ``[B, K, D]``,
        - **covariance** ``[B, K, D, D]`` of the mixture around its expectation, whatever the read-out,
        - **peak** ``[B, K]``: the largest probability :math:`\max_i \pi_i`,
        - **entropy** ``[B, K]`` of :math:`\pi` in nats,
        - **index** ``[B, K]`` of the most probable point: a row of ``pos`` (dense: its place along N),
        - **confidence** ``[B, K]``: the probability at less than ``radius`` from the position (see
          :func:`pcsa.ball_mass`), the chance that the map itself gives the keypoint of being right; without a
          ``radius`` the peak.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> pos = torch.tensor([[0.0], [1.0], [10.0]])
        >>> logits = torch.tensor([[0.5], [0.4], [0.1]]).log()
        >>> localize(logits, pos, 1.0).position
        tensor([[[1.4000]]])
        >>> localize(logits, pos, 1.0, read_out="local").position
        tensor([[[0.4444]]])
        >>> found = localize(logits, pos, 1.0, read_out="ball", radius=0.6)
        >>> found.position, found.confidence
        (tensor([[[0.4444]]]), tensor([[0.9000]]))
    """
    check_temperature(temperature)
    check_one_of("read_out", read_out, get_args(ReadOut))
    if radius is None and read_out in NEED_RADIUS:
        raise ValueError(f"`radius` (=None) must be given with `read_out` {read_out!r}")
    points = canonical(
        logits, pos, bandwidth, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate, near=True
    )
    reach = None if radius is None else _radii(radius, points, validate)
    with full_precision(logits):
        log_prob = cloud_log_softmax(tempered(points, temperature), points)
        prob = log_prob.exp()
        mean = cloud_mean(prob, points.pos, points)
        best = first_maximum(log_prob, points)
        if read_out == "expectation":
            position = mean
        elif read_out == "peak":
            position = points.pos[best]
        elif read_out == "local":
            position = _local_expectation(prob, best, reach, points)
        elif read_out == "mode":
            position = _mixture_mode(log_prob, points)
        elif read_out == "median":
            position = geometric_median(prob, points)
        else:
            assert reach is not None
            place = heaviest_point if read_out == "ball_point" else best_ball
            position = place(prob, reach, points)
        peak = cloud_max(prob, points)
        surprise = torch.where(prob > 0, log_prob, 0.0)
        start = points.ptr[:-1, None] if logits.dim() == 3 else 0
        return Localization(
            position=points.outside(position),
            covariance=_covariance(prob, mean, points),
            peak=peak,
            entropy=-cloud_sum(prob * surprise, points),
            index=best - start,
            confidence=peak if reach is None else mass_within(prob, position, reach, points),
        )


@torch.no_grad()
def ball_mass(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    center: Float[Tensor, "B K D"],
    radius: float | Float[Tensor, " B"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    temperature: float = 1.0,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    validate: bool = True,
) -> Float[Tensor, "B K"]:
    r"""Probability that the map of each keypoint gives to the ball about a place.

    .. math:: \sum_{i : \lVert y_i - c \rVert < r} \pi_i, \qquad \pi = \mathrm{softmax}(\ell / \tau)

    If the map is right, that is how often a keypoint read as ``center`` lies nearer than ``radius`` to the truth: the
    expected PCK. Exactly at ``radius`` is outside, as for :func:`pcsa.metrics.pck`. Not differentiable.

    Args:
        logits: Raw scores, before softmax: ragged ``[N, K]`` or dense ``[B, N, K]``.
        pos: Positions ``[N, D]`` or ``[B, N, D]``.
        center: Places ``[B, K, D]``, in the units and frame of ``pos``.
        radius: Radius in the units of ``pos``: a number, or ``[B]``, one for each cloud.
        batch: Cloud of each point, sorted, for ragged input; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        temperature: Divides the logits. Default 1.
        mask: True at the points of dense input that exist.
        batch_size: Number of clouds; see :func:`pcsa.sampling_argmax`.
        validate: Check values too.

    Returns:
        Probability ``[B, K]``.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> pos = torch.tensor([[0.0], [1.0], [10.0]])
        >>> logits = torch.tensor([[0.5], [0.4], [0.1]]).log()
        >>> ball_mass(logits, pos, torch.tensor([[[0.5]]]), 0.6)
        tensor([[0.9000]])
    """
    check_temperature(temperature)
    points = canonical(logits, pos, None, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    check_centers(center, points, validate)
    with full_precision(logits):
        prob = cloud_softmax(tempered(points, temperature), points)
        return mass_within(prob, center.to(prob.dtype), _radii(radius, points, validate), points)


def _radii(radius: float | Tensor, points: Points, validate: bool) -> Tensor:
    """Radius of every cloud [B], checked."""
    if not isinstance(radius, Tensor):
        check_positive("radius", radius)
        return points.pos.new_full((points.batch_size,), radius)
    check_floating("radius", radius)
    if radius.shape not in ((), (points.batch_size,)) or radius.device != points.pos.device:
        raise ValueError(
            f"`radius` {list(radius.shape)} (on {radius.device}) must be a number or [{points.batch_size}], one for "
            f"each cloud, on the device of the points ({points.pos.device})"
        )
    if reads_values(validate):
        good = (radius > 0) & radius.isfinite()
        raise_first([(good.all(), "`radius` must be positive and finite everywhere")])
    return radius.to(points.pos.dtype).expand(points.batch_size)


def _covariance(prob: Tensor, mean: Tensor, points: Points) -> Tensor:
    D = points.pos.shape[1]
    away = [points.pos[:, d : d + 1] - mean[..., d].index_select(0, points.batch) for d in range(D)]
    # Entries of the lower triangle, put together at the end: what is written into a view is lost in an ONNX graph.
    entry = {(d, e): cloud_sum(prob * away[e] * away[d], points) for d, e in lower_entries(D)}
    bandwidth = bandwidth_of(points)
    if bandwidth.dim() == 3:
        basis = cloud_mean(prob, covariance_columns(bandwidth), points)
        for column, (d, e) in zip(basis.unbind(-1), lower_entries(D), strict=True):
            entry[d, e] = entry[d, e] + column
    else:
        spread = cloud_mean(prob, bandwidth.square(), points).expand(*mean.shape)
        for d in range(D):
            entry[d, d] = entry[d, d] + spread[..., d]
    rows = [torch.stack([entry[max(d, e), min(d, e)] for e in range(D)], -1) for d in range(D)]
    return torch.stack(rows, -2)


def _local_expectation(prob: Tensor, best: Tensor, radius: Tensor | None, points: Points) -> Tensor:
    own = 3.0 * axis_deviations(bandwidth_of(points)).mean(1)[best]
    near = own if radius is None else radius[:, None].expand_as(own)
    inside = squared_distance(points.pos[best], points) <= near.square().index_select(0, points.batch)
    weight = prob * inside
    return cloud_mean(weight, points.pos, points) / cloud_sum(weight, points).unsqueeze(-1)


def _place_sum(score: Tensor, points: Points) -> Tensor:
    """Logarithm of the sum of the exponentials ``[N, K]`` over the points in the same place, for each of them."""
    first = first_in_place(points.pos, points.batch)
    place = first[:, None].expand_as(score)
    # Finite where a mask switches off: -inf less -inf is NaN.
    lowest = torch.full_like(score, torch.finfo(score.dtype).min)
    top = lowest.scatter_reduce(0, place, score, "amax").index_select(0, first)
    total = torch.zeros_like(score).index_add(0, first, (score - top).exp())
    return total.index_select(0, first).log() + top


def _mixture_mode(log_prob: Tensor, points: Points) -> Tensor:
    bandwidth = bandwidth_of(points)
    oriented = bandwidth.dim() == 3
    along = bandwidth.diagonal(dim1=1, dim2=2) if oriented else bandwidth.expand_as(points.pos)
    volume, deviation = along.log().sum(1, keepdim=True), axis_deviations(bandwidth)

    def log_terms(y: Tensor) -> Tensor:
        return log_prob - volume - 0.5 * squared_distance(y, points, bandwidth)

    score = _place_sum(log_prob - volume, points)  # how high the bases of each place stand on their own
    position = points.pos[first_maximum(score, points)]
    density = torch.full_like(position[..., 0], -math.inf)
    precision = precision_columns(bandwidth) if oriented else bandwidth.square().reciprocal()
    pulls = symmetric_times(precision, points.pos) if oriented else points.pos * precision
    for _ in range(_MODE_STARTS):
        start = first_maximum(score, points)
        y = points.pos[start]
        reach = 4.0 * deviation.mean(1)[start].square()
        score.masked_fill_(squared_distance(y, points) <= reach.index_select(0, points.batch), -math.inf)
        for _ in range(_MODE_STEPS):
            terms = log_terms(y)
            weight = (terms - cloud_max(terms, points).index_select(0, points.batch)).exp_()
            pull, total = cloud_mean(weight, pulls, points), cloud_mean(weight, precision, points)
            y = solve(total, pull) if oriented else pull / total
        reached = cloud_logsumexp(log_terms(y), points)
        better = reached > density
        position = torch.where(better.unsqueeze(-1), y, position)
        density = torch.where(better, reached, density)
    return position
