"""Figures of marks over all folds of a study."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from pcsa.scripts.cli import main
from pcsa.scripts.reproduce.marks import mark_figure, marks_by_shape
from pcsa.scripts.reproduce.results import Results
from pcsa.tasks.common.held_to_marks import FACTORS, Held, deal, mark_scores, written

STUDY = """
title = "Marks"
task = "supervised"
preset = "default"
folds = 2
seeds = 1
baseline = "all marks"
categories = ["blob"]
columns = ["mean error", "marks inside 80 %, calibrated", "nats per mark, mixture", "r of the spreads"]
read_outs = ["median", "ball"]
options = "--model.out-channels 16 --optimizer.steps 3 --optimizer.batch-size 4 --trainer.accelerator cpu"

[methods]
"all marks" = "--objective.method nll --objective.targets marks"
"their mean" = "--objective.method nll"
"""


def fold(seed, n=3, spread=1.0):
    g = torch.Generator().manual_seed(seed)
    away = spread * torch.randn(n, 4, 10, 3, generator=g).double() * torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1)
    covariance = torch.eye(3).double() * torch.tensor([1.0, 4, 9, 16]).double().view(4, 1, 1).expand(n, 4, 1, 1)
    mixture = -torch.arange(float(len(FACTORS))).double().expand(n, -1) - seed
    held = Held(away, torch.ones(n, 4, 10, dtype=torch.bool), covariance, mixture)
    return held, {"marks": {"median": written(held, [f"{seed}{i}" for i in range(n)], [f"={i}" for i in range(n)])}}


def test_a_fold_is_calibrated_by_the_others():
    (a, first), (b, second) = fold(0), fold(1, spread=3.0)

    def squared(held):
        return held.away.square().sum(-1) / held.covariance[..., 0, 0].unsqueeze(-1)

    def factor(held):
        return squared(held).mean() / 3

    inside = [squared(own) / factor(other) <= chi2.ppf(0.8, 3) for own, other in ((a, b), (b, a))]
    figure = mark_figure("marks inside 80 %, calibrated", [first, second], "median")
    assert figure == pytest.approx(100 * float(torch.cat(inside).double().mean()), rel=1e-6)
    plain = torch.cat([squared(x) <= chi2.ppf(0.5, 3) for x in (a, b)]).double().mean()
    assert mark_figure("marks inside 50 %", [first, second], "median") == pytest.approx(100 * float(plain))
    as_it_is = FACTORS.index(1.0)
    nats = float(torch.cat([a.mixture, b.mixture])[:, as_it_is].mean()) / 4
    assert mark_figure("nats per mark, mixture", [first, second], "median") == pytest.approx(nats)
    assert mark_figure("r of the spreads", [first, second], "median") > 0.9
    gain = mark_figure("gain over the constant, calibrated", [first, second], "median")
    likelihood, constant = (
        mark_figure(f"nats per mark, {name}", [first, second], "median") for name in ("calibrated", "constant")
    )
    assert gain == pytest.approx(likelihood - constant)


def test_a_single_row_is_calibrated_by_other_shapes():
    held, row = fold(0)
    groups = [f"={i}" for i in range(3)]
    scores = mark_scores(held, (), groups, deal(groups))
    for k, level in enumerate((50, 80, 95)):
        figure = mark_figure(f"marks inside {level} %, constant for each keypoint", [row], "median")
        assert figure == pytest.approx(100 * scores["rows"]["constant_per_keypoint"]["coverage"][k])


@pytest.mark.parametrize("column", ["mean error", "marks inside x %", "marks inside 80", "nats per mark, else", "DAS"])
def test_other_figures_are_none_of_marks(column):
    assert mark_figure(column, [fold(0)[1]], "median") is None


def test_rows_without_marks_have_no_figure():
    row = fold(0)[1]
    assert mark_figure("marks inside 70 %", [row], "median") is None
    assert mark_figure("marks inside 80 %", [row], "ball") is None
    assert mark_figure("marks inside 80 %", [row, {}], "median") is None
    assert mark_figure("marks inside 80 %", [], "median") is None
    assert marks_by_shape({"read_out": "median"}) == marks_by_shape({"read_out": "median", "marks": {}}) == {}
    # Where there is nothing to fit on.
    alone = {"marks": {"median": dict(list(row["marks"]["median"].items())[:1])}}
    assert mark_figure("marks inside 80 %, calibrated", [alone], "median") is None
    assert mark_figure("gain over the constant", [alone], "median") is None
    assert mark_figure("marks inside 80 %", [alone], "median") is not None


def test_a_study_of_a_root_with_marks(calls, study, marked_root, tmp_path):
    assert main(calls(study, root=marked_root)()) == 0
    results = Results(tmp_path / "results")
    rows = list(results.rows.values())
    assert len(rows) == 4
    for row in rows:
        # Of the read-out that was asked for first.
        assert row["marks"].keys() == {"median"}
        assert row["marks"]["median"].keys() == row["keypoints"].keys()
    own = [row for row in rows if row["method"] == "all marks"]
    table = (tmp_path / "results" / "table.md").read_text()
    for column, digits in (("marks inside 80 %, calibrated", 1), ("nats per mark, mixture", 2)):
        lines = table.split(f"## {column}, median")[1].splitlines()
        row = next(line for line in lines if line.startswith("| all marks"))
        assert row.split("|")[2].strip() == f"{mark_figure(column, own, 'median'):.{digits}f}"
    # Marks lie with the shapes, figures in lines of their own.
    line = json.loads((tmp_path / "results" / "shapes" / "blob.jsonl").read_text().splitlines()[0])
    assert np.array(line["marks"]["median"][line["keypoints"].popitem()[0]]["covariance"]).shape == (3, 3, 3)
    assert "marks" not in json.loads((tmp_path / "results" / "results.jsonl").read_text().splitlines()[0])
