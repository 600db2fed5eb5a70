import math

import pytest
import torch

import pcsa.losses as losses

K = 3


def test_reductions_and_visible(visible_call, Case):
    function, _ = visible_call
    case = Case(9)
    every = function(case, reduction="none")
    assert every.shape == (len(case.sizes), K)
    torch.testing.assert_close(function(case), every.mean())
    torch.testing.assert_close(function(case, reduction="sum"), every.sum())
    seen = case.visible
    torch.testing.assert_close(function(case, visible=seen, reduction="none"), every * seen)
    torch.testing.assert_close(function(case, visible=seen, reduction="sum"), every[seen].sum())
    torch.testing.assert_close(function(case, visible=seen), every[seen].mean())


@pytest.mark.parametrize("nothing_visible", [False, True])
def test_what_is_not_visible_is_never_read(visible_call, nothing_visible, Case):
    function, inputs = visible_call
    clean, dirty = Case(10), Case(10)
    seen = torch.zeros_like(clean.visible) if nothing_visible else clean.visible
    dirty.target = dirty.target.masked_fill(~seen[..., None], math.nan).requires_grad_()
    dirty.index = dirty.index.masked_fill(~seen, -(10**6))
    gradients = []
    for case in (clean, dirty):
        leaves = [getattr(case, name).requires_grad_() for name in inputs]
        loss = function(case, visible=seen)
        torch.testing.assert_close(loss, function(clean, visible=seen))
        gradients.append(
            torch.autograd.grad(loss, [*leaves, *([dirty.target] if case is dirty else [])], allow_unused=True)
        )
    for before, after in zip(*gradients, strict=False):
        if before is None:
            assert after is None
            continue
        assert torch.equal(before, after)
        assert before.isfinite().all()
        if nothing_visible:
            assert (before == 0).all()
    if gradients[1][-1] is not None:
        assert (gradients[1][-1][~seen] == 0).all()
    if nothing_visible:
        assert loss.item() == 0


def test_mean_is_over_the_keypoints_of_the_whole_batch():
    # Cloud 0 has three keypoints at distance 1, cloud 1 one at 5: (3·1 + 5)/4 = 2, not (1 + 5)/2 = 3.
    position = torch.tensor([[[1.0], [1.0], [1.0]], [[5.0], [9.0], [9.0]]])
    visible = torch.tensor([[True, True, True], [True, False, False]])
    assert losses.position_error(position, torch.zeros(2, 3, 1), visible=visible).item() == 2


@pytest.mark.parametrize("form", ["batch", "dense"])
def test_autocast_computes_in_float32(entry, form, Case, call):
    case = Case(13, sizes=(6, 6), dtype=torch.float32)
    expected = call(entry, case, form)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = call(entry, case, form)
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)
    # logits that come out of a half precision layer are cast up first
    case.logits = case.logits.bfloat16()
    low = call(entry, case, form)
    case.logits = case.logits.float()
    assert torch.equal(low, call(entry, case, form))


def test_half_precision_predictions_are_cast_up(Case):
    case = Case(14)
    low = case.samples.bfloat16()
    for actual, expected in [
        (losses.sample_error(low, case.target), losses.sample_error(low.float(), case.target)),
        (
            losses.position_error(low[:, :, 0], case.target),
            losses.position_error(low[:, :, 0].float(), case.target),
        ),
        (
            losses.presence_loss(low[:, :, 0, 0], case.visible),
            losses.presence_loss(low[:, :, 0, 0].float(), case.visible),
        ),
    ]:
        assert actual.dtype == torch.float32
        assert torch.equal(actual, expected)


def lyt(c):
    return c.logits, c.pos, c.target, c.batch


def lyst(c):
    return c.logits, c.pos, c.bandwidth, c.target, c.batch


def rows(c):
    return c.index + c.ptr[:-1, None]


def nan_target(c):
    return c.target.index_fill(2, torch.tensor([0]), math.nan)


