"""Trained networks side by side, as a report has them: PCK, mIoU and DAS, then PCK on noisy, sparse and turned clouds.

MODELS are runs of `pcsa train supervised` and `pcsa train unsupervised`. Keypoints of the second have no names: each
label takes the one that is nearest to it on the training clouds. The template, each label's mean place in the boxes of
the training clouds, looks at nothing but the box of a cloud: what does not beat it has learned little.

    python examples/course_project.py ROOT CATEGORY MODELS --out report
"""

import argparse
import csv
import logging
import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data

import pcsa
from pcsa import metrics
from pcsa.datasets.corruptions import Corrupted, Corruption, noisy, rotated, thinned
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.tasks.detectors.clouds import CloudDetector

RADIUS = 0.05  # in the units of KeypointNet, whose shapes have a diagonal of 1
Method = Callable[[list[Tensor]], tuple[Tensor, Tensor]]  # clouds to positions [B, K, 3] and presence [B, K]


def network(detector: CloudDetector) -> Method:
    """A trained network."""

    def find(clouds: list[Tensor]) -> tuple[Tensor, Tensor]:
        found = detector(clouds)
        return torch.stack([one.position.double() for one in found]), torch.stack([one.present for one in found])

    return find


def template(train: list[Data]) -> Method:
    """The mean place of each label in the bounding boxes of the training clouds."""
    places, visible = torch.stack([metrics.to_box(one.keypoints[0], one.pos) for one in train]), labels(train)[1]
    mean = torch.where(visible[..., None], places, 0).sum(0) / visible.sum(0).clamp(min=1)[:, None]
    often = visible.double().mean(0) > 0.5

    def find(clouds: list[Tensor]) -> tuple[Tensor, Tensor]:
        return torch.stack([metrics.from_box(mean, cloud) for cloud in clouds]), often.expand(len(clouds), -1)

    return find


def labels(items: list[Data]) -> tuple[Tensor, Tensor]:
    """Annotated keypoints [B, K, 3], and which of them there are [B, K]."""
    return torch.cat([one.keypoints for one in items]).double(), torch.cat([one.visible for one in items])


def nearest(find: Method, train: list[Data]) -> list[int]:
    """Return the keypoint that is nearest to each label, on the mean of the training clouds."""
    keypoints, visible = labels(train)
    distance = torch.cdist(find([one.pos for one in train])[0], keypoints)
    total = torch.where(visible[:, None], distance, 0).sum(0)
    return total.argmin(0).tolist()


def shares_right(position: Tensor, items: list[Data]) -> Tensor:
    """PCK of each shape: the share of its keypoints nearer than RADIUS to the label."""
    keypoints, visible = labels(items)
    error = metrics.keypoint_error(position, keypoints, visible)
    return ((error < RADIUS) & visible).sum(1) / visible.sum(1)


def compare(methods: dict[str, Method], names: dict[str, list[int]], items: list[Data]) -> dict[str, Tensor]:
    """Print the metrics of the field, and how far the first method is from the others, with intervals over shapes.

    Returns the PCK of each shape.
    """
    keypoints, visible = labels(items)
    clouds, annotated = [one.pos for one in items], [one.keypoints[0, one.visible[0]] for one in items]
    ids = [row.nonzero()[:, 0].tolist() for row in visible]
    rows, right = [], {}
    for name, find in methods.items():
        position, present = find(clouds)
        present = present | ~present.any(1, keepdim=True)
        error = metrics.keypoint_error(position[:, names[name]], keypoints, visible)
        found = [places[there] for places, there in zip(position, present, strict=True)]
        shares = [
            *metrics.pck(error, visible, [0.02, RADIUS, 0.1]),
            metrics.keypoint_miou(metrics.keypoint_distances(found, annotated, clouds), [0.1]),
            metrics.dual_alignment(list(position), annotated, ids).mean,
        ]
        mean = metrics.mean_error(error, visible)
        rows.append([name, *(f"{100 * float(share):.1f}" for share in shares), f"{mean:.3f}"])
        right[name] = shares_right(position[:, names[name]], items)
    show(["", "PCK@0.02", f"PCK@{RADIUS:g}", "PCK@0.1", "mIoU@0.1", "DAS", "mean error"], rows)
    first, *others = right
    for other in others:
        mean, low, high = (100 * x for x in metrics.paired_bootstrap(right[first], right[other]))
        print(f"PCK@{RADIUS:g}, {first} against {other}: {mean:+.1f} points [{low:+.1f}, {high:+.1f}]")
    print()
    return right


