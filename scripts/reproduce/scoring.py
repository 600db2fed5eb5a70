"""Scores of networks under the read-outs of a study, as a row has them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pcsa.localization import ReadOut
from pcsa.scripts.evaluate import evaluate
from pcsa.scripts.reproduce.confidence import keypoint_confidence
from pcsa.scripts.reproduce.figures import run_figures, scored_shapes, shape_figures
from pcsa.scripts.reproduce.marks import marks_by_shape
from pcsa.scripts.runs import pick_device
from pcsa.tasks.common.backbone import Trust
from pcsa.tasks.common.read_outs import FLOORS, floor_options, own_radii, parse_read_out
from pcsa.tasks.common.run import open_run


def unscored(read_outs: Sequence[str], row: Mapping[str, Any]) -> list[str]:
    """The read-outs that a row lacks."""
    return [read_out for read_out in read_outs if read_out not in row["figures"]]


def add_scores(
    row: dict[str, Any],
    checkpoints: Sequence[Path],
    read_outs: Sequence[str],
    *,
    split: Literal["val", "test"],
    test_time: int,
    out: Path,
    device: str = "auto",
    category: str | None = None,
    trust: Trust = False,
) -> None:
    """Score the mean of some networks under all read-outs that a row lacks, and add the figures to it.

    Args:
        row: The row.
        checkpoints: The networks.
        read_outs: Those that it is to have.
        split: Clouds to score.
        test_time: Variations of each.
        out: Folder of the metrics.
        device: As of ``pcsa evaluate``.
        category: The category to score, where the networks know several.
        trust: The network of one's own that the study names, see :func:`pcsa.tasks.open_run`.
    """
    start = time.perf_counter()
    run = open_run(checkpoints[0], pick_device(device), trust=trust)

    def wanted(read_out: str) -> bool:
        # What is no read-out, such as a floor, is kept: there is no other way to ask for it.
        return read_out in read_outs or read_out not in get_args(ReadOut)

    left = unscored(read_outs, row)
    radii = own_radii(read_outs)
    more: dict[str, Any] = {"ball_radii": radii} if radii else {}
    # All of them from one look at the clouds.
    if together := getattr(run.task.evaluate_options, "compared", ()):
        kinds = [parse_read_out(name)[0] for name in left if name not in FLOORS]
        more["compared"] = tuple(dict.fromkeys([*together, *kinds]))
    if category is not None:
        more["category"] = category
    # Of what is reported, nothing is fitted.
    if hasattr(run.task.evaluate_options, "cross_fit") and split == "val":
        more["cross_fit"] = True
    more |= floor_options(left)
    # A floor comes with any read-out.
    for read_out in sorted(left, key=lambda name: name in FLOORS):
        if read_out in row["figures"]:  # scored together with another
            continue
        asked = "expectation" if read_out in FLOORS else parse_read_out(read_out)[0]
        options = run.task.evaluate_options(
            checkpoints[0],
            split=split,
            read_out=asked,
            ensemble=tuple(checkpoints[1:]),
            test_time=test_time,
            out=out / f"metrics-{split}-{asked}.json",
            strict=True,
            # What a call that was cut off has found for another read-out, say, is of no use.
            overwrite=True,
            progress=False,
            device=device,
            **more,
        )
        metrics = evaluate(run, options)
        row["num_items"] = metrics.get("num_items")
        row["keypoints"] = scored_shapes(metrics)
        row["confidence"] = {**keypoint_confidence(metrics), **row.get("confidence", {})}
        if marks := marks_by_shape(metrics):
            row["marks"] = {**marks, **row.get("marks", {})}
        # What was asked for before stays: it has more figures than what comes with another.
        found: dict[str, Mapping[str, Any]] = {
            "figures": run_figures(run.task, metrics),
            "shapes": shape_figures(metrics),
        }
        for name, values in found.items():
            row[name] |= {r: value for r, value in values.items() if r not in row[name] and wanted(r)}
    row.setdefault("seconds", time.perf_counter() - start)
