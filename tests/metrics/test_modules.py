import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from pcsa.metrics import (
    PCK,
    KeypointMetrics,
    MeanKeypointError,
    confidence_correlation,
    keypoint_error,
    mean_error,
    pck,
    presence_average_precision,
    reliability_curve,
)

NAN = math.nan


def batch(seed: int, B: int, K: int = 4, *, categories: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(B, K, 3, generator=generator)
    visible = torch.rand(B, K, generator=generator) < 0.7
    visible[0, 0] = True
    noise = 0.1 * torch.rand(3, B, K, 1, generator=generator)
    return {
        "predicted": target + noise[0] * torch.tensor([0.0, 0.6, 0.8]),
        "target": target,
        "visible": visible,
        "category": torch.randint(0, categories, (B,), generator=generator),
        "symmetric_target": target,
        "geodesic": noise[1, ..., 0],
        "geodesic_symmetric": noise[2, ..., 0],
        "confidence": torch.rand(B, K, generator=generator),
        "presence_logits": torch.randn(B, K, generator=generator),
    }


def of_distances(data: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"distance": data["geodesic"], "visible": data["visible"]}


def every_metric(test):
    """Run a test for every class: how one is made, and what it takes of a batch."""
    cases = [
        pytest.param(lambda: PCK([0.02, 0.05]), of_distances, id="PCK"),
        pytest.param(MeanKeypointError, of_distances, id="MeanKeypointError"),
        pytest.param(
            lambda: KeypointMetrics([0.02, 0.05], categories=["bed", "chair"], correct_threshold=0.05, num_bins=3),
            lambda data: data,
            id="KeypointMetrics",
        ),
    ]
    return pytest.mark.parametrize(("make", "pick"), cases)(test)


def flat(value) -> list:
    if isinstance(value, dict):
        return [(key, *x) for key, v in sorted(value.items()) for x in flat(v)]
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, list):
        return [(i, *x) for i, v in enumerate(value) for x in flat(v)]
    return [(value,)]


def assert_same(one, other):
    one, other = flat(one), flat(other)
    assert [x[:-1] for x in one] == [x[:-1] for x in other]
    for x, y in zip(one, other, strict=True):
        if y[-1] is None:
            assert x[-1] is None, x
        else:
            assert x[-1] == pytest.approx(y[-1], rel=1e-6, nan_ok=True), x


@every_metric
def test_batches_add_up_to_one_shot(make, pick):
    data = batch(0, 9)
    whole = make()
    whole.update(**pick(data))
    parts = make()
    for rows in (slice(0, 2), slice(2, 3), slice(3, 9)):
        parts.update(**pick({name: value[rows] for name, value in data.items()}))
    assert_same(parts.compute(), whole.compute())
    # What forward returns is the batch's own score, and it leaves the total right.
    parts.reset()
    first = {name: value[:5] for name, value in data.items()}
    on_batch = parts(**pick(first))
    alone = make()
    alone.update(**pick(first))
    assert_same(on_batch, alone.compute())
    parts.update(**pick({name: value[5:] for name, value in data.items()}))
    assert_same(parts.compute(), whole.compute())


@every_metric
def test_two_states_merge_into_one(make, pick):
    data = batch(1, 9)
    whole, one, two = make(), make(), make()
    whole.update(**pick(data))
    one.update(**pick({name: value[:4] for name, value in data.items()}))
    two.update(**pick({name: value[4:] for name, value in data.items()}))
    one.merge_state(two)
    assert_same(one.compute(), whole.compute())


def sync(one: Metric, two: Metric) -> None:
    """Give `one` what gathering from two processes would; checks what gathering needs."""
    gathered = []
    two.sync(dist_sync_fn=lambda x, group: gathered.append(x) or [x], distributed_available=lambda: True)
    two.unsync()
    others = iter(gathered)

    def gather(x: Tensor, group: object) -> list[Tensor]:
        other = next(others)
        assert x.dtype == other.dtype
        assert x.ndim == other.ndim
        return [x, other]

    one.sync(dist_sync_fn=gather, distributed_available=lambda: True)


@pytest.mark.parametrize("share", [5, 9])
@every_metric
def test_processes_sync(make, pick, share):
    # With all 9 shapes on one process the other has nothing, and still has to take part.
    data = batch(2, 9)
    whole, one, two = make(), make(), make()
    whole.update(**pick(data))
    one.update(**pick({name: value[:share] for name, value in data.items()}))
    if share < 9:
        two.update(**pick({name: value[share:] for name, value in data.items()}))
    sync(one, two)
    assert_same(type(one).compute(one), whole.compute())  # the class's own: the instance's would sync again
    one.unsync()
    sync(two, one)
    assert_same(type(two).compute(two), whole.compute())