@pytest.mark.parametrize(
    ("message", "function"),
    [
        ("`norm`.*'l3'", lambda c: losses.sample_error(c.samples, c.target, norm="l3")),
        ("`norm`.*'l3'", lambda c: losses.position_error(c.samples[:, :, 0], c.target, norm="l3")),
        ("`norm`.*'l3'", lambda c: losses.expectation_error(*lyt(c), norm="l3")),
        ("`norm`.*'l3'", lambda c: losses.discrete_expected_error(*lyt(c), norm="l3")),
        ("`norm`.*'l3'.*'l1', 'squared'", lambda c: losses.mixture_expected_error(*lyst(c), norm="l3")),
        ("`sigma` \\(=None\\).*'bounded'", lambda c: losses.sample_error(c.samples, c.target, norm="bounded")),
        ("`sigma` \\(=None\\).*'bounded'", lambda c: losses.mixture_expected_error(*lyst(c), norm="bounded")),
        ("`sigma` \\(=0.0\\)", lambda c: losses.expectation_error(*lyt(c), norm="bounded", sigma=0.0)),
        ("`sigma` \\(=-1.0\\)", lambda c: losses.soft_label_cross_entropy(*lyt(c)[:2], -1.0, *lyt(c)[2:])),
        (
            "`target` and `target_distance`",
            lambda c: losses.soft_label_cross_entropy(*lyt(c)[:2], 0.1, *lyt(c)[2:], target_distance=c.logits.abs()),
        ),
        ("`target` and `target_distance`", lambda c: losses.soft_label_cross_entropy(c.logits, c.pos, 0.1)),
        (
            "`target_distance` .*15, 3",
            lambda c: losses.soft_label_cross_entropy(c.logits, c.pos, 0.1, target_distance=c.logits[:, :2].abs()),
        ),
        (
            "`target_distance`.*at least 0",
            lambda c: losses.soft_label_cross_entropy(c.logits, c.pos, 0.1, target_distance=c.logits),
        ),
        ("`reduction`.*'avg'", lambda c: losses.sample_error(c.samples, c.target, reduction="avg")),
        ("`reduction`.*'avg'", lambda c: losses.mixture_nll(*lyst(c), reduction="avg")),
        ("`reduction`.*'avg'", lambda c: losses.presence_loss(c.logits[:3], c.visible, reduction="avg")),
        ("`samples`.*at least one", lambda c: losses.sample_error(c.samples[:, :, :0], c.target)),
        ("`samples`.*floating", lambda c: losses.sample_error(c.samples.long(), c.target)),
        ("`position`.*B, K, D", lambda c: losses.position_error(c.samples, c.target)),
        ("`target` .*3, 2, 2", lambda c: losses.position_error(c.samples[:, :2, 0], c.target)),
        ("`target` .*3, 3, 2", lambda c: losses.mixture_nll(c.logits, c.pos, 0.1, c.target[:2], c.batch)),
        ("`target`.*finite", lambda c: losses.sample_error(c.samples, nan_target(c))),
        ("`target`.*finite", lambda c: losses.position_error(c.samples[:, :, 0], nan_target(c))),
        ("`target`.*finite", lambda c: losses.mixture_nll(c.logits, c.pos, 0.1, nan_target(c), c.batch)),
        (
            "`target`.*`center`",
            lambda c: losses.js_regularization(c.logits, c.pos, 0.1, batch=c.batch, center="target"),
        ),
        ("`center`.*'middle'", lambda c: losses.js_regularization(c.logits, c.pos, 0.1, center="middle")),
        ("`sigma` \\(=0.0\\)", lambda c: losses.js_regularization(c.logits, c.pos, 0.0)),
        (
            "`target_variance` \\(=-1",
            lambda c: losses.variance_regularization(c.logits, c.pos, target_variance=-1.0),
        ),
        ("`bandwidth`.*positive", lambda c: losses.mixture_nll(c.logits, c.pos, 0.0, c.target, c.batch)),
        ("`logits`.*finite", lambda c: losses.expectation_error(c.logits / 0, *lyt(c)[1:])),
        ("`visible`.*bool", lambda c: losses.expectation_error(*lyt(c), visible=c.visible.long())),
        (
            "`visible` .*3, 3",
            lambda c: losses.variance_regularization(*lyt(c)[:2], c.batch, target_variance=1, visible=c.visible[0]),
        ),
        ("`presence_logits`.*B, K", lambda c: losses.presence_loss(c.samples, c.visible)),
        ("`target` and `index`", lambda c: losses.nearest_point_cross_entropy(*lyt(c), index=rows(c))),
        ("`target` and `index`", lambda c: losses.nearest_point_cross_entropy(c.logits, c.pos)),
        (
            "`index`.*int64",
            lambda c: losses.nearest_point_cross_entropy(c.logits, c.pos, batch=c.batch, index=rows(c).double()),
        ),
        (
            "`index`.*own cloud",
            lambda c: losses.nearest_point_cross_entropy(c.logits, c.pos, batch=c.batch, index=rows(c) + 9),
        ),
    ],
)
def test_a_broken_rule_is_named(message, function, Case):
    with pytest.raises(ValueError, match=message):
        function(Case(16))


def test_an_empty_cloud_passes_unvalidated_where_nothing_of_it_is_visible(Case, call, on_points):
    case = Case(18, sizes=(4, 3))
    seen = torch.tensor([[True] * K, [True] * K, [False] * K])
    case.target = torch.cat([case.target, case.target[:1]])
    for name, entry in on_points.items():
        logits = case.logits.requires_grad_()
        with pytest.raises(ValueError, match="empty cloud"):
            call(entry, case, batch_size=3)
        loss = call(entry, case, batch_size=3, visible=seen, validate=False)
        without = Case(18, sizes=(4, 3))
        torch.testing.assert_close(loss, call(entry, without), msg=name)
        assert torch.autograd.grad(loss, logits)[0].isfinite().all(), name


def test_validate_false_reads_no_values(Case, call, on_points):
    case = Case(17)
    case.target[0, 0, 0] = math.nan
    assert call(on_points["mixture_nll-"], case, validate=False).isnan()
