import pytest

from pcsa.scripts.reproduce.figures import run_figures, scored_shapes, shape_figures
from pcsa.tasks import get_task

# Four keypoints of which one is not annotated, and a shape without any.
METRICS = {
    "split": "val",
    "per_shape": {
        "a": {"num_keypoints": 3, "euclidean": [0.005, None, 0.015, 0.1], "geodesic": [0.02, None, None, 0.2]},
        "none": {"num_keypoints": 0, "euclidean": [None] * 4, "geodesic": [None] * 4},
        "b": {"num_keypoints": 4, "euclidean": [0.0, 0.0, 0.0, 0.01], "geodesic": [0.0, 0.0, 0.0, 0.0]},
    },
}


def test_figures_of_each_shape():
    assert scored_shapes(METRICS) == {"a": 3, "b": 4}
    found = shape_figures(METRICS)
    # Strictly below the threshold; an infinite distance along the surface is wrong.
    assert found["PCK@0.01"] == [pytest.approx(100 / 3, abs=1e-3), 75]
    assert found["PCK@0.02"] == [pytest.approx(200 / 3, abs=1e-3), 100]
    assert found["geodesic PCK@0.01"] == [0, 100]
    assert found["mean error"] == [0.04, 0.0025]


def test_figures_of_a_run_are_their_means():
    found = run_figures(get_task("supervised"), METRICS)
    assert found["PCK@0.01"] == pytest.approx((100 / 3 + 75) / 2, abs=1e-3)
    assert found["mean error"] == pytest.approx((0.04 + 0.0025) / 2)


def test_the_dual_alignment_score_is_the_mean_of_what_shapes_add():
    shapes = {"a": {"num_keypoints": 2, "dual_alignment": 0.75}, "b": {"num_keypoints": 1, "dual_alignment": -0.05}}
    assert shape_figures({"per_shape": shapes}) == {"DAS, all shapes": [75, -5]}


def test_a_task_without_scores_of_shapes_has_its_columns():
    metrics = {"category": {"rows": {"detector": {"dual_alignment": {"mean": 0.5}}}}}
    assert run_figures(get_task("unsupervised"), metrics) == {"DAS, all shapes": 50}
    assert scored_shapes(metrics) == shape_figures(metrics) == {}
