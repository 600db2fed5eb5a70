import pytest

from pcsa.scripts.reproduce.figures import run_figures, scored_shapes, shape_figures
from pcsa.tasks import get_task


def shape(num_keypoints, **read_outs):
    return {"num_keypoints": num_keypoints, "read_outs": read_outs}


# Four keypoints of which one is not annotated, and a shape without any.
METRICS = {
    "split": "val",
    "read_out": "expectation",
    "per_shape": {
        "a": shape(
            3,
            expectation={"euclidean": [0.005, None, 0.015, 0.1], "geodesic": [0.02, None, None, 0.2]},
            peak={"euclidean": [0.0, None, 0.0, 0.0]},
        ),
        "none": shape(
            0,
            expectation={"euclidean": [None] * 4, "geodesic": [None] * 4},
            peak={"euclidean": [None] * 4},
        ),
        "b": shape(
            4,
            expectation={"euclidean": [0.0, 0.0, 0.0, 0.01], "geodesic": [0.0, 0.0, 0.0, 0.0]},
            peak={"euclidean": [0.5] * 4},
        ),
    },
    "read_outs": {"peak": {"mass": {"pearson": 0.7, "why": "text"}, "sure": True, "curve": [1.0]}},
    "confidence": {"mass": {"pearson": 0.25, "none": None}},
}


def test_figures_of_each_shape():
    assert scored_shapes(METRICS) == {"a": 3, "b": 4}
    found = shape_figures(METRICS)
    # Strictly below the threshold; an infinite distance along the surface is wrong.
    assert found["expectation"]["PCK@0.01"] == [pytest.approx(100 / 3, abs=1e-3), 75]
    assert found["expectation"]["PCK@0.02"] == [pytest.approx(200 / 3, abs=1e-3), 100]
    assert found["expectation"]["geodesic PCK@0.01"] == [0, 100]
    assert found["expectation"]["mean error"] == [0.04, 0.0025]
    assert found["peak"]["PCK@0.01"] == [100, 0]
    assert "geodesic PCK@0.01" not in found["peak"]


def test_figures_of_a_run():
    found = run_figures(get_task("supervised"), METRICS)
    assert found["expectation"]["PCK@0.01"] == pytest.approx((100 / 3 + 75) / 2, abs=1e-3)
    assert found["expectation"]["mean error"] == pytest.approx((0.04 + 0.0025) / 2)
    assert found["expectation"]["confidence/mass/pearson"] == 0.25
    assert found["peak"].keys() == {"PCK@0.01", "PCK@0.02", "PCK@0.05", "mean error", "mass/pearson"}
    assert (found["peak"]["PCK@0.01"], found["peak"]["mass/pearson"]) == (50, 0.7)


def test_the_dual_alignment_score_is_the_mean_of_what_shapes_add():
    shapes = {"a": shape(2, peak={"dual_alignment": 0.75}), "b": shape(1, peak={"dual_alignment": -0.05})}
    assert shape_figures({"per_shape": shapes}) == {"peak": {"DAS, all shapes": [75, -5]}}


def test_a_task_without_scores_of_shapes_has_its_columns():
    metrics = {"read_out": "peak", "category": {"rows": {"detector": {"dual_alignment": {"mean": 0.5}}}}}
    assert run_figures(get_task("unsupervised"), metrics) == {"peak": {"DAS, all shapes": 50}}
    assert scored_shapes(metrics) == shape_figures(metrics) == {}
