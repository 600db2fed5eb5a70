"""Covariances and mixtures that a detector predicts, held against the places that several people marked."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

import pcsa
from pcsa import losses, metrics
from pcsa.datasets.transforms import Normalize, denormalize
from pcsa.metrics.ellipsoids import LEVELS
from pcsa.tasks.common.config import FROM_NEIGHBORS, BandwidthConfig
from pcsa.tasks.common.cross_fitting import PARTS
from pcsa.tasks.common.objective import point_bandwidth

FACTORS = tuple(2.0 ** (k / 2) for k in range(-4, 13))
"""How many times as large the covariance of a mixture may be made: 1/4 to 64, in steps of the root of 2."""
_AS_IT_IS = FACTORS.index(1.0)
ROWS = {
    "predicted": "as predicted",
    "calibrated": "calibrated",
    "constant": "a constant one",
    "constant_per_keypoint": "a constant one for each keypoint",
    "mixture": "the mixture as predicted",
    "mixture_calibrated": "the mixture, calibrated",
}
"""What is compared, with its title."""


class Held(NamedTuple):
    """Marks beside what is predicted of the same shapes, in their own units, float64."""

    away: Tensor
    """Marks less the predicted position, ``[n, K, M, 3]``."""
    marked: Tensor
    """Which of them there are, ``[n, K, M]``."""
    covariance: Tensor
    """Second moment of the mixture about the predicted position, ``[n, K, 3, 3]``."""
    mixture: Tensor
    """Mean log-likelihood of a keypoint's marks under the mixture by factor, summed over the keypoints, ``[n, F]``."""


@torch.inference_mode()
def hold(cloud: Data, logits: Tensor, position: Tensor, frame: str, bases: BandwidthConfig = FROM_NEIGHBORS) -> Held:
    r"""Hold what is predicted of one cloud against its marks.

    The covariance is that of the mixture, the spread of the map and of its bases, and what a read-out other than the
    expectation is away from it: :math:`C + (\mu - p)(\mu - p)^\top`, the second moment about the position p. By a
    factor f, the mixture is widened about its expectation, to the covariance f C.

    Args:
        cloud: With ``marks [1, K, M, 3]`` and ``marked``; those of keypoints that are not visible do not count.
        logits: Its maps ``[N, K]``.
        position: Where the keypoints are said to be, ``[K, 3]``, in the units of the cloud.
        frame: See :class:`pcsa.datasets.transforms.Normalize`.
        bases: How wide the bases are: as in the training, for it is that mixture which is held to the marks.
    """
    marked = cloud.marked[0] & cloud.visible[0].unsqueeze(-1)
    marks = torch.where(marked.unsqueeze(-1), cloud.marks[0], 0.0).double()
    normal = Normalize(frame)(Data(pos=cloud.pos))
    pos, offset, scale = normal.pos.float(), normal.offset.double(), normal.scale.double()
    bandwidth = point_bandwidth(bases, pos)
    found = pcsa.localize(logits, pos, bandwidth, validate=False)
    apart = denormalize(found.position.double(), offset, scale)[0] - position.double()
    covariance = found.covariance[0].double() * scale.square() + apart.unsqueeze(-1) * apart.unsqueeze(-2)
    away = torch.where(marked.unsqueeze(-1), marks - position.double().unsqueeze(1), 0.0)

    def term(scores: Tensor, target: Tensor, **options: Any) -> Tensor:
        return losses.mixture_nll(scores, pos, bandwidth, target, **options)

    center = found.position[0].unsqueeze(1)
    places = (((marks - offset) / scale).float() - center) * marked.unsqueeze(-1)
    D, sums = pos.shape[1], []
    for factor in FACTORS:
        target = (center + places / math.sqrt(factor)).unsqueeze(0)
        total = losses.over_marks(term, logits, target, marked[None], reduction="sum", validate=False).double()
        units = D * (math.log(float(scale)) + math.log(factor) / 2)
        sums.append(-total - units * marked.any(1).sum())
    return Held(away[None], marked[None], covariance[None], torch.stack(sums)[None])


def deal(groups: Sequence[str], parts: int = PARTS) -> list[int]:
    """The part of each shape, of at most so many; shapes of one group lie in one."""
    rank = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    return [rank[group] % parts for group in groups]


class Fitted(NamedTuple):
    """What was fitted for each shape, on shapes of other parts."""

    factor: Tensor
    """``[n]``."""
    constant: Tensor
    """``[n, 3, 3]``."""
    per_keypoint: Tensor
    """``[n, K, 3, 3]``."""
    mixture: Tensor
    """Place in :data:`FACTORS`, ``[n]``."""


