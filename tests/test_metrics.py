import doctest
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torchmetrics import Metric, MetricCollection

import pcsa.metrics
from pcsa.metrics import (
    PCK,
    Calibration,
    KeypointMetrics,
    MeanKeypointError,
    PresenceAveragePrecision,
    confidence_correlation,
    keypoint_error,
    mean_error,
    pck,
    presence_average_precision,
    reliability_curve,
    symmetric_error,
)

NAN = math.nan


def bools(*rows: str) -> Tensor:
    """`bools("1101", …)` as a [B, K] mask."""
    return torch.tensor([[c == "1" for c in row] for row in rows])


# Errors


def test_four_of_five_right_gives_0_8():
    target = torch.rand(1, 5, 3)
    predicted = target + torch.tensor([0.003, 0, 0])
    predicted[0, 2] += 1
    distance = keypoint_error(predicted, target, bools("11111"))
    assert pck(distance, bools("11111"), [0.002, 0.01, 0.1, 10]).tolist() == pytest.approx([0, 0.8, 0.8, 1])


def test_shapes_weigh_the_same_however_many_keypoints_they_have():
    # Shape 0 has four keypoints, one right; shape 1 has one, right; shape 2 has none and is left out.
    # Per shape: (1/4 + 1) / 2 = 0.625. Pooled it would be 2/5, with the third shape (1/4 + 1) / 3.
    distance = torch.tensor([[0.0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]])
    visible = bools("1111", "1000", "0000")
    assert pck(distance, visible, [0.5]).tolist() == [0.625]
    # Likewise ((0 + 1 + 1 + 1) / 4 + 0) / 2.
    assert mean_error(distance, visible).item() == 0.375


def test_a_distance_at_the_threshold_is_not_correct():
    for dtype in (torch.float32, torch.float64):
        distance = torch.tensor([[0.0, 0.01, 0.07, 0.1]], dtype=dtype)
        just_below = torch.nextafter(distance, torch.tensor(-1.0, dtype=dtype))
        expected = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]) / 4  # 0.07 counts from 0.08 on, 0.1 never
        expected[1:] += 1 / 4  # 0 counts from 0.01 on
        expected[2:] += 1 / 4  # 0.01 counts from 0.02 on
        assert pck(distance, bools("1111")).tolist() == pytest.approx(expected.tolist())
        assert pck(just_below[:, 1:2], bools("1"), [0.01]).item() == 1
        metric = KeypointMetrics([0.01])
        metric.update(
            distance[:, 1:2, None], torch.zeros(1, 1, 1, dtype=dtype), bools("1"), confidence=distance[:, 1:2]
        )
        out = metric.compute()["overall"]
        assert out["euclidean"]["pck"] == [0]
        assert sum(a or 0 for a in out["calibration"]["reliability"]["accuracy"]) == 0


def test_default_thresholds_are_the_benchmarks():
    assert list(pcsa.metrics.THRESHOLDS) == [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1]
    assert pck(torch.zeros(1, 1), bools("1")).tolist() == [0] + [1] * 10


def test_what_is_not_visible_reaches_neither_value_nor_gradient():
    predicted = torch.tensor([[[3.0, 4], [1, 1], [5, 6]]], requires_grad=True)
    target = torch.tensor([[[0.0, 0], [NAN, math.inf], [5, 6]]])
    error = keypoint_error(predicted, target, bools("101"))
    assert error.tolist() == [[5, 0, 0]]
    mean_error(error, bools("101")).backward()
    # (5 + 0) / 2: the gradient is (3, 4) / 5 / 2; none where missing, none where both coincide.
    torch.testing.assert_close(predicted.grad, torch.tensor([[[0.3, 0.4], [0, 0], [0, 0]]]))
    distance = torch.tensor([[0.0, NAN]])
    assert pck(distance, bools("10"), [0.1]).item() == 1
    assert mean_error(distance, bools("10")).item() == 0


