"""Tables with known numbers."""

import csv
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pcsa.metrics import paired_bootstrap
from pcsa.scripts.reproduce.study import Study
from pcsa.scripts.reproduce.tables import Made, as_csv, cells, markdown

STUDY = Study(
    name="known",
    title="Known numbers",
    task="supervised",
    preset="sampling",
    methods={"soft": "", "sharp": ""},
    baseline="soft",
    categories=("bed", "mug"),
    columns=("PCK@0.01", "mean error", "presence AP"),
    folds=2,
    seeds=2,
    published={"PCK@0.01": {"paper": {"bed": 47.5}}},
)
# Two folds of a category, with two shapes and one.
SHAPES = {0: {"a": 5, "b": 5}, 1: {"c": 5}}


def made(method, category, fold, seed, pck, finished=True):
    """A run in which all shapes of a fold have one PCK."""
    run = SimpleNamespace(
        method=method, category=category, fold=fold, seed=seed, read_outs=("expectation",), split="val"
    )
    row = {
        "keypoints": SHAPES[fold],
        "shapes": {"expectation": {"PCK@0.01": pck, "mean error": [0.01] * len(pck)}},
        "figures": {"expectation": {"PCK@0.01": float(np.mean(pck)), "presence AP": 0.5 + seed / 10}},
    }
    return Made(run, row if finished else None)


@pytest.fixture
def runs():
    return [
        # Seed 0: 10, 20, 60; seed 1: 10, 20, 0: means 30 and 10 over shapes, not 37.5 and 7.5 over folds.
        made("soft", "bed", 0, 0, [10.0, 20.0]),
        made("soft", "bed", 1, 0, [60.0]),
        made("soft", "bed", 0, 1, [10.0, 20.0]),
        made("soft", "bed", 1, 1, [0.0]),
        made("sharp", "bed", 0, 0, [40.0, 40.0]),
        made("sharp", "bed", 1, 0, [40.0]),
        made("sharp", "bed", 0, 1, [40.0, 40.0]),
        made("sharp", "bed", 1, 1, [40.0]),
    ]


def by(found, **wanted):
    (cell,) = [c for c in found if all(getattr(c, name) == value for name, value in wanted.items())]
    return cell


def test_a_cell_is_the_mean_over_shapes_and_the_spread_over_seeds(runs):
    found = cells(STUDY, runs)
    soft = by(found, method="soft", column="PCK@0.01")
    assert (soft.mean, soft.shapes, soft.seeds, soft.runs, soft.wanted) == (20, 3, 2, 4, 4)
    assert soft.spread == pytest.approx(np.std([30, 10], ddof=1))
    assert soft.difference is None
    sharp = by(found, method="sharp", column="PCK@0.01")
    assert (sharp.mean, sharp.spread) == (40, 0)
    # Each shape over its two seeds: 10, 20, 30 for soft.
    assert sharp.difference == paired_bootstrap([40, 40, 40], [10, 20, 30])
    assert sharp.difference.mean == 20


def test_figures_without_shapes_have_no_interval(runs):
    cell = by(cells(STUDY, runs), method="sharp", column="presence AP")
    assert cell.mean == pytest.approx(0.55)
    assert cell.shapes is cell.difference is None


def test_only_shapes_and_seeds_that_both_have_are_compared(runs):
    del runs[3]  # soft, fold 1, seed 1: shape c has one seed left
    sharp = by(cells(STUDY, runs), method="sharp", column="PCK@0.01")
    assert sharp.difference.mean == pytest.approx((30 + 20 - 20) / 3)
    del runs[1]  # and now none
    sharp = by(cells(STUDY, runs), method="sharp", column="PCK@0.01")
    assert sharp.difference.mean == pytest.approx((30 + 20) / 2)


def test_the_mean_over_categories_counts_each_once(runs):
    runs += [made("soft", "mug", 1, seed, [50.0]) for seed in (0, 1)]
    runs += [made("sharp", "mug", 1, seed, [55.0 + seed]) for seed in (0, 1)]
    found = cells(STUDY, runs)
    soft = by(found, method="soft", category="mean", column="PCK@0.01")
    assert (soft.mean, soft.shapes) == ((20 + 50) / 2, 4)
    assert soft.spread == pytest.approx(np.std([(30 + 50) / 2, (10 + 50) / 2], ddof=1))
    sharp = by(found, method="sharp", category="mean", column="PCK@0.01")
    assert sharp.difference.mean == pytest.approx((20 + 5.5) / 2)


