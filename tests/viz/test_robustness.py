"""The plot of broken clouds: a panel for each kind, a curve for each run."""

import math

from pcsa.viz.robustness import plot_robustness


def result(right, *, presence=False, likelihood=False):
    interval = {"mean": -0.1, "low": -0.2, "high": 0.05}
    rows = [{"kind": "whole", "level": 0, "right": right, "error": 0.02}]
    for kind, level in (("noise", 0.01), ("noise", 0.05), ("missing", 0.5), ("sampling", "area")):
        rows.append({"kind": kind, "level": level, "right": right - 0.1, "error": 0.04, "difference": interval})
    if presence:
        rows[3] |= {"present_gone": 0.3}
    if likelihood:
        for row in rows[:2]:
            row["likelihood"] = {"neighbors": 1.0, "constant": 0.5, "gain": interval}
    return {"threshold": 0.05, "diagonal": 2.0, "rows": rows}


def test_a_panel_for_each_kind_and_a_curve_for_each_run():
    figure = plot_robustness({"detector": result(0.8, presence=True, likelihood=True), "merger": result(0.6)})
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["noise", "a missing part", "sampled anew on the mesh", "own bandwidths against a constant"]
    noise, missing, sampling, gains = figure.axes
    assert [text.get_text() for text in noise.get_xticklabels()] == ["whole", "1", "5"]
    assert [text.get_text() for text in sampling.get_xticklabels()] == ["whole", "area"]
    assert [text.get_text() for text in gains.get_xticklabels()] == ["whole", "noise 1"]
    curves = [line for line in noise.get_lines() if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"]
    drawn = {tuple(round(y) for y in line.get_ydata()) for line in curves}
    assert drawn == {(80, 70, 70), (60, 50, 50)}
    # Errors are shares of the diagonal, 2.
    dashed = [line.get_ydata() for line in noise.get_lines() if line.get_linestyle() == "--"]
    assert [[round(y, 6) for y in ys] for ys in dashed] == [[1, 2, 2], [1, 2, 2]]
    dotted = [line.get_ydata() for line in missing.get_lines() if line.get_linestyle() == ":"]
    assert len(dotted) == 1
    assert math.isnan(dotted[0][0])
    assert dotted[0][1] == 30
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(names) == {"detector", "merger", "gone, said to be there"}


def test_what_could_not_be_scored_leaves_a_gap():
    broken = result(0.8)
    broken["rows"][2] |= {"right": None, "error": None}
    figure = plot_robustness({"detector": broken})
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines() if line.get_marker() == "o"] == [2]