def test_infinite_distances_are_valid_and_wrong():
    distance = torch.tensor([[0.0, math.inf]])
    assert pck(distance, bools("11"), [1e30]).item() == 0.5
    assert mean_error(distance, bools("11")).item() == math.inf
    # One that is not visible does not count.
    assert mean_error(distance, bools("10")).item() == 0


def test_half_precision_is_compared_in_single():
    predicted = torch.tensor([[[1.0]]], dtype=torch.bfloat16)
    error = keypoint_error(predicted, torch.tensor([[[0.996]]]), bools("1"))
    assert error.dtype == torch.float32
    assert error.item() == pytest.approx(0.004, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
def test_pck_and_mean_error_against_loops(seed, B, K, D):
    generator = torch.Generator().manual_seed(seed)
    predicted, target = torch.rand(2, B, K, D, generator=generator, dtype=torch.float64)
    visible = torch.rand(B, K, generator=generator) < 0.6
    visible[0, 0] = True
    distance = keypoint_error(predicted, target, visible)
    thresholds = [0.1, 0.3, 0.5]
    fractions, errors = [], []
    for b in range(B):
        present = [k for k in range(K) if visible[b, k]]
        if not present:
            continue
        d = [math.dist(predicted[b, k].tolist(), target[b, k].tolist()) for k in present]
        fractions.append([sum(x < t for x in d) / len(d) for t in thresholds])
        errors.append(sum(d) / len(d))
    np.testing.assert_allclose(pck(distance, visible, thresholds), np.mean(fractions, axis=0), rtol=1e-12)
    np.testing.assert_allclose(mean_error(distance, visible), np.mean(errors), rtol=1e-12)


# Symmetry


def square() -> tuple[Tensor, Tensor, Tensor]:
    """A square's corners, and its labelings turned by 0, 90, 180 and 270 degrees, as positions and rows."""
    pos = torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]])
    index = torch.stack([(torch.arange(4) + r) % 4 for r in range(4)])
    return pos, pos[index], index


def test_a_square_turned_by_90_degrees_is_right_under_its_symmetry_only():
    pos, candidates, index = square()
    visible = bools("1111")
    predicted = pos[[1, 2, 3, 0]]  # every corner called by its neighbor's name
    assert pck(keypoint_error(predicted[None], pos[None], visible), visible, [0.1]).item() == 0
    by_distance = symmetric_error(predicted, candidates, visible[0])
    logits = 5 * torch.nn.functional.one_hot(index[1], 4).T.float()  # column k peaks at row index[1, k]
    by_entropy = symmetric_error(predicted, candidates, visible[0], logits=logits, index=index)
    for error, choice in (by_distance, by_entropy):
        assert choice.item() == 1
        assert pck(error[None], visible, [0.1]).item() == 1


def test_cross_entropy_decides_when_given():
    # The positions say labeling 1, the network's map says labeling 2: the benchmark's rule follows the map.
    _, candidates, index = square()
    logits = 5 * torch.nn.functional.one_hot(index[2], 4).T.float()
    error, choice = symmetric_error(candidates[1], candidates, bools("1111")[0], logits=logits, index=index)
    assert choice.item() == 2
    assert error.tolist() == [2, 2, 2, 2]  # neighboring corners of a square of side 2
    log_prob = logits.log_softmax(0)
    again = symmetric_error(candidates[1], candidates, bools("1111")[0], logits=log_prob, index=index)
    assert again.choice.item() == 2


def test_cross_entropy_is_that_of_the_benchmark():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = torch.randn(9, 4, generator=generator)
        index = torch.randint(0, 9, (5, 4), generator=generator)
        visible = torch.tensor([True, True, False, True])
        target = index.masked_fill(~visible, -1)  # as the loader marks what is missing
        loss = [torch.nn.functional.cross_entropy(logits.T, t, ignore_index=-1).item() for t in target]
        pos = torch.rand(9, 3, generator=generator)
        choice = symmetric_error(
            torch.rand(4, 3, generator=generator), pos[index], visible, logits=logits, index=target
        ).choice
        assert choice.item() == int(np.argmin(loss))