def test_what_no_process_was_given_stays_out():
    one, two = updated(), KeypointMetrics()
    sync(two, one)
    assert_same(KeypointMetrics.compute(two), one.compute())


def test_modules_agree_with_the_functions():
    data = batch(3, 8, categories=1)
    distance, visible = data["geodesic"], data["visible"]
    out = MetricCollection([PCK(), MeanKeypointError()])(**of_distances(data))
    torch.testing.assert_close(out["PCK"], pck(distance, visible))
    torch.testing.assert_close(out["MeanKeypointError"], mean_error(distance, visible))
    metric = KeypointMetrics(correct_threshold=0.05)
    metric.update(**data)
    overall = metric.compute()["overall"]
    assert overall["geodesic"] == {"pck": out["PCK"].tolist(), "mean_error": out["MeanKeypointError"].item()}
    right = keypoint_error(data["predicted"], data["target"], visible)[visible] < 0.05
    calibration = overall["calibration"]
    assert calibration["pearson"] == confidence_correlation(data["confidence"][visible], right).item()
    curve = reliability_curve(data["confidence"][visible], right)
    assert calibration["reliability"] == {name: value.tolist() for name, value in curve._asdict().items()}
    average = presence_average_precision(data["presence_logits"], visible).nanmean()
    assert overall["presence_average_precision"] == average.item()


def figures(*distances, presence):
    """PCK and mean error of each kind of distance, and the presence's average precision, as they are reported."""
    names = ("euclidean", "euclidean_symmetric", "geodesic")
    errors = {name: {"pck": p, "mean_error": e} for name, (p, e) in zip(names, distances, strict=True)}
    return {**errors, "presence_average_precision": presence}


def test_keypoint_metrics_by_hand(bools):
    # Two beds and a chair, two keypoints on a line. Errors: bed 0.005 and 0.03, bed 0.02 and missing, chair
    # missing and 0.005. Symmetry mends the second bed, the geodesic distance breaks the chair.
    target = torch.zeros(3, 2, 1)
    predicted = torch.tensor([[[0.005], [0.03]], [[0.02], [9]], [[9], [0.005]]])
    visible = bools("11", "10", "01")
    symmetric = target.clone()
    symmetric[1, 0, 0] = 0.02
    metric = KeypointMetrics([0.01, 0.025], categories=["bed", "sofa", "chair"], keypoint_names={"bed": ["a", "b"]})
    metric.update(
        predicted,
        target,
        visible,
        category=torch.tensor([0, 0, 2]),
        symmetric_target=symmetric,
        geodesic=torch.tensor([[0.005, 0.03], [0.02, 0], [0, math.inf]]),
        presence_logits=torch.tensor([[1.0, 3], [2, 4], [0, 0]]),
    )
    out = metric.compute()
    assert json.loads(json.dumps(out, allow_nan=False)) == out
    # Shapes: 1/2, 0, 1 and 1/2, 1, 1; errors 0.0175, 0.02, 0.005.
    overall = figures(
        ([0.5, 2.5 / 3], 0.0425 / 3), ([2.5 / 3, 2.5 / 3], 0.0225 / 3), ([0.5 / 3, 0.5], None), presence=0.5
    )
    # "a" is on both; "b" on the one that scores lower: precision 1/2.
    bed = figures(([0.25, 0.75], 0.01875), ([0.75, 0.75], 0.00875), ([0.25, 0.75], 0.01875), presence=0.5)
    a = figures(([0.5, 1], 0.0125), ([1, 1], 0.0025), ([0.5, 1], 0.0125), presence=None)
    b = figures(([0, 0], 0.03), ([0, 0], 0.03), ([0, 0], 0.03), presence=0.5)
    chair = figures(([1, 1], 0.005), ([1, 1], 0.005), ([0, 0], None), presence=None)
    wanted = {
        "thresholds": [0.01, 0.025],
        "overall": {"num_shapes": 3, "num_keypoints": 4, **overall},
        "per_category": {
            "bed": {"num_shapes": 2, "num_keypoints": 3, **bed},
            "chair": {"num_shapes": 1, "num_keypoints": 1, **chair},
        },
        "per_keypoint": {
            "bed": {"a": {"num_shapes": 2, **a}, "b": {"num_shapes": 1, **b}},
            "chair": {"1": {"num_shapes": 1, **chair}},
        },
    }
    assert_same(out, wanted)


def test_only_what_was_passed_appears(bools):
    metric = KeypointMetrics([0.1], correct_threshold=0.1, num_bins=2)
    metric.update(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), bools("11"), confidence=torch.tensor([[0.2, 0.9]]))
    out = metric.compute()
    assert set(out["overall"]) == {"num_shapes", "num_keypoints", "euclidean", "calibration"}
    assert out["overall"]["calibration"] == {
        "threshold": 0.1,
        "pearson": None,  # all are right
        "reliability": {
            "confidence": pytest.approx([0.2, 0.9]),
            "accuracy": [1, 1],
            "counts": [1, 1],
        },
    }
    assert list(out["per_category"]) == ["all"]