def test_the_page(runs):
    runs.append(made("sharp", "mug", 1, 0, [55.0], finished=False))
    runs.append(made("sharp", "bed", 1, 2, [40.0], finished=False))
    lines = markdown(STUDY, runs, ["left out: chair"], "pcsa reproduce known").splitlines()
    assert lines[:5] == ["# Known numbers", "", "```", "pcsa reproduce known", "```"]
    assert "Scored on 2 folds of train, each held out in turn. 8 of 10 runs are finished." in lines
    assert "- left out: chair" in lines
    start = lines.index("## PCK@0.01, expectation")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : start + 8]]
    assert rows[0] == ["method", "bed (3)", "mug", "mean"]
    assert rows[2] == ["soft", "20.0 ± 14.1", "–", "–"]
    assert rows[3] == ["sharp", "40.0 ± 0.0*", "–", "–"]
    assert rows[4] == ["", "+20.0 [+10.0, +30.0]", "", ""]
    assert rows[5] == ["paper", "47.5", "", ""]
    # Errors have more digits.
    assert any("0.0100 ± 0.0000" in line for line in lines)


def test_the_csv_has_every_cell(runs):
    found = cells(STUDY, runs)
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert len(rows) == len(found) == 6
    first, second = rows[:2]
    assert (first["method"], first["mean"], first["difference"], first["runs"]) == ("soft", "20", "", "4")
    assert (second["mean"], second["difference"], second["shapes"]) == ("40", "20", "3")


def ensemble(fold, number, seeds, pck):
    run, row = made("sharp", "bed", fold, number, pck)
    return Made(run, {**row, "combined": {"seeds": seeds, "test_time": 1}})


def test_networks_are_compared_with_the_mean_of_what_each_reaches(runs):
    runs = [*runs[:4], ensemble(0, 0, [0, 1], [40.0, 40.0]), ensemble(1, 0, [0, 1], [40.0])]
    sharp = by(cells(STUDY, runs), method="sharp", column="PCK@0.01")
    assert (sharp.seeds, sharp.spread) == (1, None)
    # Not with seed 0 alone: that has 10, 20, 60.
    assert sharp.difference == paired_bootstrap([40, 40, 40], [10, 20, 30])
    # The second mean, of networks that the baseline has not, is compared with nothing.
    later = [*runs[:4], ensemble(0, 1, [2, 3], [40.0, 40.0])]
    assert by(cells(STUDY, later), method="sharp", column="PCK@0.01").difference is None
    # The other way round: each network with the mean of both.
    turned = replace(STUDY, baseline="sharp")
    soft = by(cells(turned, runs), method="soft", column="PCK@0.01")
    assert soft.difference == paired_bootstrap([10, 20, 30], [40, 40, 40])


def test_confidences_of_all_folds_are_taken_together():
    study = replace(STUDY, columns=("r of the confidence",))
    runs = [made("soft", "bed", fold, 0, [1.0] * len(SHAPES[fold])) for fold in (0, 1)]
    for (_, row), mass, right in zip(runs, ([0.1, 0.2], [0.8, 0.9]), ([0, 0], [1, 1]), strict=True):
        row["confidence"] = {"expectation": {"mass": mass, "right": right}}
    (cell,) = cells(study, runs)
    assert cell.mean == pytest.approx(np.corrcoef([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])[0, 1])
    assert (cell.digits, cell.runs) == (3, 2)
    # A row of an earlier version has none.
    del runs[1].row["confidence"]
    assert cells(study, runs) == []


def test_nothing_is_finished():
    assert cells(STUDY, [made("soft", "bed", 0, 0, [1.0, 2.0], finished=False)]) == []


def test_a_method_is_compared_with_a_baseline_of_its_own(runs):
    study = replace(
        STUDY,
        methods={"soft": "", "sharp": "", "thin": "", "thin, sharp": ""},
        baselines={"thin, sharp": "thin"},
    )
    more = [made("thin", "bed", 0, 0, [0.0, 10.0]), made("thin, sharp", "bed", 0, 0, [10.0, 30.0])]
    found = {cell.method: cell for cell in cells(study, [*runs, *more]) if cell.column == "PCK@0.01"}
    assert found["soft"].difference is None
    assert found["thin"].difference is None
    # 40 against 30 and 10; 10 and 30 against 0 and 10.
    assert found["sharp"].difference.mean == pytest.approx(20.0)
    assert found["thin, sharp"].difference.mean == pytest.approx(15.0)
    page = markdown(study, [*runs, *more], [], "pcsa reproduce known")
    assert "the difference from `soft`; of `thin, sharp` from `thin`; on the same shapes" in page