def fewer(cloud: Data, share: float, seed: int) -> Corrupted:
    """A share of the points, at random."""
    return thinned(cloud, math.ceil(share * len(cloud.pos)), seed)


# What is done to clouds, with the levels at which it is drawn.
BROKEN: dict[str, tuple[Corruption, list[float]]] = {
    "noise (share of the diagonal)": (noisy, [0, 0.01, 0.02, 0.05]),
    "points left (share)": (fewer, [1, 0.5, 0.25, 0.125]),
    "turned by (degrees)": (partial(rotated, up=1), [0, 10, 20, 45, 90]),
}


def robustness(
    methods: dict[str, Method], names: dict[str, list[int]], items: list[Data], whole: dict[str, Tensor], out: Path
) -> None:
    """Print PCK as clouds get worse, and write it as a table and a drawing; ``whole`` is that of whole clouds."""
    from matplotlib.figure import Figure

    figure, rows = Figure(figsize=(9, 3), layout="constrained"), []
    axes = figure.subplots(1, len(BROKEN), sharey=True)
    for axis, (kind, (corrupt, levels)) in zip(axes, BROKEN.items(), strict=True):
        rows += [[kind, levels[0], name, 100 * right.mean().item()] for name, right in whole.items()]
        for level in levels[1:]:
            broken = [corrupt(one, level, 0) for one in items]
            turns = [torch.eye(3).double() if one.turn is None else one.turn for one in broken]
            clouds = [one.cloud.pos @ turn.to(one.cloud.pos).mT for one, turn in zip(broken, turns, strict=True)]
            for name, find in methods.items():
                # Back to how the labels stand: that changes no distance.
                position = find(clouds)[0] @ torch.stack(turns)
                rows.append([kind, level, name, 100 * shares_right(position[:, names[name]], items).mean().item()])
        for name in methods:
            axis.plot(levels, [row[3] for row in rows if row[0] == kind and row[2] == name], "o-", label=name)
        axis.set(xlabel=kind)
        if corrupt is fewer:
            axis.set_xscale("log", base=2)
            axis.set_xticks(levels, [str(Fraction(level)) for level in levels])
            axis.invert_xaxis()
    axes[0].set(ylabel=f"PCK@{RADIUS:g} (%)", ylim=(0, 102))
    axes[0].legend(frameon=False)
    figure.savefig(out / "robustness.svg")
    with (out / "robustness.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["kind", "level", "method", "PCK"], *rows])
    cells = {(kind, level): [] for kind, level, _, _ in rows}
    for kind, level, _, value in rows:
        cells[kind, level].append(f"{value:.1f}")
    show([f"PCK@{RADIUS:g}", *methods], [[f"{kind}: {level:g}", *values] for (kind, level), values in cells.items()])


def show(heads: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    for row in (heads, ["---"] * len(heads), *rows):
        print("|", " | ".join(row), "|")
    print()


def main() -> None:
    """Compare, then make clouds worse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("category", metavar="CATEGORY")
    parser.add_argument("models", nargs="+", metavar="MODELS")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--out", type=Path, default=Path("report"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("pcsa").setLevel(logging.ERROR)  # that worse clouds are unlike the others is no news here
    clouds = [KeypointNet(options.root, options.category, split) for split in ("train", options.split)]
    train, items = ([one for one in part if one.visible.any()] for part in clouds)
    methods, names = {}, {}
    for folder in options.models:
        detector, name = pcsa.load(folder), Path(folder).name
        methods[name] = network(detector)
        named = detector.run.task.name == "supervised"
        names[name] = [*map(detector.names.index, clouds[0].names)] if named else nearest(methods[name], train)
    methods["template"], names["template"] = template(train), [*range(len(clouds[0].names))]
    print(f"{len(items)} clouds of {options.category}, split {options.split}\n")
    whole = compare(methods, names, items)
    robustness(methods, names, items, whole, options.out)
    print(f"written: {options.out}/robustness.svg, {options.out}/robustness.csv")


if __name__ == "__main__":
    main()