def test_symmetry_ignores_what_is_missing():
    _, candidates, _ = square()
    candidates[:, 3] = NAN
    predicted = candidates[2].clone()
    error, choice = symmetric_error(predicted, candidates, bools("1110")[0])
    assert choice.item() == 2
    assert error.tolist() == [0, 0, 0, 0]


def test_symmetric_error_has_a_gradient():
    _, candidates, _ = square()
    predicted = (candidates[1] + torch.tensor([0.3, 0.4])).requires_grad_()
    symmetric_error(predicted, candidates, bools("1111")[0]).error.sum().backward()
    torch.testing.assert_close(predicted.grad, torch.tensor([[0.6, 0.8]] * 4))


# Presence


def test_average_precision_by_hand():
    # Column 0, by falling score: present, absent, present, present, absent. Precision at the three:
    # 1, 2/3, 3/4; each adds 1/3 of recall. Column 1 ties all: precision 2/5 at recall 1.
    # Column 2: everybody has it; column 3: nobody.
    scores = torch.tensor([[5.0, 0, 0, 0], [4, 0, 1, 1], [3, 0, 2, 2], [2, 0, 3, 3], [1, 0, 4, 4]])
    present = bools("1110", "0010", "1010", "1110", "0010")
    result = presence_average_precision(scores, present)
    np.testing.assert_allclose(result, [(1 + 2 / 3 + 3 / 4) / 3, 2 / 5, NAN, NAN], rtol=1e-6)
    # Order is all that counts, also far up where a float32 sigmoid is flat.
    torch.testing.assert_close(presence_average_precision(scores + 100, present), result, equal_nan=True)
    torch.testing.assert_close(presence_average_precision(1e5 * (scores - 5), present), result, equal_nan=True)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=20))
def test_average_precision_against_a_loop(pairs):
    if len({p for _, p in pairs}) == 1:
        return
    result = presence_average_precision(
        torch.tensor([[float(s)] for s, _ in pairs]), torch.tensor([[p] for _, p in pairs])
    )
    positives = sum(p for _, p in pairs)
    expected = recall = 0.0
    for level in sorted({s for s, _ in pairs}, reverse=True):
        above = [p for s, p in pairs if s >= level]
        expected += (sum(above) / positives - recall) * (sum(above) / len(above))
        recall = sum(above) / positives
    assert result.item() == pytest.approx(expected, abs=1e-6)


# Calibration


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(3, 40), st.sampled_from([1.0, 1e-3, 1e-6]))
def test_pearson_against_numpy(seed, M, scale):
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(M, generator=generator, dtype=torch.float64) * scale
    correct = torch.rand(M, generator=generator) < 0.5
    correct[:2] = torch.tensor([True, False])
    expected = np.corrcoef(confidence.numpy(), correct.numpy().astype(float))[0, 1]
    assert confidence_correlation(confidence, correct).item() == pytest.approx(expected, abs=1e-9)


def test_pearson_of_constants_is_undefined():
    assert confidence_correlation(torch.tensor([0.1, 0.1]), torch.tensor([True, False])).isnan()
    assert confidence_correlation(torch.tensor([0.1, 0.2]), torch.tensor([True, True])).isnan()
    assert confidence_correlation(torch.tensor([0.1]), torch.tensor([True])).isnan()


def test_reliability_bins_by_hand():
    confidence = torch.tensor([0.05, 1.0, 0.1, 0.5, 0.2, 0.6], dtype=torch.float64)
    correct = torch.tensor([False, True, True, False, False, True])
    # Width 1/4: 0.05, 0.1 and 0.2 | none | 0.5 and 0.6 | 1.0, which belongs to the last bin.
    curve = reliability_curve(confidence, correct, 4, "equal_width")
    assert curve.counts.tolist() == [3, 0, 2, 1]
    np.testing.assert_allclose(curve.confidence, [0.35 / 3, NAN, 0.55, 1])
    np.testing.assert_allclose(curve.accuracy, [1 / 3, NAN, 1 / 2, 1])
    # Two each: 0.05 and 0.1 | 0.2 and 0.5 | 0.6 and 1.0.
    curve = reliability_curve(confidence, correct, 3)
    assert curve.counts.tolist() == [2, 2, 2]
    np.testing.assert_allclose(curve.confidence, [0.075, 0.35, 0.8])
    np.testing.assert_allclose(curve.accuracy, [0.5, 0, 1])