def fit(held: Held, parts: Sequence[int]) -> Fitted | None:
    """For each shape a factor and constant covariances that the marks of the shapes of all other parts ask for.

    None where there is nothing to fit on: marks in one part alone, or so few in the others that their covariance has no
    inverse. A keypoint whose own marks are too few for one has that of all keypoints.
    """
    part, (n, K) = torch.tensor(list(parts)), held.marked.shape[:2]
    known = held.marked.any(2).any(1)
    factor, mixture = torch.ones(n).double(), torch.full((n,), _AS_IT_IS)
    constant, per_keypoint = torch.zeros(n, 3, 3).double(), torch.zeros(n, K, 3, 3).double()
    for p in part[known].unique():
        own, others = part == p, (part != p) & known
        if not others.any():
            return None
        away, marked, covariance, sums = (x[others] for x in held)
        still = torch.zeros_like(covariance[..., 0])
        shared = metrics.pooled_covariance(away, marked, still)
        if not _invertible(shared[None])[0]:
            return None
        each = metrics.pooled_covariance(away, marked, still, per_keypoint=True)
        enough = _invertible(each) & (marked.sum((0, 2)) > 3)
        factor[own] = metrics.covariance_factor(away, marked, still, covariance)
        constant[own] = shared
        per_keypoint[own] = torch.where(enough[:, None, None], each, shared)
        mixture[own] = int(sums.sum(0).argmax())
    return Fitted(factor, constant, per_keypoint, mixture)


def _invertible(covariance: Tensor) -> Tensor:
    value = torch.linalg.eigvalsh(covariance.nan_to_num(0.0))
    return value[:, 0] > 1e-9 * value[:, -1]


def mark_scores(
    held: Held, names: Sequence[str], groups: Sequence[str], parts: Sequence[int], *, intervals: bool = True
) -> dict[str, Any] | None:
    """What the predictions are worth, as JSON types; None where nothing is marked.

    Shares are those of all marks; log-likelihoods are means over the marks of a keypoint and then over the keypoints,
    in nats for the shapes' units.

    Args:
        held: Of all shapes.
        names: Names of the keypoints.
        groups: What each shape belongs to: intervals are over groups, drawn anew.
        parts: The part of each shape; what a shape is calibrated by is fitted on the other parts.
        intervals: Whether to have 95 % intervals, too.
    """
    away, marked, covariance, sums = held
    count = marked.sum(2)
    if not bool(marked.any()):
        return None
    fitted = fit(held, parts)
    covariances = {"predicted": covariance}
    mixtures = {"mixture": sums[:, _AS_IT_IS]}
    factors = {"predicted": [1.0, 1.0], "mixture": [1.0, 1.0]}
    if fitted is not None:
        scored = marked.any(2).any(1)
        covariances |= {
            "calibrated": fitted.factor[:, None, None, None] * covariance,
            "constant": fitted.constant.unsqueeze(1).expand_as(covariance),
            "constant_per_keypoint": fitted.per_keypoint,
        }
        mixtures["mixture_calibrated"] = sums.gather(1, fitted.mixture[:, None])[:, 0]
        own = fitted.factor[scored], torch.tensor(FACTORS)[fitted.mixture[scored]]
        for name, values in zip(("calibrated", "mixture_calibrated"), own, strict=True):
            factors[name] = [_short(values.min()), _short(values.max())]
    still = torch.zeros_like(away[:, :, 0])
    inside, likelihood = {}, {}
    for name, matrix in covariances.items():
        inside[name] = _inside(held, matrix)
        # One of a shape without marks is never asked for.
        likelihood[name] = metrics.gaussian_log_likelihood(away, marked, still, matrix)
    total = {name: values.nan_to_num(0.0).sum(1) for name, values in likelihood.items()} | mixtures
    keypoints = (count > 0).sum(1)
    ids = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    shape = torch.tensor([ids[group] for group in groups])

    def ratio(name: str, values: Tensor, number: Tensor) -> dict[str, Any]:
        """The sum over shapes of values ``[n]`` or ``[n, L]`` over that of what they are sums of."""

        def of(rows: Tensor, one: Tensor) -> Tensor:
            return one[rows].sum() / number[rows].sum()

        whole, columns = torch.arange(len(shape)), values.unbind(1) if values.dim() == 2 else (values,)
        found = [_plain(of(whole, one)) for one in columns]
        ends = []
        if intervals:
            for one in columns:
                interval = metrics.shape_interval(functools.partial(of, one=one), shape)
                ends.append([_plain(end) for end in interval])
        if values.dim() == 1:
            return {name: found[0], **({f"{name}_interval": ends[0]} if ends else {})}
        return {name: found, **({f"{name}_interval": ends} if ends else {})}

    rows: dict[str, dict[str, Any]] = {}
    for name in ROWS:
        if name not in total:
            continue
        rows[name] = {"factor": factors[name]} if name in factors else {}
        if name in inside:
            rows[name] |= ratio("coverage", inside[name].sum(1), count.sum(1))
        rows[name] |= ratio("log_likelihood", total[name], keypoints)
        if "constant" in total:
            rows[name] |= ratio("gain", total[name] - total["constant"], keypoints)
    spread = metrics.spread_correlation(covariance, torch.where(marked.unsqueeze(-1), away, 0.0), marked)
    return {
        "num_marks": int(count.sum()),
        "num_keypoints": int((count > 0).sum()),
        "num_shapes": int((keypoints > 0).sum()),
        "levels": list(LEVELS),
        "rows": rows,
        "spread_correlation": {"pearson": _plain(spread.pearson), "spearman": _plain(spread.spearman)},
        "mark_distance": _plain(_mean(away.norm(dim=-1), marked)),
        "per_keypoint": {
            keypoint: {
                "num_marks": int(count[:, k].sum()),
                "coverage": {name: _listed(x[:, k].sum(0) / count[:, k].sum()) for name, x in inside.items()},
                "log_likelihood": {name: _plain(x[:, k].nanmean()) for name, x in likelihood.items()},
                "predicted_spread": _plain(spread.predicted[k]),
                "human_spread": _plain(spread.human[k]),
            }
            for k, keypoint in enumerate(names)
        },
    }


