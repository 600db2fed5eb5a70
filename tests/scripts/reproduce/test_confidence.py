import pytest

from pcsa.scripts.reproduce.confidence import keypoint_confidence, pooled


def shape(mass, euclidean):
    return {"read_outs": {"ball": {"mass": mass, "euclidean": euclidean}, "peak": {"euclidean": euclidean}}}


METRICS = {
    "confidence": {"threshold": 0.01},
    # The third keypoint is not annotated, and one is infinitely far away.
    "per_shape": {
        "a": shape([0.123456, 0.5, None], [0.0, 0.01, None]),
        "b": shape([1.0000001, 0.25, 0.0], [0.009, None, 0.02]),
    },
}


def test_confidence_of_annotated_keypoints():
    found = keypoint_confidence(METRICS)
    assert found == {"ball": {"mass": [0.1235, 0.5, 1.0, 0.25, 0.0], "right": [1, 0, 1, 0, 0]}}
    assert keypoint_confidence({"confidence": {}, "per_shape": {}}) == keypoint_confidence({}) == {}


def test_figures_of_rows_together():
    rows = [
        {"confidence": {"ball": {"mass": [0.25, 0.75], "right": [0, 1]}}},
        {"confidence": {"ball": {"mass": [0.25, 0.75], "right": [1, 1]}}},
    ]
    # (0, 1, 1, 1) against (-1, 1, -1, 1): covariance 1/4, deviations sqrt(3)/4 and 1.
    assert pooled("r of the confidence", rows, "ball") == pytest.approx(1 / 3**0.5)
    # Half are right at 0.25, all at 0.75; by themselves the rows would have 0.25 and 0.5.
    assert pooled("calibration error of the confidence", rows, "ball") == pytest.approx(0.25)
    assert pooled("r of the confidence", rows[:1], "ball") == pytest.approx(1)
    assert pooled("r of the confidence", rows, "peak") is None
    assert pooled("mean error", rows, "ball") is None
    assert pooled("r of the confidence", [*rows, {}], "ball") is None
    assert pooled("r of the confidence", [], "ball") is None
    same = [{"confidence": {"ball": {"mass": [0.5, 0.5], "right": [0, 1]}}}]
    assert pooled("r of the confidence", same, "ball") is None


def test_confidence_under_a_temperature_of_other_clouds():
    cross_fitted = {"a": [0.2, 0.4, None], "b": [0.8, 0.2, 0.0]}
    metrics = {**METRICS, "per_shape": {name: dict(of) for name, of in METRICS["per_shape"].items()}}
    for name, of in metrics["per_shape"].items():
        ball = {**of["read_outs"]["ball"], "cross_fitted": cross_fitted[name]}
        of["read_outs"] = {**of["read_outs"], "ball": ball}
    (found,) = keypoint_confidence(metrics).values()
    assert found["fitted"] == [0.2, 0.4, 0.8, 0.2, 0.0]
    assert len(found["right"]) == 5

    rows = [
        {"confidence": {"ball": {"mass": [0.5, 0.5], "right": [0, 1], "fitted": [0.25, 0.75]}}},
        {"confidence": {"ball": {"mass": [0.5, 0.5], "right": [1, 1], "fitted": [0.25, 0.75]}}},
    ]
    assert pooled("calibration error, fitted", rows, "ball") == pytest.approx(0.25)
    assert pooled("r of the confidence, fitted", rows, "ball") == pytest.approx(1 / 3**0.5)
    # A row of an earlier version does not have it.
    del rows[0]["confidence"]["ball"]["fitted"]
    assert pooled("calibration error, fitted", rows, "ball") is None
    assert pooled("calibration error of the confidence", rows, "ball") == pytest.approx(0.25)
