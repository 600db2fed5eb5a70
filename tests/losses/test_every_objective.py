"""Every objective on a map against a naive loop, and numbers checked by hand."""

import math

import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given, settings, strategies as st
from torch.autograd import gradcheck

import pcsa.losses as losses


@pytest.mark.parametrize("form", ["batch", "ptr", "dense"])
@pytest.mark.parametrize("per_axis", [False, True], ids=["isotropic", "per_axis"])
def test_forward_and_backward_equal_the_loop(entry, form, per_axis, Case, call, reference):
    case = Case(per_axis=per_axis)
    leaves = [case.logits, case.pos, case.bandwidth, case.target]
    for leaf in leaves:
        leaf.requires_grad_()
    expected = reference(entry, case)
    actual = call(entry, case, form, reduction="none")
    torch.testing.assert_close(actual, expected)
    weight = torch.arange(1.0, 1 + expected.numel(), dtype=expected.dtype).view_as(expected)
    wanted = torch.autograd.grad((weight * expected).sum(), leaves, allow_unused=True)
    got = torch.autograd.grad((weight * actual).sum(), leaves, allow_unused=True)
    for g, w, leaf in zip(got, wanted, leaves, strict=True):
        zero = torch.zeros_like(leaf)
        torch.testing.assert_close(zero if g is None else g, zero if w is None else w, atol=1e-9, rtol=1e-7)


def test_a_batch_is_its_clouds_one_by_one(entry, Case, call, arguments):
    case = Case(1)
    whole = call(entry, case, reduction="none")
    for b in range(len(case.sizes)):
        own = slice(case.ptr[b], case.ptr[b + 1])
        _, names, function, options = entry
        alone = arguments(names, case.logits[own], case.pos[own], case.bandwidth[own], case.target[b : b + 1])
        torch.testing.assert_close(function(*alone, **options, reduction="none"), whole[b : b + 1])


@pytest.mark.parametrize("form", ["batch", "dense"])
def test_gradcheck(entry, form, Case, call):
    case = Case(2, sizes=(3, 2), per_axis=True)

    def run(logits, pos, bandwidth, target):
        case.logits, case.pos, case.bandwidth, case.target = logits, pos, bandwidth, target
        return call(entry, case, form, reduction="none", validate=False)

    leaves = [x.requires_grad_() for x in (case.logits, case.pos, case.bandwidth, case.target)]
    _, _, _, options = entry
    if (
        options.get("detach_center") or "subtract_entropy" in options
    ):  # not the function's own derivative then, by intent
        leaves[1].requires_grad_(False)
        leaves[3].requires_grad_(False)
        if options.get("center") == "mean":
            return
    assert gradcheck(run, leaves, atol=1e-6)