def _inside(held: Held, covariance: Tensor) -> Tensor:
    """Number of marks of each keypoint of each shape within the ellipsoids, ``[n, K, L]``."""
    n, K, M, D = held.away.shape
    away, marked = held.away.view(1, n * K, M, D), held.marked.view(1, n * K, M)
    still = torch.zeros_like(away[:, :, 0])
    share = metrics.ellipsoid_coverage(away, marked, still, covariance.reshape(1, n * K, D, D))
    return share.nan_to_num(0.0).view(n, K, -1) * held.marked.sum(2).unsqueeze(-1)


def _mean(values: Tensor, there: Tensor) -> Tensor:
    return torch.where(there, values, 0.0).sum() / there.sum()


def written(held: Held, shapes: Sequence[str], groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What there is of each shape, as JSON types, so that shapes of several evaluations can be scored together."""
    found = {}
    for i, (name, group) in enumerate(zip(shapes, groups, strict=True)):
        found[name] = {
            "group": group,
            "away": [_all_short(away[there]) for away, there in zip(held.away[i], held.marked[i], strict=True)],
            "covariance": _all_short(held.covariance[i]),
            "mixture": _all_short(held.mixture[i]),
        }
    return found


def read(shapes: Sequence[Mapping[str, Any]]) -> Held:
    """What :func:`written` wrote of some shapes."""
    K = len(shapes[0]["away"])
    most = max((len(marks) for shape in shapes for marks in shape["away"]), default=0)
    away = torch.zeros(len(shapes), K, most, 3).double()
    marked = torch.zeros(len(shapes), K, most, dtype=torch.bool)
    for i, shape in enumerate(shapes):
        for k, marks in enumerate(shape["away"]):
            if marks:
                away[i, k, : len(marks)] = torch.tensor(marks, dtype=torch.double)
                marked[i, k, : len(marks)] = True
    covariance = torch.tensor([shape["covariance"] for shape in shapes], dtype=torch.double)
    return Held(away, marked, covariance, torch.tensor([shape["mixture"] for shape in shapes], dtype=torch.double))


def _short(value: Tensor | float) -> float:
    # Far more digits than a mark is good for, and enough for a covariance to keep its inverse.
    return float(f"{float(value):.7g}")


def _all_short(values: Tensor) -> Any:
    return _short(values) if not values.dim() else [_all_short(part) for part in values]


def _plain(value: Tensor | float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _listed(value: Tensor) -> Any:
    return _plain(value) if not value.dim() else [_plain(x) for x in value]
