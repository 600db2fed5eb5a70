"""What can be believed of detections: every read-out of the same maps, and what their confidences are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

import pcsa
from pcsa import metrics
from pcsa.certainty import expected_distance
from pcsa.datasets.keypointnet.mirror import MirrorPairs
from pcsa.datasets.transforms import Normalize, denormalize
from pcsa.localization import ReadOut
from pcsa.metrics.per_shape import nearest
from pcsa.tasks.common.config import FROM_NEIGHBORS, BandwidthConfig
from pcsa.tasks.common.objective import point_bandwidth
from pcsa.tasks.common.read_outs import TEMPLATE, parse_read_out

READ_OUTS: tuple[ReadOut, ...] = ("expectation", "median", "ball", "ball_point", "peak")
"""What is compared by default."""
_SHOWN = 10  # points of a risk-coverage curve
_CONFIDENCES = ("mass", "peak", "entropy", "expected_error")


class ReadMaps(NamedTuple):
    """Maps of a batch read in every way, in the units of the clouds."""

    position: dict[str, Tensor]
    """``[B, K, 3]`` by read-out."""
    mass: dict[str, Tensor]
    """Probability within the radius of each, ``[B, K]``."""
    confidence: dict[str, Tensor]
    """Candidates ``[B, K]`` for the read-out that is asked for; a larger value is more confident."""


def read_maps(
    clouds: Sequence[Data],
    logits: Sequence[Tensor],
    frame: str,
    asked: tuple[ReadOut, Tensor],
    *,
    radius: float,
    compared: Sequence[str] = READ_OUTS,
    temperature: float = 1.0,
    template: Tensor | None = None,
    bases: BandwidthConfig = FROM_NEIGHBORS,
) -> ReadMaps:
    """Read maps in every way, and say how certain each keypoint is.

    Args:
        clouds: Items of :class:`pcsa.datasets.keypointnet.KeypointNet`. What is not visible is not read, and 0.
        logits: Their maps ``[N, K]``.
        frame: Where they are read, see :class:`pcsa.datasets.transforms.Normalize`.
        asked: The read-out that is asked for and its positions ``[B, K, 3]``, taken as they are.
        radius: Error below which a keypoint is right, in the units of the clouds.
        compared: The read-outs, beside the one that is asked for; "ball, 0.02" is ball with a radius of its own.
        temperature: Divides the logits where confidences are computed; the positions are those of the maps as they are.
        template: Keypoints ``[K, 3]`` in ``frame`` that never look at a cloud.
        bases: How wide the bases are, as in the training: a mode is one of the mixture.
    """
    found: list[ReadMaps] = []
    compared = tuple(dict.fromkeys([*compared, asked[0]]))
    for i, (cloud, scores) in enumerate(zip(clouds, logits, strict=True)):
        visible = cloud.visible[0]
        floor = None if template is None else template[visible]
        place = (asked[0], asked[1][i, visible])
        own = _read_map(cloud.pos, scores[:, visible], frame, place, radius, compared, temperature, floor, bases)
        found.append(ReadMaps(*({name: _spread(x, visible) for name, x in part.items()} for part in own)))
    return ReadMaps(
        *({name: torch.stack([f[part][name] for f in found]) for name in found[0][part]} for part in range(3))
    )


@torch.inference_mode()
def _read_map(
    cloud: Tensor,
    scores: Tensor,
    frame: str,
    asked: tuple[ReadOut, Tensor],
    radius: float,
    compared: Sequence[str],
    temperature: float,
    template: Tensor | None,
    bases: BandwidthConfig,
) -> ReadMaps:
    """The same for one cloud ``[N, 3]`` and the visible keypoints; without the axis of the batch."""
    name, position = asked
    names = [*compared] + [TEMPLATE] * (template is not None)
    if not scores.shape[1]:
        nowhere, none = position[:0], position.new_zeros(0)
        masses: dict[str, Tensor] = dict.fromkeys(compared, none)
        return ReadMaps(dict.fromkeys(names, nowhere), masses, dict.fromkeys(_CONFIDENCES, none))
    normal = Normalize(frame)(Data(pos=cloud))
    offset, scale = normal.offset, normal.scale
    # One cloud by itself is dense: twice as fast as several end to end.
    pos, reach = normal.pos.float(), float(radius / scale)
    bandwidth = point_bandwidth(bases, pos)
    found: dict[str, Tensor] = {name: ((position - offset) / scale).float()[None]}
    for other in compared:
        if other != name:
            kind, within = parse_read_out(other, radius)
            at = None if within is None else float(within / scale)
            read = pcsa.localize(scores, pos, bandwidth, read_out=kind, radius=at, validate=False)
            found[other] = read.position
    how: dict[str, Any] = {"temperature": temperature}
    mass: dict[str, Tensor] = {other: pcsa.ball_mass(scores, pos, found[other], reach, **how)[0] for other in compared}
    sure = pcsa.localize(scores, pos, bandwidth, **how)
    away = expected_distance(scores, pos, found[name], **how)[0] * scale[0]
    places: dict[str, Tensor] = {other: denormalize(found[other], offset, scale)[0] for other in compared}
    places[name] = position
    if template is not None:
        places[TEMPLATE] = denormalize(template[None], offset, scale)[0]
    confidence = {"mass": mass[name], "peak": sure.peak[0], "entropy": -sure.entropy[0], "expected_error": -away}
    return ReadMaps(places, mass, confidence)


@torch.inference_mode()
def ball_masses(
    cloud: Data,
    scores: Tensor,
    positions: Mapping[str, Tensor],
    frame: str,
    *,
    radius: float,
    temperature: float,
) -> dict[str, Tensor]:
    """Probability within the radius of places ``[K, 3]`` that are known, ``[K]`` by read-out.

    Args:
        cloud: One item of :class:`pcsa.datasets.keypointnet.KeypointNet`. What is not visible has 0.
        scores: Maps ``[N, V]`` of the visible keypoints.
        positions: Places by read-out, in the units of the cloud.
        frame: As for :func:`read_maps`.
        radius: The same.
        temperature: Divides the logits.
    """
    visible = cloud.visible[0]
    if not scores.shape[1]:
        return {name: scores.new_zeros(len(visible)) for name in positions}
    normal = Normalize(frame)(Data(pos=cloud.pos))
    pos, reach = normal.pos.float(), float(radius / normal.scale)
    places = {name: ((at[visible] - normal.offset) / normal.scale).float()[None] for name, at in positions.items()}
    masses = {name: pcsa.ball_mass(scores, pos, at, reach, temperature=temperature)[0] for name, at in places.items()}
    return {name: _spread(mass, visible) for name, mass in masses.items()}


def _spread(values: Tensor, visible: Tensor) -> Tensor:
    """Values of visible keypoints as rows of all keypoints; 0 elsewhere."""
    out = values.new_zeros(len(visible), *values.shape[1:])
    out[visible] = values
    return out


class Scored(NamedTuple):
    """Distances of the read-outs of one cloud from its labels, ``[R, K]``; 0 where not visible."""

    euclidean: Tensor
    surface: Tensor
    """Of the nearest point of the cloud."""
    geodesic: Tensor | None


def score_read_outs(position: Tensor, cloud: Data, paths: Tensor | None) -> Scored:
    """Measure positions ``[R, K, 3]``.

    Args:
        position: Of each read-out.
        cloud: One item of :class:`pcsa.datasets.keypointnet.KeypointNet`.
        paths: Geodesic distances ``[V, N]`` of all points from the visible keypoints, if they are to be measured.
    """
    R, visible = len(position), cloud.visible[0]
    target = cloud.keypoints[0][visible]
    shown = position[:, visible]
    points = cloud.pos.double().numpy()
    row = torch.from_numpy(nearest(points, shown.double().flatten(0, 1).numpy())[1])
    end = row.view(R, -1)

    def filled(distance: Tensor) -> Tensor:
        out = cloud.pos.new_zeros(R, len(visible), dtype=distance.dtype)
        out[:, visible] = distance
        return out

    return Scored(
        filled((shown - target).norm(dim=-1)),
        filled((cloud.pos[end] - target).norm(dim=-1)),
        None if paths is None else filled(paths.gather(1, end.T).T),
    )


def alone(cloud: Data) -> Tensor:
    """Distance of every annotated point ``[K]`` to the nearest other place of its cloud; infinite if there is none.

    A thinned cloud may lack the annotated point: all its places are others.
    """
    from scipy.spatial import cKDTree

    places = cloud.pos.double().unique(dim=0).numpy()
    distance = torch.full(cloud.visible[0].shape, math.inf, dtype=torch.float64)
    visible = cloud.visible[0]
    if visible.any():
        own = cloud.keypoints[0][visible].double().numpy()
        # Where there is one place only, the second is infinitely far.
        two = np.asarray(cKDTree(places).query(own, k=2)[0])
        distance[visible] = torch.from_numpy(np.where(two[:, 0] > 0, two[:, 0], two[:, 1]))
    return distance


def training_template(train: Sequence[Data] | Any, frame: str) -> Tensor:
    """Mean place ``[K, 3]`` of every keypoint in the normalized training clouds; the origin where there is none."""
    normalize = Normalize(frame)
    clouds = [normalize(train[i]) for i in range(len(train))]
    visible = torch.cat([cloud.visible for cloud in clouds])[..., None]
    keypoints = torch.cat([cloud.keypoints for cloud in clouds]).double()
    total = torch.where(visible, keypoints, 0.0).sum(0)
    return total / visible.sum(0).clamp(min=1)


def read_out_scores(
    distances: Mapping[str, Tensor],
    masses: Mapping[str, Tensor],
    visible: Tensor,
    thresholds: Sequence[float],
    correct_threshold: float,
) -> dict[str, Any]:
    """Scores of one read-out over all clouds, as JSON types.

    Args:
        distances: ``euclidean``, ``surface``, ``geodesic``: ``[n, K]``.
        masses: Under ``mass`` the probability within the threshold, ``[n, K]``, if there is one; under other names what
            it is at other temperatures.
        visible: ``[n, K]``.
        thresholds: Of the PCK.
        correct_threshold: Euclidean error below which a keypoint is right.
    """
    scores: dict[str, Any] = {}
    for kind, distance in distances.items():
        mean = float(metrics.mean_error(distance, visible))
        curve = metrics.pck(distance, visible, thresholds).tolist()
        scores[kind] = {"pck": curve, "mean_error": mean if math.isfinite(mean) else None}
    if "mass" in masses:
        right = distances["euclidean"][visible] < correct_threshold
        shape = torch.arange(len(visible))[:, None].expand_as(visible)[visible]
        found = {name: _mass_scores(mass[visible].clamp(0, 1), right, shape) for name, mass in masses.items()}
        scores["mass"] = found.pop("mass") | found
    return scores


def _mass_scores(sure: Tensor, right: Tensor, shape: Tensor) -> dict[str, Any]:
    """What a probability of being right is worth."""
    pair = torch.stack([sure, right.to(sure)]).double().numpy()

    def pearson(rows: Tensor) -> float:
        # Where all are equal it is NaN. torchmetrics would take ten times as long, 200 times for each read-out.
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.corrcoef(pair[:, rows.numpy()])[0, 1])

    return {
        "mean": float(sure.double().mean()),
        "correct": float(right.double().mean()),
        "pearson": _plain(metrics.confidence_correlation(sure, right)),
        "pearson_interval": [x if math.isfinite(x) else None for x in metrics.shape_interval(pearson, shape)],
        **_calibration_error(sure, right, shape),
    }


def _calibration_error(sure: Tensor, right: Tensor, shape: Tensor) -> dict[str, Any]:
    def error(rows: Tensor) -> Tensor:
        return metrics.expected_calibration_error(sure[rows], right[rows], validate=False)

    return {
        "expected_calibration_error": float(metrics.expected_calibration_error(sure, right)),
        "expected_calibration_error_interval": list(metrics.shape_interval(error, shape)),
    }


def confidence_scores(confidence: Mapping[str, Tensor], distance: Tensor, visible: Tensor, threshold: float) -> Any:
    """What every candidate for the confidence is worth, as JSON types."""
    right = distance[visible] < threshold
    shape = torch.arange(len(visible))[:, None].expand_as(visible)[visible]
    scores: dict[str, Any] = {}
    for name, values in confidence.items():
        sure = values[visible].double()
        curve = metrics.risk_coverage(sure, right)
        kept = [-(-len(sure) * i // _SHOWN) - 1 for i in range(1, _SHOWN + 1)]
        scores[name] = {
            "pearson": _correlation(sure, right),
            "area_under_risk_coverage": float(curve.risk.mean()),
            "risk_coverage": {"coverage": curve.coverage[kept].tolist(), "risk": curve.risk[kept].tolist()},
        }
        if name in ("mass", "peak"):
            scores[name] |= {**_calibration_error(sure.clamp(0, 1), right, shape), "binning": "10 bins of equal count"}
    return scores


def _correlation(values: Tensor, right: Tensor) -> float | None:
    # Pearson is blind to offset and scale.
    low, high = values.min(), values.max()
    return _plain(metrics.confidence_correlation((values - low) / (high - low).clamp_min(1e-300), right))


def _plain(value: Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


def label_scores(pairs: MirrorPairs, apart: Tensor, visible: Tensor, thresholds: Sequence[float]) -> dict[str, Any]:
    """What the labels allow, as JSON types: shares over ``thresholds``, None where no pair says anything.

    Args:
        pairs: Left and right labels of the category, mirrored onto each other.
        apart: Distance of every annotated point to the nearest other one, ``[n, K]``.
        visible: ``[n, K]``.
        thresholds: Of the PCK.
    """
    known = bool(pairs.on_surface.any())
    # Of two noisy labels each is nearer to the truth than they are to each other: by sqrt(2), if both are alike.
    within = {"agreement": 1.0, "ceiling": math.sqrt(2)}
    return {
        "num_pairs": int(pairs.on_surface.sum()),
        **{name: [pairs.agreement(f * t) for t in thresholds] if known else None for name, f in within.items()},
        "alone": [float((apart[visible] > t).double().mean()) for t in thresholds],
    }