def test_hand_checked_numbers():
    # Points 0 and 4 on a line, logits log 3 and 0: π = (3/4, 1/4); target 1.
    logits = torch.tensor([[math.log(3.0)], [0.0]], dtype=torch.float64)
    pos = torch.tensor([[0.0], [4.0]], dtype=torch.float64)
    target = torch.tensor([[[1.0]]], dtype=torch.float64)

    def close(actual, expected):
        assert actual.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)

    close(losses.expectation_error(logits, pos, target), 0.0)  # mean 3/4·0 + 1/4·4 = 1: the error of Eq. 2 is blind
    close(losses.discrete_expected_error(logits, pos, target), 1.5)  # 3/4·1 + 1/4·3
    close(losses.discrete_expected_error(logits, pos, target, norm="squared"), 3.0)  # 3/4·1 + 1/4·9
    # σ = 2: 3 + 4 by the variance of the bases
    close(losses.mixture_expected_error(logits, pos, 2.0, target, norm="squared"), 7.0)
    # l1: E|N(-1, 1)| = 2φ(1) + (2Φ(1) - 1) = 1.1666307…, E|N(3, 1)| = 2φ(3) + 3(2Φ(3) - 1) = 3.0007636…
    phi = scipy.stats.norm
    wide = 0.75 * (2 * phi.pdf(1) + 2 * phi.cdf(1) - 1) + 0.25 * (2 * phi.pdf(3) + 3 * (2 * phi.cdf(3) - 1))
    close(losses.mixture_expected_error(logits, pos, 1.0, target), wide)
    assert wide == pytest.approx(0.75 * 1.1666307 + 0.25 * 3.0007643, abs=1e-6)
    # Var = 3/4·1 + 1/4·9 = 3
    close(losses.variance_regularization(logits, pos, target_variance=1.0), 4.0)
    close(losses.nearest_point_cross_entropy(logits, pos, target), math.log(4 / 3))
    close(losses.nearest_point_cross_entropy(logits, pos, index=torch.tensor([[1]])), math.log(4))
    # Gaussian around 2 is flat on {0, 4}: q = (1/2, 1/2), m = (5/8, 3/8)
    m = (math.log(0.75 / 0.625) * 0.75 + math.log(0.25 / 0.375) * 0.25 + 0.5 * (math.log(0.8) + math.log(4 / 3))) / 2
    close(losses.js_regularization(logits, pos, 1.0, target + 1, center="target"), m)
    # a presence score of log 3 is a probability of 3/4
    close(losses.presence_loss(logits[:1], torch.tensor([[True]])), math.log(4 / 3))
    close(losses.presence_loss(logits[:1], torch.tensor([[False]])), math.log(4))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5), permute=st.randoms(use_true_random=False))
def test_translation_and_order_of_the_points_do_not_matter(Case, call, on_points, seed, shift, permute):
    case, moved = Case(seed, sizes=(7,)), Case(seed, sizes=(7,))
    order = list(range(7))
    permute.shuffle(order)
    moved.logits, moved.bandwidth = case.logits[order], case.bandwidth[order]
    moved.pos, moved.target = case.pos[order] + shift, case.target + shift
    for entry in on_points.values():
        torch.testing.assert_close(call(entry, moved), call(entry, case), rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_the_expectation_of_the_error_is_never_below_the_error_of_the_expectation(Case, seed):
    # Jensen's inequality (norms are convex), once for the map and once more for the bases around its points.
    case = Case(seed)
    for norm in ("l2", "l1", "squared"):
        of_mean = losses.expectation_error(case.logits, case.pos, case.target, case.batch, norm=norm, reduction="none")
        mean_of = losses.discrete_expected_error(
            case.logits, case.pos, case.target, case.batch, norm=norm, reduction="none"
        )
        assert (of_mean <= mean_of + 1e-9).all()
        if norm != "l2":
            mixture = losses.mixture_expected_error(
                case.logits, case.pos, case.bandwidth, case.target, case.batch, norm=norm, reduction="none"
            )
            assert (mean_of <= mixture + 1e-9).all()


@pytest.mark.parametrize("norm", ["l2", "l1", "squared", "bounded"])
def test_gradient_at_distance_zero_is_zero(norm):
    position = torch.zeros(1, 1, 3, requires_grad=True)
    losses.position_error(position, torch.zeros(1, 1, 3), norm=norm, sigma=0.1).backward()
    assert torch.equal(position.grad, torch.zeros(1, 1, 3))
    pos = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)  # one point lies on the target
    logits = torch.zeros(2, 1, requires_grad=True)
    losses.discrete_expected_error(logits, pos, torch.zeros(1, 1, 2), norm=norm, sigma=0.1).backward()
    assert torch.equal(pos.grad[0], torch.zeros(2))
    assert logits.grad.isfinite().all()