def test_equal_confidences_share_a_bin_in_any_order():
    confidence = torch.tensor([0.5, 0.5, 0.5, 0.9])
    correct = torch.tensor([True, False, False, True])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        curve = reliability_curve(confidence[order], correct[order], 2)
        assert curve.counts.tolist() == [3, 1]
        np.testing.assert_allclose(curve.accuracy, [1 / 3, 1])


# torchmetrics


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


def cases() -> list:
    shells = {
        PCK: ("distance", "visible"),
        MeanKeypointError: ("distance", "visible"),
        PresenceAveragePrecision: ("presence_logits", "visible"),
        Calibration: ("confidence", "distance", "visible"),
    }

    def pick(names):
        def inner(data):
            data = {**data, "distance": data["geodesic"]}
            return {name: data[name] for name in names}

        return inner

    make = {
        PCK: lambda: PCK([0.02, 0.05]),
        MeanKeypointError: MeanKeypointError,
        PresenceAveragePrecision: lambda: PresenceAveragePrecision(4),
        Calibration: lambda: Calibration(0.05, 3),
    }
    out = [pytest.param(make[cls], pick(names), id=cls.__name__) for cls, names in shells.items()]

    def whole():
        return KeypointMetrics([0.02, 0.05], categories=["bed", "chair"], correct_threshold=0.05, num_bins=3)

    return [*out, pytest.param(whole, lambda data: data, id="KeypointMetrics")]


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


@pytest.mark.parametrize(("make", "pick"), cases())
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


@pytest.mark.parametrize(("make", "pick"), cases())
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
@pytest.mark.parametrize(("make", "pick"), cases())
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


def test_shells_agree_with_the_functions_in_a_collection():
    data = batch(3, 8)
    distance, visible = data["geodesic"], data["visible"]
    metrics = MetricCollection([PCK(), MeanKeypointError(), Calibration(0.05), PresenceAveragePrecision(4)])
    metrics.update(
        distance=distance,
        visible=visible,
        confidence=data["confidence"],
        presence_logits=data["presence_logits"],
    )
    out = metrics.compute()
    torch.testing.assert_close(out["PCK"], pck(distance, visible))
    torch.testing.assert_close(out["MeanKeypointError"], mean_error(distance, visible))
    pearson = confidence_correlation(data["confidence"][visible], distance[visible] < 0.05)
    torch.testing.assert_close(out["pearson"], pearson)
    average = presence_average_precision(data["presence_logits"], visible)
    torch.testing.assert_close(out["per_keypoint"], average, equal_nan=True)
    torch.testing.assert_close(out["mean"], average.nanmean())


