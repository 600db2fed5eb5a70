"""What a detector of real anatomy is held against: training shapes moved onto the clouds, and the people who marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from pcsa.metrics import TrainingShapes, mean_error, mean_shape_keypoints, rater_error
from pcsa.tasks.common.belief_tables import floor_title
from pcsa.tasks.common.read_outs import FLOORS, shape_floors
from pcsa.tasks.common.tables import markdown_table, number

# A place on the surface: the nearest point of the cloud.
_KINDS = {"euclidean": "", "surface": "_on_a_point"}


class ShapeFloors:
    """Training shapes that are moved onto the clouds to score: rows beside the read-outs.

    Args:
        train: The training clouds, without a transform that a cloud to score does not have.
        scaled: Whether they may change their size.
        mirrored: Whether they may be mirrored.
    """

    def __init__(self, train: Sequence[Data] | Any, *, scaled: bool, mirrored: bool) -> None:
        clouds = [train[i] for i in range(len(train))]
        self.how = {"scaled": scaled, "mirrored": mirrored}
        self.about = {**self.how, "num_training_shapes": len(clouds)}
        keypoints, visible = torch.cat([c.keypoints for c in clouds]), torch.cat([c.visible for c in clouds])
        self.shapes = TrainingShapes(keypoints, visible, [c.pos for c in clouds])
        self.mean = self.shapes.mean(**self.how)

    def place(self, cloud: Tensor, turn: Tensor | None = None) -> dict[str, Tensor]:
        """Keypoints ``[K, 3]`` of a cloud ``[N, 3]`` by each floor, in its own units and frame.

        One that no training shape has lies in the middle. With ``turn``, floors get the cloud turned, as a network
        does.
        """
        middle = cloud.double().mean(0)
        turned = cloud.double() - middle
        if turn is not None:
            turned = turned @ turn.double().T
        places = (
            mean_shape_keypoints(self.mean, turned, **self.how),
            self.shapes.nearest(turned, **self.how).keypoints,
        )
        back = torch.eye(3, dtype=torch.double) if turn is None else turn.double()
        found = zip(shape_floors(**self.how), places, strict=True)
        return {name: (at.nan_to_num(0.0) @ back + middle).to(cloud.dtype) for name, at in found}


def rater_records(clouds: Sequence[Data]) -> dict[str, Tensor]:
    """How far people are from each other in some clouds, ``[n, K]``; nothing where keypoints have no marks."""
    if "marks" not in clouds[0]:
        return {}
    # People may have marked one cloud more often than another.
    found = [rater_error(cloud.marks, cloud.marked) for cloud in clouds]
    return {
        "rater_distance": torch.cat([f.distance for f in found]),
        "rater_counted": torch.cat([f.counted for f in found]),
    }


def diagonals(clouds: Sequence[Data]) -> Tensor:
    """Diagonal of the bounding box of each cloud, ``[n]``; 1 where all points are equal."""
    found = torch.stack([(c.pos.amax(0) - c.pos.amin(0)).double().norm() for c in clouds])
    return torch.where(found > 0, found, 1.0)


def floor_scores(
    distances: Mapping[str, Mapping[str, Tensor]],
    visible: Tensor,
    diagonal: Tensor,
    names: Sequence[str],
    asked: str,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Mean errors of detector and floors, whole and by landmark, as JSON types.

    Args:
        distances: By read-out or floor and kind, ``[n, K]``.
        visible: ``[n, K]``.
        diagonal: Diagonal of each cloud's bounding box, ``[n]``.
        names: Name of each keypoint.
        asked: The read-out of the detector.
        about: How the floors were made.
    """
    rows = {}
    for name in (asked, *(floor for floor in FLOORS if floor in distances)):
        row: dict[str, Any] = {}
        for kind, suffix in _KINDS.items():
            row |= {f"{k}{suffix}": v for k, v in _errors(distances[name][kind], visible, diagonal, names).items()}
        rows["detector" if name == asked else name] = row
    floors = [(row[f"mean_error{s}"], name, bool(s)) for name, row in rows.items() for s in _KINDS.values()
              if name != "detector" and row[f"mean_error{s}"] is not None]  # fmt: skip
    if not floors:
        return {**about, "rows": rows}
    error, name, snapped = min(floors)
    share = rows[name][f"share_of_diagonal{_KINDS['surface'] * snapped}"]
    best = {"floor": name, "on_a_point": snapped, "mean_error": error, "share_of_diagonal": share}
    return {**about, "rows": rows, "best": best}


def rater_scores(distance: Tensor, counted: Tensor, diagonal: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Distances of one mark from the mean of the others, whole and by landmark, as JSON types."""
    return _errors(distance, counted, diagonal, names)


def _errors(distance: Tensor, counted: Tensor, diagonal: Tensor, names: Sequence[str]) -> dict[str, Any]:
    if not counted.any():
        return {"mean_error": None, "share_of_diagonal": None, "per_landmark": {}}
    distance = distance.double()
    shares = distance / diagonal[:, None]
    count = counted.sum(0)
    each = torch.where(counted, distance, 0.0).sum(0) / count
    of_diagonal = torch.where(counted, shares, 0.0).sum(0) / count
    known = [k for k in range(len(names)) if count[k] > 0]
    return {
        "mean_error": float(mean_error(distance, counted)),
        "share_of_diagonal": float(mean_error(shares, counted)),
        "per_landmark": {
            names[k]: {"mean_error": float(each[k]), "share_of_diagonal": float(of_diagonal[k])} for k in known
        },
    }


def floor_table(metrics: Mapping[str, Any]) -> list[str]:
    """The table of floors and raters, after an empty line; nothing where there is neither."""
    floors, raters = metrics.get("floors"), metrics.get("raters")
    if floors is None and raters is None:
        return []
    rows, lines = [], []
    if floors is not None:
        count = str(floors["num_training_shapes"])
        for name, row in floors["rows"].items():
            cells = [_length(row[f"{key}{s}"], key) for s in _KINDS.values() for key in ("mean_error", _SHARE)]
            title = f"detector ({metrics['read_out']})" if name == "detector" else floor_title(name, count)
            rows.append([title, *cells])
    if raters is not None:
        cells = [_length(raters[key], key) for key in ("mean_error", _SHARE)]
        rows.append(["one mark from the mean of the others", *cells, "–", "–"])
    heads = ["distance from the labels", "mean error", "% of the diagonal", "on a point", "% of the diagonal"]
    if floors is not None and "best" in floors:
        best = floors["best"]
        half, share = (_length(best[key] / 2, key) for key in ("mean_error", _SHARE))
        point = ", on a point" * best["on_a_point"]
        lines = ["", f"half of the best floor ({best['floor']}{point}): {half}, {share} % of the diagonal"]
    return ["", markdown_table(heads, rows), *lines]


_SHARE = "share_of_diagonal"


def _length(value: float | None, key: str) -> str:
    return number(value, 4) if key == "mean_error" or value is None else number(100 * value, 2)