def test_coinciding_points_and_one_point_give_finite_values_and_gradients(entry, Case, call):
    # Bandwidth at the floor of such clouds, in float32, with a target far away in its units.
    case = Case(11, sizes=(4, 1), dtype=torch.float32)
    case.pos = torch.ones_like(case.pos)
    case.bandwidth = torch.full_like(case.bandwidth, torch.finfo(torch.float32).tiny)
    leaves = [case.logits.requires_grad_(), case.pos.requires_grad_(), case.bandwidth.requires_grad_()]
    loss = call(entry, case)
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, leaves, allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize(
    "name",
    [
        "mixture_nll-",
        "js_regularization-mean-False",
        "nearest_point_cross_entropy-",
        "soft_label_cross_entropy-True",
        "mixture_expected_error-bounded-0.8",
    ],
)
def test_compiles_in_one_graph(name, Case, call, arguments, on_points):
    entry, case = on_points[name], Case(15)
    case.logits.requires_grad_()

    def run(logits):
        _, names, function, options = entry
        given = arguments(names, logits, case.pos, case.bandwidth, case.target)
        return function(*given, batch=case.batch, batch_size=3, visible=case.visible, **options)

    compiled = torch.compile(run, backend="eager", fullgraph=True)(case.logits)
    torch.testing.assert_close(compiled, call(entry, case, visible=case.visible))
    wanted = torch.autograd.grad(call(entry, case, visible=case.visible), case.logits)
    torch.testing.assert_close(torch.autograd.grad(compiled, case.logits), wanted)


@pytest.mark.parametrize("form", ["batch", "dense"])
def test_a_temperature_divides_the_logits(entry, form, Case, call):
    case, hot = Case(3), Case(3)
    hot.logits = hot.logits / 0.6
    tau = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    wanted = call(entry, hot, form, reduction="none")
    for temperature in (0.6, tau):
        torch.testing.assert_close(call(entry, case, form, reduction="none", temperature=temperature), wanted)
    run = lambda tau: call(entry, case, form, reduction="none", temperature=tau)  # noqa: E731
    # Not the function's own derivative where the center is detached, by intent.
    assert entry[3].get("detach_center") or gradcheck(run, tau, atol=1e-6)


def test_a_mask_of_a_keypoint_s_own_is_a_cloud_without_these_points(entry, Case, call, arguments):
    case, whole = Case(5, sizes=(6,)), Case(5, sizes=(6,))
    kept = [0, 2, 3, 5]
    masked = torch.full_like(case.logits, -math.inf)
    masked[kept], masked[:, 1] = case.logits[kept], case.logits[:, 1]
    case.logits = masked.requires_grad_()
    tau = torch.ones((), dtype=torch.float64, requires_grad=True)
    found = call(entry, case, reduction="none", temperature=tau)
    _, names, function, options = entry
    inputs = (whole.logits[kept], whole.pos[kept], whole.bandwidth[kept], whole.target)
    alone = function(*arguments(names, *inputs), **options, reduction="none")
    torch.testing.assert_close(found[:, 0], alone[:, 0])
    torch.testing.assert_close(found[:, 1], call(entry, whole, reduction="none")[:, 1])
    slope, of_tau = torch.autograd.grad(found.sum(), [case.logits, tau])
    assert slope.isfinite().all()
    assert (slope[[1, 4], 0] == 0).all()
    assert of_tau.isfinite()


def test_bad_input_says_what_is_swapped_or_joined(entry, Case, call, arguments):
    case = Case(3)
    _, names, function, options = entry
    if "t" not in names or options.get("center") == "mean":
        return
    B, K, D = case.target.shape
    case.target = case.target.view(B * K, D)
    with pytest.raises(ValueError, match=rf"`target` .* PyTorch Geometric joins .* or give `.view\({B}, {K}, {D}\)`"):
        call(entry, case)
    swapped = arguments(names, case.pos, case.logits, 0.1, case.target.view(B, K, D))
    with pytest.raises(ValueError, match=r"are `logits` and `pos` in each other's place\?"):
        function(*swapped, **options, batch=case.batch)