def test_keypoint_metrics_by_hand():
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
    assert_same(
        out,
        {
            "thresholds": [0.01, 0.025],
            "overall": {
                "num_shapes": 3,
                "num_keypoints": 4,
                # Shapes: 1/2, 0, 1 and 1/2, 1, 1; errors 0.0175, 0.02, 0.005.
                "euclidean": {"pck": [0.5, 2.5 / 3], "mean_error": 0.0425 / 3},
                "euclidean_symmetric": {"pck": [2.5 / 3, 2.5 / 3], "mean_error": 0.0225 / 3},
                "geodesic": {"pck": [0.5 / 3, 0.5], "mean_error": None},
                "presence_average_precision": 0.5,
            },
            "per_category": {
                "bed": {
                    "num_shapes": 2,
                    "num_keypoints": 3,
                    "euclidean": {"pck": [0.25, 0.75], "mean_error": 0.01875},
                    "euclidean_symmetric": {"pck": [0.75, 0.75], "mean_error": 0.00875},
                    "geodesic": {"pck": [0.25, 0.75], "mean_error": 0.01875},
                    # "a" is on both; "b" on the one that scores lower: precision 1/2.
                    "presence_average_precision": 0.5,
                },
                "chair": {
                    "num_shapes": 1,
                    "num_keypoints": 1,
                    "euclidean": {"pck": [1, 1], "mean_error": 0.005},
                    "euclidean_symmetric": {"pck": [1, 1], "mean_error": 0.005},
                    "geodesic": {"pck": [0, 0], "mean_error": None},
                    "presence_average_precision": None,
                },
            },
            "per_keypoint": {
                "bed": {
                    "a": {
                        "num_shapes": 2,
                        "euclidean": {"pck": [0.5, 1], "mean_error": 0.0125},
                        "euclidean_symmetric": {"pck": [1, 1], "mean_error": 0.0025},
                        "geodesic": {"pck": [0.5, 1], "mean_error": 0.0125},
                        "presence_average_precision": None,
                    },
                    "b": {
                        "num_shapes": 1,
                        "euclidean": {"pck": [0, 0], "mean_error": 0.03},
                        "euclidean_symmetric": {"pck": [0, 0], "mean_error": 0.03},
                        "geodesic": {"pck": [0, 0], "mean_error": 0.03},
                        "presence_average_precision": 0.5,
                    },
                },
                "chair": {
                    "1": {
                        "num_shapes": 1,
                        "euclidean": {"pck": [1, 1], "mean_error": 0.005},
                        "euclidean_symmetric": {"pck": [1, 1], "mean_error": 0.005},
                        "geodesic": {"pck": [0, 0], "mean_error": None},
                        "presence_average_precision": None,
                    },
                },
            },
        },
    )


def test_only_what_was_passed_appears():
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


def test_states_do_not_hold_the_graph():
    logits = torch.zeros(1, 3, requires_grad=True)
    visible = bools("111")
    updates = [
        (PCK(), (logits + 1, visible)),
        (MeanKeypointError(), (logits + 1, visible)),
        (PresenceAveragePrecision(3), (logits, visible)),
        (KeypointMetrics(), (logits[..., None], torch.ones(1, 3, 1), visible)),
    ]
    for metric, arguments in updates:
        metric(*arguments)  # forward, in which torchmetrics leaves gradients on
        states = [*metric.metric_state.values()]
        states = [state for value in states for state in (value if isinstance(value, list) else [value])]
        assert states
        assert not any(state.requires_grad for state in states)


# Bad input

P, T, V = torch.zeros(2, 3, 3), torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
D = torch.ones(2, 3)
BAD = P.index_fill(1, torch.tensor([1]), NAN)