def test_states_do_not_hold_the_graph(bools):
    logits = torch.zeros(1, 3, requires_grad=True)
    visible = bools("111")
    updates = [
        (PCK(), (logits + 1, visible)),
        (MeanKeypointError(), (logits + 1, visible)),
        (KeypointMetrics(), (logits[..., None], torch.ones(1, 3, 1), visible), {"presence_logits": logits}),
    ]
    for metric, arguments, *options in updates:
        metric(*arguments, **dict(*options))  # forward, in which torchmetrics leaves gradients on
        states = [*metric.metric_state.values()]
        states = [state for value in states for state in (value if isinstance(value, list) else [value])]
        assert states
        assert not any(state.requires_grad for state in states)


P, T, V = torch.zeros(2, 3, 3), torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
D = torch.ones(2, 3)


def updated(metric: KeypointMetrics | None = None, **kwargs) -> KeypointMetrics:
    metric = metric or KeypointMetrics()
    metric.update(**{"predicted": P, "target": T, "visible": V, **kwargs})
    return metric


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("metric", [PCK(), MeanKeypointError(), KeypointMetrics()])
def test_nothing_seen(metric):
    with pytest.raises(ValueError, match="nothing to compute"):
        metric.compute()


def test_a_rejected_update_leaves_no_trace():
    metric = updated(geodesic=D)
    before = flat(metric.compute())
    with pytest.raises(ValueError, match="presence_logits"):
        metric.update(P, T, V, geodesic=D, presence_logits=D)
    metric._computed = None
    assert flat(metric.compute()) == before


def test_empty_batch_changes_nothing():
    metric = updated()
    metric.update(P[:0], T[:0], V[:0])
    assert metric.compute()["overall"]["num_shapes"] == 2


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: PCK([0.1, math.inf]), "`thresholds`"),
        (lambda: KeypointMetrics([]), "`thresholds`"),
        (lambda: KeypointMetrics(correct_threshold=-1), "`correct_threshold`"),
        (lambda: KeypointMetrics(num_bins=0), "`num_bins`"),
        (lambda: KeypointMetrics(categories=[]), "`categories`"),
        (lambda: KeypointMetrics(categories=["bed", "bed"]), "`categories`"),
        (lambda: KeypointMetrics(categories="bed"), "`categories`"),
        (lambda: KeypointMetrics(categories=["bed"], keypoint_names={"bad": ["0"]}), "`keypoint_names`.*bad"),
        (lambda: updated(KeypointMetrics(keypoint_names={"all": ["0"]})).compute(), "`keypoint_names`"),
        (lambda: updated(category=torch.tensor([0, 1])), "`category`.*0 to 0"),
        (lambda: updated(category=torch.tensor([0])), "`category`"),
        (lambda: updated(category=torch.tensor([0.0, 0])), "`category`"),
        (lambda: updated(symmetric_target=T[:1]), "`symmetric_target`"),
        (lambda: updated(symmetric_target=T / 0), "`symmetric_target` must be finite"),
        (lambda: KeypointMetrics(keypoint_names={"all": ["a", "b", "a"]}), "`keypoint_names`.*different"),
        (lambda: updated(geodesic=D[:1]), "`geodesic`"),
        (lambda: updated(geodesic_symmetric=D * NAN), "`geodesic_symmetric`"),
        (lambda: updated(confidence=D[:1]), "`confidence`"),
        (lambda: updated(confidence=D * 2), "`confidence`"),
        (lambda: updated(presence_logits=D * NAN), "`presence_logits`"),
        (lambda: updated(presence_logits=V), "`presence_logits`"),
        (lambda: updated(updated(), geodesic=D), "`geodesic` must be given at every update or at none"),
        (lambda: updated(updated(presence_logits=D)), "`presence_logits` must be given"),
        (lambda: updated(updated(), predicted=P[:, :2], target=T[:, :2], visible=V[:, :2]), "K=2.*K=3"),
        (lambda: updated(visible=~V).compute(), "no visible keypoint"),
        (lambda: KeypointMetrics(correct_threshold=0.0), "`correct_threshold` \\(=0.0\\)"),
        (lambda: updated(presence_logits=D[:, :2]), "`presence_logits`"),
        (lambda: KeypointMetrics(binning="quantile"), "`binning`"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_numpy_s_thresholds_become_json():
    metric = KeypointMetrics(np.array([0, 0.25], np.float32), correct_threshold=np.float32(0.25))
    metric.update(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))
    assert json.loads(json.dumps(metric.compute()))["thresholds"] == [0, 0.25]
