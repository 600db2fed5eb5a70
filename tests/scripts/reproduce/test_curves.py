"""Curves over the number of training shapes, with known numbers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from pcsa.scripts.reproduce.combined import Combination
from pcsa.scripts.reproduce.curves import shot_curves
from pcsa.scripts.reproduce.study import Study
from pcsa.scripts.reproduce.tables import Made
from pcsa.viz.plots import plot_shots

STUDY = Study(
    name="few",
    title="Few shots",
    task="supervised",
    preset="default",
    methods={
        "all": "",
        "4 shots": "--data.shots 4",
        "2 shots": "--data.shots=2",
        "sharp": "--optimizer.lr 1",
        "sharp, 2 shots": "--data.shots 2 --optimizer.lr 1",
    },
    baseline="all",
    categories=("skull",),
    columns=("mean error", "presence AP"),
    folds=3,
    seeds=2,
    combined={"8 variations": Combination(of="all", test_time=8)},
)


def made(method, fold, seed, error, finished=True):
    """A run of a fold of two shapes that miss by this much, and by one more."""
    run = SimpleNamespace(
        method=method, category="skull", fold=fold, seed=seed, read_outs=("median", "mean shape"), split="val"
    )
    row = {
        "keypoints": {f"{fold}a": 5, f"{fold}b": 5},
        "shapes": {"median": {"mean error": [error, error + 1]}, "mean shape": {"mean error": [7.0, 7.0]}},
        "figures": {"median": {"mean error": error + 0.5, "presence AP": 0.5}, "mean shape": {}},
    }
    return Made(run, row if finished else None)


@pytest.fixture
def runs():
    found = [made("all", fold, seed, 1.0 + seed) for fold in range(3) for seed in range(2)]
    found += [made("4 shots", fold, 0, 3.0) for fold in range(3)]
    found += [made("2 shots", 0, 0, 5.0), made("2 shots", 1, 0, 6.0, finished=False)]
    found += [made("sharp, 2 shots", 0, 0, 9.0)]
    return found


def test_a_curve_has_the_mean_over_the_shapes_that_all_have_for_each_number_of_shots(runs):
    curves = {(curve.name, curve.panel): curve for curve in shot_curves(STUDY, runs)}
    # Two shots and the sharp one have scored one fold.
    assert set(curves) == {
        (f"{name}, {read_out}", "skull (2): mean error")
        for name in ("all", "sharp")
        for read_out in ("median", "mean shape")
    }
    points = curves["all, median", "skull (2): mean error"].points
    # All: two shapes in each of three folds, four of them to train on; seeds 1 and 2, shapes as much and one more.
    assert [(count, mean) for count, mean, *_ in points] == [(2, 5.5), (4, 2.0), (4, 3.5)]
    for _, mean, low, high in points:
        assert (low, high) == (mean - 0.5, mean + 0.5)
    assert [curve.floor for curve in curves.values()] == [False, True, False, True]
    assert curves["sharp, median", "skull (2): mean error"].points[0][:2] == (2, 9.5)


def test_shapes_that_no_method_shares_make_no_curve(runs):
    others = [m for m in runs if m.run.method != "2 shots"] + [made("2 shots", 7, 0, 5.0)]
    assert shot_curves(STUDY, others) == []


def test_means_of_networks_are_points_beside_the_curves(runs):
    row = made("8 variations", 0, 0, 0.5)
    row = row._replace(row={**row.row, "combined": {"seeds": [0]}})
    curves = {curve.name: curve for curve in shot_curves(STUDY, [*runs, row])}
    assert curves["8 variations, median"].points[0][:2] == (4, 1.0)
    assert "8 variations, mean shape" not in curves


@pytest.mark.parametrize(
    "study",
    [
        replace(STUDY, methods={"all": "", "sharp": "--optimizer.lr 1"}, combined={}),
        replace(STUDY, folds=0),
    ],
)
def test_without_shots_or_folds_there_are_no_curves(study, runs):
    assert shot_curves(study, [m for m in runs if m.run.method in study.methods]) == []
    assert plot_shots([]) is None


def test_one_number_of_shapes_is_no_curve(runs):
    assert shot_curves(STUDY, [m for m in runs if m.run.method == "all"]) == []


def test_the_plot_has_a_panel_for_each_figure_and_a_tick_for_each_number(runs):
    curves = shot_curves(STUDY, runs)
    figure = plot_shots(curves)
    (axes,) = figure.axes
    assert axes.get_title() == "skull (2): mean error"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "all"]
    drawn = {container.get_label(): container.lines[0] for container in axes.containers}
    assert set(drawn) == {curve.name for curve in curves}
    for curve in curves:
        assert drawn[curve.name].get_ydata().tolist() == [mean for _, mean, *_ in curve.points]
        assert drawn[curve.name].get_linestyle() == ("--" if curve.floor else "-")