def updated(metric: KeypointMetrics | None = None, **kwargs) -> KeypointMetrics:
    metric = metric or KeypointMetrics()
    metric.update(**{"predicted": P, "target": T, "visible": V, **kwargs})
    return metric


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: keypoint_error(P[:1], T, V), "`predicted` \\[1, 3, 3\\] and `target` \\[2, 3, 3\\]"),
        (lambda: keypoint_error(P[0], T[0], V[0]), "`predicted`"),
        (lambda: keypoint_error(P.long(), T.long(), V), "`predicted`.*floating"),
        (lambda: keypoint_error(P, T.long(), V), "`target`.*floating"),
        (lambda: keypoint_error(P, T, V[:, :2]), "`visible`"),
        (lambda: keypoint_error(P, T, V.float()), "`visible` \\(torch.float32"),
        (lambda: keypoint_error(BAD, T, V), "`predicted` must be finite"),
        (lambda: keypoint_error(P, T / 0, V), "`target` must be finite"),
        (lambda: pck(D, V[:1]), "`distance` \\[2, 3\\]"),
        (lambda: pck(D[0], V[0]), "`distance`"),
        (lambda: pck(D.long(), V), "`distance`"),
        (lambda: pck(D * NAN, V), "`distance`.*NaN"),
        (lambda: pck(-D, V), "`distance`.*at least 0"),
        (lambda: pck(D, ~V), "no visible keypoint"),
        (lambda: mean_error(D, ~V), "no visible keypoint"),
        (lambda: pck(D, V, []), "`thresholds` \\(=\\[\\]\\)"),
        (lambda: pck(D, V, [0.1, 0.0]), "`thresholds` \\(=\\[0.1, 0.0\\]\\)"),
        (lambda: pck(D, V, [0.1, 0.1]), "`thresholds`"),
        (lambda: pck(D, V, [-0.1, 0.1]), "`thresholds`"),
        (lambda: pck(D, V, [NAN]), "`thresholds`"),
        (lambda: PCK([0.1, math.inf]), "`thresholds`"),
        (lambda: KeypointMetrics([]), "`thresholds`"),
        (lambda: symmetric_error(P[0], T[:, :2], V[0]), "`candidates`"),
        (lambda: symmetric_error(P[0], T[:0], V[0]), "`candidates`"),
        (lambda: symmetric_error(P[0], T, V), "`visible`"),
        (lambda: symmetric_error(BAD[0], T, V[0]), "`predicted` must be finite"),
        (lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 3)), "`logits` and `index`"),
        (lambda: symmetric_error(P[0], T, V[0], index=V.long()), "`logits` and `index`"),
        (lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 2), index=V.long()), "`logits`"),
        (lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 3), index=D), "`index`"),
        (
            lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 3) / 0, index=V.long()),
            "`logits`.*finite",
        ),
        (
            lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 3), index=V.long() * 5),
            "`index`.*0 to 4",
        ),
        (lambda: presence_average_precision(D, V[:, :1]), "`present`"),
        (lambda: presence_average_precision(D.long(), V), "`scores`"),
        (lambda: presence_average_precision(D * NAN, V), "`scores`"),
        (lambda: confidence_correlation(D[0, :0], V[0, :0]), "`confidence`"),
        (lambda: confidence_correlation(D[0] * NAN, V[0]), "`confidence`"),
        (lambda: confidence_correlation(D[0], D[0]), "`correct`"),
        (lambda: reliability_curve(D[0] * 2, V[0]), "`confidence` must lie in 0 to 1"),
        (lambda: reliability_curve(D[0], V[0], 0), "`num_bins` \\(=0\\)"),
        (lambda: reliability_curve(D[0], V[0], 5, "quantile"), "`binning` \\(='quantile'\\)"),
        (lambda: Calibration(0.0), "`threshold` \\(=0.0\\)"),
        (lambda: Calibration().update(D[:1], D, V), "`confidence`"),
        (lambda: Calibration().update(D * 2, D, V), "`confidence`"),
        (lambda: PresenceAveragePrecision(0), "`num_keypoints` \\(=0\\)"),
        (lambda: PresenceAveragePrecision(4).update(D, V), "`presence_logits`"),
        (lambda: PresenceAveragePrecision(3).update(D * NAN, V), "`presence_logits`"),
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
        (lambda: symmetric_error(P[0], T / 0, V[0]), "`candidates` must be finite"),
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
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize(
    "metric", [PCK(), MeanKeypointError(), Calibration(), PresenceAveragePrecision(2), KeypointMetrics()]
)
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


def test_values_are_not_looked_at_without_validate():
    assert keypoint_error(BAD, T, V, validate=False)[:, 1].isnan().all()
    assert pck(D, ~V, validate=False).isnan().all()


def test_empty_batch_changes_nothing():
    metric = updated()
    metric.update(P[:0], T[:0], V[:0])
    assert metric.compute()["overall"]["num_shapes"] == 2


def test_docstrings():
    assert doctest.testmod(pcsa.metrics, extraglobs={"torch": torch}).failed == 0
