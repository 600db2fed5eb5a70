import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from pcsa import (
    SamplingArgmax,
    SoftArgmax,
    TemperatureSchedule,
    knn_bandwidth,
    sampling_argmax,
    soft_argmax,
)
from pcsa._core import kernel as _kernel

NOISES = ["relaxed", "mixture"]
SEEDS = st.integers(0, 2**32 - 1)
quick = settings(deadline=None, max_examples=12, derandomize=True)

HALF = torch.tensor(0.5, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(sizes, num_keypoints=2, dim=2, seed=0, dtype=torch.float64, spread=1.0):
    generator = seeded(seed)
    logits = spread * torch.randn(sum(sizes), num_keypoints, generator=generator, dtype=dtype)
    pos = torch.randn(sum(sizes), dim, generator=generator, dtype=dtype)
    bandwidth = 0.2 + torch.rand(sum(sizes), dim, generator=generator, dtype=dtype)
    return logits, pos, bandwidth, torch.tensor([0, *sizes]).cumsum(0)


@pytest.fixture(params=["tiles as they are", "small tiles"])
def tiles(request, monkeypatch):
    if request.param == "small tiles":
        small_tiles(monkeypatch, tile=1 << 10)
    return request.param


def small_tiles(monkeypatch, tile):
    """Several blocks to a cloud, several tiles to the blocks, several chunks of samples."""
    monkeypatch.setattr(_kernel, "_TILE_CPU", tile)
    monkeypatch.setattr(_kernel, "_MAX_BLOCK", 3)
    monkeypatch.setattr(_kernel, "_MIN_BLOCK", 2)


# --- the literal Eq. 11-12, and the kernel's own noise -----------------------------------------------------


def literal(logits, pos, bandwidth, sizes, temperature, basis_noise, generator):
    """Eq. 11-12 as written, a loop over clouds and one noise vector per point: [R, N, ...] to [R, B, K, D].

    The mixture's noise is one vector per point too: sum_i sqrt(p_i) s_i e_i has variance sum_i p_i s_i^2.
    """
    out, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        start += size
        gumbel = -torch.empty_like(logits[:, rows]).exponential_(generator=generator).log()
        weight = ((logits[:, rows].log_softmax(1) + gumbel) / temperature).softmax(1).unsqueeze(-1)
        noise = torch.randn(*weight.shape[:-1], pos.shape[-1], dtype=pos.dtype, generator=generator)
        moved = bandwidth[:, rows, None] * noise
        if basis_noise == "relaxed":
            out.append((weight * (pos[:, rows, None] + moved)).sum(1))
        else:
            out.append((weight * pos[:, rows, None] + weight.sqrt() * moved).sum(1))
    return torch.stack(out, 1)


def replay(logits, pos, bandwidth, ptr, num_samples, temperature, basis_noise, seed):
    """Plain autograd on the very noise that the kernel draws: the same source, in the same order of tiles."""
    B, (N, K), D = ptr.numel() - 1, logits.shape, pos.shape[1]
    noise = _kernel._Noise(torch.tensor(seed), torch.device("cpu"))
    normal = noise.normal((B, K, num_samples, D), logits.dtype)
    variance = bandwidth.detach().view(N, -1)
    blocks = _kernel._cut(logits.detach(), pos.detach(), variance, ptr, temperature, 0)
    M, _, P = blocks.logits.shape
    log2_exponential = torch.empty(M, K, num_samples, P, dtype=logits.dtype)
    for of_samples, m in _kernel._tiles(blocks, num_samples):
        part = log2_exponential[m, :, of_samples]
        part.copy_(noise.log2_exponential(tuple(part.shape), part.dtype)())
    rows = torch.arange(N).view(M, P) if blocks.rows is None else blocks.rows
    gumbel = torch.empty(N + 1, K, num_samples, dtype=logits.dtype)
    gumbel[rows] = -math.log(2) * log2_exponential.permute(0, 3, 1, 2)
    out = []
    for b in range(B):
        cloud = slice(int(ptr[b]), int(ptr[b + 1]))
        weight = ((logits[cloud, :, None] + gumbel[cloud]) / temperature).softmax(0)
        mean = torch.einsum("nks,nd->ksd", weight, pos[cloud])
        power = weight.square() if basis_noise == "relaxed" else weight
        std = torch.einsum("nks,nd->ksd", power, bandwidth[cloud].view(-1, variance.shape[1]).square()).sqrt()
        out.append(mean + normal[b] * std)
    return torch.stack(out), gumbel[:N]


@pytest.mark.parametrize("tile", [None, 24])
@pytest.mark.parametrize("axes", ["per point", "per axis"])
@pytest.mark.parametrize("basis_noise", NOISES)
@pytest.mark.parametrize("sizes", [[7], [4, 4], [1, 9, 4]], ids=str)
def test_same_noise_gives_the_same_samples_and_gradients(sizes, basis_noise, axes, tile, monkeypatch, close):
    if tile is not None:
        small_tiles(monkeypatch, tile)
    logits, pos, bandwidth, ptr = make(sizes)
    bandwidth = bandwidth if axes == "per axis" else bandwidth[:, 0].clone()
    leaves = [x.requires_grad_() for x in (logits, pos, bandwidth)]
    seed = int(torch.randint(2**63 - 1, (), generator=seeded()))
    ours = sampling_argmax(
        *leaves, ptr=ptr, num_samples=11, temperature=0.7, basis_noise=basis_noise, generator=seeded()
    )
    expected, _ = replay(*leaves, ptr, 11, 0.7, basis_noise, seed)
    close(ours, expected)
    direction = torch.randn(ours.shape, dtype=ours.dtype, generator=seeded(1))
    ours_grad = torch.autograd.grad(ours, leaves, direction)
    for actual, wanted in zip(ours_grad, torch.autograd.grad(expected, leaves, direction), strict=True):
        close(actual, wanted, scale=10)


def replicated(sizes, axes, count):
    logits, pos, bandwidth, _ = make(sizes, seed=3, spread=1.5)
    if axes == 1:
        bandwidth = bandwidth[:, :1].expand(-1, 2)
    ptr = torch.arange(count * len(sizes) + 1)
    ends = torch.tensor(sizes).repeat(count).cumsum(0)
    ptr[1:] = ends
    leaves = [x.expand(count, *x.shape).clone().requires_grad_() for x in (logits, pos, bandwidth)]
    return leaves, ptr


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("basis_noise", NOISES)
def test_one_noise_vector_is_as_good_as_one_per_point(basis_noise, temperature, tiles, monkeypatch):
    """DESIGN 3.3: the same moments, the same mean gradient, and no more variance of the gradient.

    R independent copies of three clouds with one sample each give R independent gradients. Two means differ by
    a normal number with the standard error below; 5 of them are never seen in the few hundred numbers here.
    """
    sizes, R = [1, 3, 6], 5_000
    if tiles == "small tiles":
        monkeypatch.setattr(_kernel, "_TILE_CPU", 1 << 14)  # R copies: still several tiles, but not thousands
    leaves, ptr = replicated(sizes, 2, R)
    target = torch.tensor([0.3, -0.5], dtype=torch.float64)
    logits, pos, bandwidth = (x.flatten(0, 1) for x in leaves)
    ours = sampling_argmax(
        logits, pos, bandwidth, ptr=ptr, temperature=temperature, basis_noise=basis_noise, generator=seeded(5)
    ).view(R, len(sizes), 2, 2)
    wanted = literal(*leaves, sizes, temperature, basis_noise, seeded(6))

    def same_mean(a, b):
        error = ((a.var(0) + b.var(0)) / R).sqrt()
        # 1e-9: where nothing is random (a one-point cloud's logits), rounding is left.
        assert ((a.mean(0) - b.mean(0)).abs() <= 5 * error + 1e-9).all()

    with torch.no_grad():
        same_mean(ours, wanted)
        away, away_wanted = ours - wanted.mean(0), wanted - wanted.mean(0)
        same_mean(away[..., None] * away[..., None, :], away_wanted[..., None] * away_wanted[..., None, :])

    # A loss whose gradient depends on the sample in a nonlinear way, as the expected l2 error does.
    ours_grad = torch.autograd.grad((ours - target).norm(dim=-1).sum(), leaves)
    wanted_grad = torch.autograd.grad((wanted - target).norm(dim=-1).sum(), leaves)
    for name, a, b in zip(("logits", "pos", "bandwidth"), ours_grad, wanted_grad, strict=True):
        same_mean(a, b)
        moment = (b - b.mean(0)).square()
        random = b.var(0) > 1e-12
        # Standard error of the ratio of two variances, from the fourth moments.
        error = (2 / R * (moment.square().mean(0) / moment.mean(0).square() - 1).clamp_min(0))[random].sqrt()
        ratio = (a.var(0) / b.var(0))[random]
        assert (ratio <= 1 + 5 * error).all(), name
        assert a.var(0).sum() <= (1.02 if name == "pos" else 1.0) * b.var(0).sum(), name


def test_one_noise_vector_per_point_does_vary_more():
    # The bandwidth's gradient profits most: the literal one is p_i e_i, ours e p_i^2 s_i / std. On ten flat points
    # at a high temperature p_i = 1/10 and std^2 = 1/10 s^2: variances 1/100 and 1/10^4 x 10, a tenth.
    R = 4000
    flat = torch.zeros(R, 10, 1, dtype=torch.float64)
    pos, bandwidth = torch.zeros(R, 10, 1).double(), torch.ones(R, 10, 1).double().requires_grad_()
    ours = sampling_argmax(flat, pos, bandwidth, temperature=100.0, generator=seeded())
    wanted = literal(flat, pos, bandwidth, [10], 100.0, "relaxed", seeded())
    (a,) = torch.autograd.grad(ours.sum(), bandwidth)
    (b,) = torch.autograd.grad(wanted.sum(), bandwidth)
    assert (a.var() / b.var()).item() == pytest.approx(0.1, rel=0.1)


# --- gradients ---------------------------------------------------------------------------------------------


def layout(name, bandwidth_kind):
    """Input of 6 or 7 points in one of the forms, as (logits, pos, bandwidth, options)."""
    if name == "one":
        logits, pos, bandwidth, _ = make([6])
        options = {}
    elif name == "ragged":
        logits, pos, bandwidth, ptr = make([1, 4, 2])
        options = {"ptr": ptr}
    else:
        logits, pos, bandwidth = (x.view(2, 3, 2) for x in make([3, 3])[:3])
        options = {"mask": torch.tensor([[True, False, True], [True] * 3])} if name == "mask" else {}
    kinds = {"0-d": bandwidth.flatten()[0].clone(), "N": bandwidth[..., 0].clone(), "N D": bandwidth.clone()}
    return logits, pos, kinds[bandwidth_kind], options


@pytest.mark.parametrize("bandwidth_kind", ["0-d", "N", "N D"])
@pytest.mark.parametrize("basis_noise", NOISES)
@pytest.mark.parametrize("name", ["one", "ragged", "dense", "mask"])
def test_gradcheck(name, basis_noise, bandwidth_kind, monkeypatch):
    small_tiles(monkeypatch, tile=40)
    logits, pos, bandwidth, options = layout(name, bandwidth_kind)
    leaves = [x.requires_grad_() for x in (logits, pos, bandwidth)]

    def draw(logits, pos, bandwidth):
        return sampling_argmax(
            logits,
            pos,
            bandwidth,
            num_samples=2,
            temperature=0.8,
            basis_noise=basis_noise,
            generator=seeded(),
            **options,
        )

    # The whole Jacobian where bandwidth has all its axes, random directions of it elsewhere.
    assert torch.autograd.gradcheck(draw, leaves, fast_mode=bandwidth_kind != "N D")


@pytest.mark.parametrize("name", ["one", "ragged", "dense", "mask"])
def test_gradcheck_soft_argmax(name):
    logits, pos, _, options = layout(name, "N")
    leaves = [logits.requires_grad_(), pos.requires_grad_()]
    assert torch.autograd.gradcheck(lambda x, y: soft_argmax(x, y, temperature=0.8, **options), leaves)


@pytest.mark.parametrize("basis_noise", NOISES)
def test_each_gradient_is_the_same_whichever_others_are_asked_for(basis_noise):
    inputs, ptr = make([1, 5, 3])[:3], make([1, 5, 3])[3]
    settings_ = {"ptr": ptr, "num_samples": 5, "temperature": 0.5, "basis_noise": basis_noise}

    def grads(which):
        leaves = [x.clone().requires_grad_(i in which) for i, x in enumerate(inputs)]
        sampling_argmax(*leaves, generator=seeded(), **settings_).square().sum().backward()
        return [x.grad for x in leaves]

    every = grads({0, 1, 2})
    for which in ({0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}):
        for i, grad in enumerate(grads(which)):
            if i in which:
                torch.testing.assert_close(grad, every[i])
            else:
                assert grad is None
    assert not sampling_argmax(*inputs, **settings_).requires_grad


def test_gradients_are_contiguous():
    # A compiled graph takes the strides of its fake twin on trust. One cloud of several keypoints once broke it.
    for sizes in ([6], [3, 3], [1, 4]):
        logits, pos, bandwidth, ptr = make(sizes)
        leaves = [x.requires_grad_() for x in (logits, pos, bandwidth)]
        samples = sampling_argmax(*leaves, ptr=ptr)
        assert all(g.is_contiguous() for g in torch.autograd.grad(samples.sum(), leaves))


def test_second_backward_says_so():
    logits, pos, bandwidth, _ = make([4])
    logits.requires_grad_()
    samples = sampling_argmax(logits, pos, bandwidth)
    (first,) = torch.autograd.grad(samples.sum(), logits, retain_graph=True)
    (again,) = torch.autograd.grad(samples.sum(), logits)
    assert torch.equal(first, again)
    with pytest.raises(RuntimeError, match="second time"):
        samples.sum().backward()
    samples = sampling_argmax(logits, pos, bandwidth)
    (slope,) = torch.autograd.grad(samples.square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        slope.sum().backward()


# --- seeds -------------------------------------------------------------------------------------------------


def test_seeds():
    logits, pos, bandwidth, _ = make([5])
    draw = lambda **options: sampling_argmax(logits, pos, bandwidth, num_samples=3, **options)  # noqa: E731
    torch.manual_seed(1)
    a, b = draw(), draw()
    torch.manual_seed(1)
    assert torch.equal(draw(), a)
    assert torch.equal(draw(), b)
    assert not torch.equal(a, b)
    generator = seeded(1)
    first, second = draw(generator=generator), draw(generator=generator)
    assert torch.equal(first, draw(generator=seeded(1)))
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    draw(generator=generator)
    assert torch.equal(state, torch.get_rng_state())


def test_forward_takes_one_seed_and_backward_takes_nothing():
    logits, pos, bandwidth, _ = make([5])
    logits.requires_grad_()
    for samples in (1, 1000):
        torch.manual_seed(0)
        out = sampling_argmax(logits, pos, bandwidth, num_samples=samples)
        after = torch.get_rng_state()
        out.sum().backward()
        assert torch.equal(after, torch.get_rng_state())
        torch.manual_seed(0)
        torch.randint(2**63 - 1, ())
        assert torch.equal(after, torch.get_rng_state())


def test_backward_draws_the_forward_noise_again_whatever_happens_between():
    logits, pos, bandwidth, _ = make([5])
    grads = []
    for disturb in (False, True):
        leaf = logits.clone().requires_grad_()
        generator = seeded(2)
        out = sampling_argmax(leaf, pos, bandwidth, num_samples=4, generator=generator)
        if disturb:
            torch.manual_seed(99)
            generator.manual_seed(99)
        out.square().sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


# --- properties --------------------------------------------------------------------------------------------


@quick
@given(seed=SEEDS, sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_ragged_is_each_cloud_alone_and_dense_with_a_mask(seed, sizes):
    logits, pos, _, ptr = make(sizes, seed=seed)
    ragged = soft_argmax(logits, pos, ptr=ptr, temperature=0.5)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    for other in ({"batch": batch}, {"batch": batch, "batch_size": len(sizes)}):
        torch.testing.assert_close(soft_argmax(logits, pos, temperature=0.5, **other), ragged)
    clouds = list(zip(logits.split(sizes), pos.split(sizes), strict=True))
    alone = torch.cat([soft_argmax(x, y, temperature=0.5) for x, y in clouds])
    torch.testing.assert_close(alone, ragged)
    direct = torch.stack([(x / 0.5).softmax(0).T @ y for x, y in clouds])
    torch.testing.assert_close(direct, ragged)
    shape = (len(sizes), max(sizes), 2)
    dense_logits, dense_pos = logits.new_full(shape, math.nan), pos.new_full(shape, math.nan)
    mask = torch.zeros(shape[:2], dtype=torch.bool)
    for b, (x, y) in enumerate(clouds):
        dense_logits[b, : len(x)], dense_pos[b, : len(x)], mask[b, : len(x)] = x, y, True
    torch.testing.assert_close(soft_argmax(dense_logits, dense_pos, mask=mask, temperature=0.5), ragged)


@quick
@given(seed=SEEDS)
def test_soft_argmax_does_not_see_the_order_of_points(seed):
    logits, pos, _, _ = make([9], seed=seed)
    order = torch.randperm(9, generator=seeded(seed))
    torch.testing.assert_close(soft_argmax(logits[order], pos[order]), soft_argmax(logits, pos))


@quick
@given(seed=SEEDS, offset=st.sampled_from([-1e30, -1e4, 3.0, 1e8]), noise=st.sampled_from(NOISES))
def test_a_common_offset_of_the_logits_changes_nothing(seed, offset, noise):
    # One offset per cloud and keypoint. Logits on a grid that survives it exactly, in float32, except at -1e30,
    # where they are all equal.
    sizes = [2, 5]
    logits, pos, bandwidth, ptr = make(sizes, seed=seed, dtype=torch.float32)
    logits = (logits * 4).round() / 4 if abs(offset) < 1e5 else (logits * 4).round() * 8
    logits = logits * 0 if offset == -1e30 else logits
    shift = torch.tensor([[offset, 0.0], [0.0, offset]]).repeat_interleave(torch.tensor(sizes), 0)
    results = []
    for leaf in (logits.clone(), logits + shift):
        leaf.requires_grad_()
        samples = sampling_argmax(
            leaf, pos, bandwidth, ptr=ptr, num_samples=7, basis_noise=noise, temperature=0.5, generator=seeded()
        )
        samples.square().sum().backward()
        results.append((samples.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1])


@quick
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), noise=st.sampled_from(NOISES))
def test_translation_and_scale(seed, scale, noise):
    logits, pos, bandwidth, ptr = make([3, 6], seed=seed)
    options = {"ptr": ptr, "num_samples": 6, "temperature": 0.5, "basis_noise": noise}
    offset = torch.tensor([10.0, -4.0], dtype=torch.float64)
    plain = sampling_argmax(logits, pos, bandwidth, generator=seeded(), **options)
    moved = sampling_argmax(logits, scale * pos + offset, scale * bandwidth, generator=seeded(), **options)
    torch.testing.assert_close(moved, scale * plain + offset)
    torch.testing.assert_close(
        soft_argmax(logits, scale * pos + offset, ptr=ptr), scale * soft_argmax(logits, pos, ptr=ptr) + offset
    )


@quick
@given(seed=SEEDS, angle=st.floats(-4, 4))
def test_rotation(seed, angle):
    # The noise of an isotropic basis rotates only in distribution: none here.
    logits, pos, _, ptr = make([3, 6], seed=seed)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    draw = lambda y: sampling_argmax(logits, y, 1e-12, ptr=ptr, num_samples=6, generator=seeded())  # noqa: E731
    torch.testing.assert_close(draw(pos @ turn.T), draw(pos) @ turn.T, atol=1e-9, rtol=1e-9)


@quick
@given(seed=SEEDS, temperature=st.floats(0.01, 100), noise=st.sampled_from(NOISES))
def test_samples_of_points_lie_in_the_convex_hull(seed, temperature, noise):
    logits, pos, _, ptr = make([1, 4, 7], seed=seed)
    samples = sampling_argmax(logits, pos, 1e-12, ptr=ptr, num_samples=9, temperature=temperature, basis_noise=noise)
    direction = torch.randn(2, 20, dtype=torch.float64, generator=seeded(seed))
    along = (samples @ direction).flatten(1, 2)
    for b, cloud in enumerate(pos.split([1, 4, 7])):
        ends = cloud @ direction
        assert (along[b] <= ends.amax(0) + 1e-9).all()
        assert (along[b] >= ends.amin(0) - 1e-9).all()


@quick
@given(seed=SEEDS, temperature=st.floats(0.01, 100))
def test_weights_sum_to_one(seed, temperature):
    logits, pos, _, ptr = make([1, 4, 7], seed=seed)
    constant = torch.full_like(pos, 3.0)
    out = sampling_argmax(logits, constant, 1e-12, ptr=ptr, num_samples=9, temperature=temperature)
    torch.testing.assert_close(out, torch.full_like(out, 3.0))
    out = soft_argmax(logits, constant, ptr=ptr, temperature=temperature)
    torch.testing.assert_close(out, torch.full_like(out, 3.0))


@pytest.mark.parametrize("basis_noise", NOISES)
def test_no_temperature_chooses_the_largest_perturbed_logit(basis_noise, tiles):
    logits, pos, _, ptr = make([2, 7])
    seed = int(torch.randint(2**63 - 1, (), generator=seeded()))
    samples = sampling_argmax(
        logits,
        pos,
        1e-12,
        ptr=ptr,
        num_samples=50,
        temperature=1e-6,
        basis_noise=basis_noise,
        generator=seeded(),
    )
    _, gumbel = replay(logits, pos, torch.ones(9).double(), ptr, 50, 1e-6, basis_noise, seed)
    for b, rows in enumerate((slice(0, 2), slice(2, 9))):
        best = (logits[rows, :, None] + gumbel[rows]).argmax(0)
        torch.testing.assert_close(samples[b], pos[rows][best], atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_temperature_draws_from_the_softmax(dtype, tiles):
    logits = torch.tensor([[0.5], [-1.0], [2.0], [0.0], [-3.0], [1.0]], dtype=dtype)
    pos = torch.arange(6, dtype=dtype)[:, None]
    S = 10_000 if tiles == "tiles as they are" else 4_000
    samples = sampling_argmax(logits, pos, 1e-9, num_samples=S, temperature=1e-4, generator=seeded()).flatten()
    place = samples.round()
    assert ((samples - place).abs() < 1e-3).double().mean() > 0.998  # the rest lie between two near-equals
    count = torch.bincount(place.long(), minlength=6)
    expected = S * logits.softmax(0).flatten()
    # 5 degrees of freedom: more than 25.7 once in 10,000.
    assert ((count - expected).square() / expected).sum() < 25.7


def test_the_order_of_points_does_not_change_the_distribution(tiles):
    logits, pos, bandwidth, _ = make([7], dtype=torch.float32)
    order = torch.randperm(7, generator=seeded())
    S = 10_000 if tiles == "tiles as they are" else 4_000
    draw = lambda i, seed: sampling_argmax(  # noqa: E731
        logits[i], pos[i], bandwidth[i], num_samples=S, temperature=0.5, generator=seeded(seed)
    )[0]
    same_distribution(draw(torch.arange(7), 1), draw(order, 2))


def same_distribution(a, b):
    """First and second moments of [K, S, D] agree within 5 standard errors."""
    for x, y in ((a, b), (a[..., None] * a[..., None, :], b[..., None] * b[..., None, :])):
        error = ((x.var(1) + y.var(1)) / x.shape[1]).sqrt()
        assert ((x.mean(1) - y.mean(1)).abs() < 5 * error).all()


@pytest.mark.parametrize("basis_noise", NOISES)
def test_every_layout_draws_from_the_same_distribution(basis_noise):
    sizes, S = [1, 5, 3], 8_000
    logits, pos, bandwidth, ptr = make(sizes)
    options = {"num_samples": S, "temperature": 0.5, "basis_noise": basis_noise}
    ragged = sampling_argmax(logits, pos, bandwidth, ptr=ptr, generator=seeded(1), **options)
    dense = [torch.full((3, 5, 2), math.nan, dtype=torch.float64) for _ in range(3)]
    mask = torch.zeros(3, 5, dtype=torch.bool)
    for b, size in enumerate(sizes):
        rows = slice(int(ptr[b]), int(ptr[b + 1]))
        mask[b, :size] = True
        for out, x in zip(dense, (logits, pos, bandwidth), strict=True):
            out[b, :size] = x[rows]
    masked = sampling_argmax(*dense, mask=mask, generator=seeded(2), **options)
    for b in range(len(sizes)):
        rows = slice(int(ptr[b]), int(ptr[b + 1]))
        alone = sampling_argmax(logits[rows], pos[rows], bandwidth[rows], generator=seeded(3 + b), **options)[0]
        same_distribution(ragged[b], masked[b])
        same_distribution(ragged[b], alone)


def test_single_and_double_precision_draw_from_the_same_distribution():
    logits, pos, bandwidth, _ = make([7])
    options = {"num_samples": 10_000, "temperature": 0.5}
    double = sampling_argmax(logits, pos, bandwidth, generator=seeded(1), **options)
    single = sampling_argmax(logits.float(), pos.float(), bandwidth.float(), generator=seeded(2), **options)
    same_distribution(double[0], single[0].double())


def test_hand_checkable_numbers():
    # One point: the place is certain, and the noise is its own basis whatever the temperature.
    out = sampling_argmax(torch.zeros(1, 1), torch.tensor([[2.0]]), 0.5, num_samples=40_000, temperature=0.7)
    assert out.mean().item() == pytest.approx(2.0, abs=0.02)
    assert out.std().item() == pytest.approx(0.5, abs=0.01)
    # Two equal points at temperature 1: w = E2 / (E1 + E2) is uniform on [0, 1], so E w^2 + E (1 - w)^2 = 2/3
    # and the noise has variance 2/3 sigma^2 (mixture: sigma^2). The place, w - (1 - w) times 1/2, is uniform on
    # [-1/2, 1/2]: 1/12.
    for noise, factor in (("relaxed", 2 / 3), ("mixture", 1.0)):
        out = sampling_argmax(
            torch.zeros(2, 1),
            torch.tensor([[-0.5], [0.5]]),
            0.4,
            num_samples=100_000,
            basis_noise=noise,
            generator=seeded(),
        )
        assert out.var().item() == pytest.approx(1 / 12 + factor * 0.16, rel=0.02)


# --- precision and extremes --------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(half):
    logits, pos, bandwidth, ptr = make([2, 6], dtype=torch.float32)
    logits, pos = logits.to(half).requires_grad_(), pos.to(half)
    out = sampling_argmax(logits, pos, bandwidth.to(half), ptr=ptr, num_samples=3, generator=seeded())
    wide = sampling_argmax(
        logits.float(), pos.float(), bandwidth.to(half).float(), ptr=ptr, num_samples=3, generator=seeded()
    )
    assert out.dtype == torch.float32
    assert torch.equal(out, wide)
    assert soft_argmax(logits, pos, ptr=ptr).dtype == torch.float32
    out.sum().backward()
    assert logits.grad.dtype == half


def test_autocast_changes_nothing():
    logits, pos, bandwidth, ptr = make([40, 60], dtype=torch.float32)

    def run(region):
        leaves = [x.clone().requires_grad_() for x in (logits, pos, bandwidth)]
        with torch.autocast("cpu", torch.bfloat16, enabled=region):
            soft = soft_argmax(*leaves[:2], ptr=ptr)
            samples = sampling_argmax(*leaves, ptr=ptr, num_samples=5, generator=seeded())
            # A backward pass inside the region is not recommended, but done.
            (soft.square().sum() + samples.square().sum()).backward()
        return soft, samples, *(x.grad for x in leaves)

    for plain, cast in zip(run(False), run(True), strict=True):
        assert cast.dtype == torch.float32
        assert torch.equal(plain, cast)


EXTREMES = {
    "large logits": (torch.tensor([[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]]), torch.eye(3)),
    "enormous logits": (torch.tensor([[0.0, -1e30], [-1e30, 0.0], [1e30, -1e30]]), torch.eye(3)),
    "the dtype's limits": (torch.tensor([[3e38, -3e38], [-3e38, -3e38], [0.0, 1.0]]), torch.eye(3)),
    "duplicates": (torch.tensor([[1.0, 0.0], [1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0], [0.0], [1.0]])),
    "all equal": (torch.tensor([[1.0, 0.0], [1.0, 2.0], [0.0, 0.0]]), torch.full((3, 3), 0.3)),
    "one point": (torch.tensor([[1.0, -2.0]]), torch.tensor([[0.1, 0.2, 0.3]])),
    "far away": (torch.tensor([[1.0, 0.0], [1.0, 2.0]]), torch.tensor([[1e6, 0.0], [1e6, 1.0]])),
    "smallest of all": (torch.zeros(1, 1), torch.zeros(1, 1)),
    "five axes": (torch.zeros(4, 1), torch.eye(4, 5)),
}


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("basis_noise", NOISES)
@pytest.mark.parametrize("case", EXTREMES.values(), ids=EXTREMES.keys())
def test_extremes_are_finite(case, basis_noise, temperature, tiles):
    logits, pos = (x.clone().requires_grad_() for x in case)
    for bandwidth in (knn_bandwidth(pos), 0.1, torch.full_like(pos, 0.1).requires_grad_()):
        samples = sampling_argmax(
            logits, pos, bandwidth, num_samples=20, temperature=temperature, basis_noise=basis_noise
        )
        # 1e3: where the noise's variance is below the smallest number, the slope to it must not be infinite.
        (1e3 * samples).sum().backward()
        assert samples.shape == (1, logits.shape[1], 20, pos.shape[1])
        assert samples.isfinite().all()
        assert logits.grad.isfinite().all()
        assert pos.grad.isfinite().all()
        if isinstance(bandwidth, torch.Tensor) and bandwidth.is_leaf:
            assert bandwidth.grad.isfinite().all()
    if temperature >= 1 or case is not EXTREMES["the dtype's limits"]:
        assert soft_argmax(logits, pos, temperature=temperature).isfinite().all()


def test_gradient_of_a_translated_cloud_keeps_its_digits():
    # What a position's own rounding leaves: 1000 away a float32 is known to 3e-5.
    logits, pos, _, _ = make([50], dim=3)
    exact, far = logits.clone().requires_grad_(), logits.float().requires_grad_()
    pos = (pos * 64).round() / 64  # a grid that the translation keeps exactly
    seed = torch.tensor(3)
    grads = []
    for leaf, y in ((exact, pos), (far, (pos + 1000).float())):
        noise = seeded(int(seed))
        out = sampling_argmax(leaf, y, 0.1, num_samples=2000, generator=noise)
        (out - out.detach().mean()).sum().backward()
        grads.append(leaf.grad.double() / 2000)
    # Different noise in the two precisions: 2000 samples agree to a few per cent; a lost digit would show.
    assert (grads[0] - grads[1]).abs().max() < 0.05
    assert grads[1].sum(0).abs().max() < 1e-3  # shift invariance: the gradient of logits sums to zero


@pytest.mark.parametrize("ptr", [[0, 0, 6], [0, 6, 6], [0, 2, 2, 6]], ids=str)
def test_an_empty_cloud_let_through_spoils_only_itself(ptr):
    logits, pos, bandwidth, _ = make([6])
    leaves = [x.requires_grad_() for x in (logits, pos, bandwidth)]
    ptr = torch.tensor(ptr)
    out = sampling_argmax(*leaves, ptr=ptr, validate=False)
    full = ptr.diff() > 0
    assert out[full].isfinite().all()
    assert not out[~full].isfinite().any()
    out[full].sum().backward()
    assert all(x.grad.isfinite().all() for x in leaves)


def test_strided_and_expanded_inputs():
    logits, pos, bandwidth, _ = make([6], num_keypoints=3, dim=3)
    wanted = sampling_argmax(logits, pos, bandwidth, num_samples=2, generator=seeded())
    wide = [torch.stack([x, x], -1)[..., 0] for x in (logits, pos, bandwidth)]
    turned = [x.T.contiguous().T for x in (logits, pos, bandwidth)]
    assert not any(x.is_contiguous() for x in (*wide, *turned))
    for inputs in (wide, turned):
        assert torch.equal(sampling_argmax(*inputs, num_samples=2, generator=seeded()), wanted)
    leaf = pos[:1].clone().requires_grad_()
    batch = [x[None].expand(2, *x.shape) for x in (logits, leaf.expand(6, 3), bandwidth)]
    out = sampling_argmax(*batch, num_samples=2, generator=seeded())
    out.sum().backward()
    # Weights sum to one, so each of 2 clouds x 3 keypoints x 2 samples pulls by one.
    torch.testing.assert_close(leaf.grad, torch.full((1, 3), 12.0, dtype=torch.float64))


def test_inputs_are_left_as_they_were():
    # K = 1 makes the kernel's transposed copy a view.
    for K in (1, 3):
        logits, pos, bandwidth, _ = make([6], num_keypoints=K)
        before = [x.clone() for x in (logits, pos, bandwidth)]
        logits.requires_grad_()
        sampling_argmax(logits, pos, bandwidth, num_samples=3, temperature=0.5).sum().backward()
        assert all(torch.equal(x, y) for x, y in zip((logits, pos, bandwidth), before, strict=True))


def test_number_of_samples_and_names_of_bad_input():
    logits, pos, bandwidth, _ = make([3])
    assert sampling_argmax(logits, pos, bandwidth, num_samples=20_000).shape == (1, 2, 20_000, 2)
    for number in (0, -1):
        with pytest.raises(ValueError, match=rf"`num_samples` \(={number}\) must be at least 1"):
            sampling_argmax(logits, pos, bandwidth, num_samples=number)
    with pytest.raises(ValueError, match=r"`num_samples` \(=1.5\) must be a whole number"):
        sampling_argmax(logits, pos, bandwidth, num_samples=1.5)
    with pytest.raises(ValueError, match=r"`num_samples` \(=0\)"):
        SamplingArgmax(num_samples=0)


def test_bad_input_basis_noise():
    with pytest.raises(ValueError, match=r"`basis_noise` \(='gumbel'\) must be one of 'relaxed', 'mixture'"):
        sampling_argmax(*make([3])[:3], basis_noise="gumbel")
    with pytest.raises(ValueError, match=r"`basis_noise` \(='gumbel'\)"):
        SamplingArgmax(basis_noise="gumbel")
    for module in (SoftArgmax, SamplingArgmax):
        with pytest.raises(ValueError, match=r"\(=0.0\) must be .*positive"):
            module(temperature=0.0)


# --- memory, compilation -----------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation returned."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.numel())
        return out


@pytest.mark.parametrize("basis_noise", NOISES)
def test_memory_does_not_grow_with_the_number_of_samples(basis_noise, monkeypatch):
    monkeypatch.setattr(_kernel, "_TILE_CPU", 1 << 14)
    logits, pos, bandwidth, ptr = make([500, 701], dtype=torch.float32)
    inputs, mixture, S = (logits, pos, bandwidth, ptr, torch.tensor(1)), basis_noise == "mixture", 128
    with Largest() as seen:
        out = _kernel._draw(*inputs, HALF, S, mixture, 0)
        _kernel._draw_backward(torch.ones_like(out[0]), *out, *inputs, HALF, mixture, 0, True, True, True)
    # The literal form has weights [N, K, S]. Here a block of a cloud (4 or 5 to a cloud of 600) has its D + 1 + D
    # sums for every sample, 9 x 5 K S against 1201 K S, and a tile has 2^14 elements against 307,456.
    assert logits.numel() < seen.elements < logits.numel() * S / 15


@pytest.mark.parametrize("sizes", [[6], [2, 4]], ids=str)
def test_compiles_in_one_graph(sizes):
    torch._dynamo.reset()
    logits, pos, bandwidth, ptr = make(sizes, dtype=torch.float32)

    def loss(logits, pos, bandwidth, ptr):
        soft = soft_argmax(logits, pos, ptr=ptr)
        samples = sampling_argmax(logits, pos, bandwidth, ptr=ptr, num_samples=3, temperature=0.5)
        return samples.square().sum() + soft.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    results = []
    for function in (loss, compiled):
        torch.manual_seed(0)
        leaves = [x.clone().requires_grad_() for x in (logits, pos, bandwidth)]
        value = function(*leaves, ptr)
        value.backward()
        results.append((value.detach(), *(x.grad for x in leaves)))
    torch.testing.assert_close(*results)


def test_a_schedule_does_not_compile_anew():
    logits, pos, bandwidth, ptr = make([3, 4])
    module = SamplingArgmax(temperature=TemperatureSchedule("linear", start=2.0, end=0.1, num_steps=12))
    count = torch._dynamo.testing.CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend=count)
    spreads = []
    for _ in range(12):
        torch.manual_seed(0)
        spreads.append(compiled(logits, pos, bandwidth, ptr=ptr))
        torch.manual_seed(0)
        assert torch.equal(spreads[-1], module(logits, pos, bandwidth, ptr=ptr))
        module.temperature.step()
    assert count.frame_count == 1
    assert not torch.equal(spreads[0], spreads[-1])


def test_a_schedule_may_step_before_the_backward_pass():
    logits, pos, bandwidth, ptr = make([3, 4])
    logits.requires_grad_()
    grads = []
    for early in (False, True):
        module = SamplingArgmax(temperature=TemperatureSchedule("linear", start=2.0, end=0.1, num_steps=2))
        out = module(logits, pos, bandwidth, ptr=ptr, generator=seeded())
        if early:
            module.temperature.step()
        grads.append(torch.autograd.grad(out.square().sum(), logits)[0])
    assert torch.equal(*grads)


def test_bad_input_temperature_tensor():
    logits, pos, bandwidth, ptr = make([3, 4])
    for temperature in (
        torch.ones(2),
        torch.tensor(0.0),
        torch.tensor(float("nan")),
        torch.tensor(-1.0, requires_grad=True),
    ):
        with pytest.raises(ValueError, match="`temperature`"):
            sampling_argmax(logits, pos, bandwidth, ptr=ptr, temperature=temperature)


def test_the_operator_keeps_its_promises_to_the_compiler():
    for sizes in ([6], [3, 3], [1, 4]):
        logits, pos, bandwidth, ptr = make(sizes)
        inputs = [x.requires_grad_() for x in (logits, pos, bandwidth.square())]
        torch.library.opcheck(
            torch.ops.pcsa.draw.default,
            (*[x.detach().requires_grad_() for x in inputs], ptr, torch.tensor(3), HALF, 4, False, 0),
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
        )


# --- modules -----------------------------------------------------------------------------------------------


def test_modules_are_thin():
    logits, pos, bandwidth, ptr = make([2, 4])
    expected = soft_argmax(logits, pos, ptr=ptr, temperature=0.5)
    assert torch.equal(SoftArgmax(temperature=0.5)(logits, pos, ptr=ptr), expected)
    module = SamplingArgmax(num_samples=3, temperature=0.5, basis_noise="mixture")
    out = module(logits, pos, bandwidth, ptr=ptr, generator=seeded())
    same = sampling_argmax(
        logits,
        pos,
        bandwidth,
        ptr=ptr,
        num_samples=3,
        temperature=0.5,
        basis_noise="mixture",
        generator=seeded(),
    )
    assert torch.equal(out, same)
    # Testing reads the map out as it is: at temperature 1.
    module.eval()
    batch = torch.tensor([0, 0, 1, 1, 1, 1])
    assert torch.equal(module(logits, pos, bandwidth, batch), soft_argmax(logits, pos, batch))
    dense = [x.view(2, 3, 2) for x in (logits, pos, bandwidth)]
    mask = torch.tensor([[True, True, False], [True] * 3])
    assert module(*dense, mask=mask).shape == (2, 2, 2)
    assert module.train()(*dense, mask=mask).shape == (2, 2, 3, 2)
    assert "num_samples=3" in repr(module)
    assert "0.5" in repr(SoftArgmax(0.5))


def test_a_module_follows_its_schedule_and_a_checkpoint_keeps_it():
    build = lambda: SamplingArgmax(2, TemperatureSchedule("linear", start=2.0, end=1.0, num_steps=4))  # noqa: E731
    module = build()
    assert list(module.parameters()) == []
    inputs = make([5])[:3]
    for _ in range(3):
        module.temperature.step()
    wanted = sampling_argmax(*inputs, num_samples=2, temperature=1.25, generator=seeded())
    assert torch.equal(module(*inputs, generator=seeded()), wanted)
    file = io.BytesIO()
    torch.save(torch.nn.Sequential(module).state_dict(), file)
    file.seek(0)
    restored = torch.nn.Sequential(build())
    assert restored[0].temperature.value == 2.0
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert restored[0].temperature.value == 1.25
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied.temperature.value == 1.25
        copied.temperature.step()
        assert (copied.temperature.value, module.temperature.value) == (1.0, 1.25)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_exponential(dtype):
    noise = _kernel._Noise(torch.tensor(7), torch.device("cpu"))
    drawn = noise.log2_exponential((200_001,), dtype)().double().exp2().sort().values
    # Kolmogorov-Smirnov against 1 - exp(-x): beyond 1.95 / sqrt(n) once in a thousand seeds.
    expected = -torch.expm1(-drawn)
    steps = torch.arange(1, len(drawn) + 1) / len(drawn)
    assert (expected - steps).abs().max() < 1.95 / len(drawn) ** 0.5
    # The smallest of n is itself exponential with mean 1/n, and no rounding hides it.
    assert 0 < drawn[0] < 20 / len(drawn)
    assert drawn.unique().numel() > 0.98 * len(drawn)
    # Neighbors in the stream do not know each other (the two halves of one number least of all).
    x = noise.log2_exponential((200_000,), dtype)().double()
    assert abs(torch.corrcoef(torch.stack([x[:-1], x[1:]]))[0, 1]) < 4 / len(x) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", [0, 2**64 - 1])
def test_noise_is_finite_at_the_ends_of_the_source(bits, dtype):
    class Stuck:
        def random_raw(self, size):
            return np.full(size, bits, dtype=np.uint64)

    noise = _kernel._Noise(torch.tensor(0), torch.device("cpu"))
    noise.raw = Stuck()
    assert noise.log2_exponential((3, 5), dtype)().isfinite().all()


# --- masks of a keypoint's own, temperatures to learn, forms, clouds of PyTorch Geometric ---------------------

ESTIMATORS = ["relaxed", "straight_through", "reinmax", "implicit"]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("kind", ["number", "points", "axes", "matrices"])
def test_gradient_of_a_learned_temperature(kind, noise, tiles):
    logits, pos, bandwidth, ptr = make([5, 3, 7])
    bandwidth = {
        "number": torch.tensor(0.3, dtype=torch.float64),
        "points": bandwidth[:, 0],
        "axes": bandwidth,
        "matrices": torch.diag_embed(bandwidth),
    }[kind]

    def draw(logits, pos, bandwidth, tau):
        bandwidth = bandwidth.tril() if kind == "matrices" else bandwidth
        options = {"ptr": ptr, "num_samples": 3, "basis_noise": noise, "generator": seeded()}
        return sampling_argmax(logits, pos, bandwidth, temperature=tau, **options)

    leaves = [x.clone().requires_grad_() for x in (logits, pos, bandwidth, torch.tensor(0.8, dtype=torch.float64))]
    assert torch.autograd.gradcheck(draw, leaves)
    assert torch.autograd.grad(draw(*leaves).square().sum(), leaves[3])[0] != 0


def test_samples_of_a_learned_temperature_are_distributed_as_others():
    logits, pos, bandwidth, _ = make([6])
    fixed, learned = (
        sampling_argmax(logits, pos, bandwidth, num_samples=20_000, temperature=t, generator=seeded()).detach()
        for t in (0.5, torch.tensor(0.5, requires_grad=True))
    )
    # Five standard errors of a difference of means, and of variances a twentieth.
    error = (fixed.var(2) / 20_000 * 2).sqrt()
    assert ((fixed.mean(2) - learned.mean(2)).abs() < 5 * error).all()
    torch.testing.assert_close(learned.var(2), fixed.var(2), rtol=0.05, atol=0)


def test_a_learned_temperature_of_extreme_scores_has_a_finite_gradient():
    for logits, pos in EXTREMES.values():
        logits = logits.clone()
        if len(logits) > 1:
            logits[0, 0] = -math.inf
        tau = torch.tensor(0.5, requires_grad=True)
        out = sampling_argmax(logits, pos, 0.1, num_samples=5, temperature=tau, validate=False)
        (out.sum() + soft_argmax(logits, pos, temperature=tau).sum()).backward()
        assert tau.grad.isfinite()


@pytest.mark.parametrize("estimator", ESTIMATORS[1:])
def test_bad_input_learned_temperature_where_samples_have_none(estimator):
    tau = torch.tensor(0.5, requires_grad=True)
    with pytest.raises(ValueError, match="`temperature` that needs a gradient must be of `estimator` 'relaxed'"):
        sampling_argmax(*make([3])[:3], estimator=estimator, temperature=tau)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dense", [False, True])
def test_a_mask_of_a_keypoint_s_own(estimator, dense):
    logits, pos, bandwidth, ptr = make([6, 6], num_keypoints=3)
    off = torch.zeros(12, 3, dtype=torch.bool)
    off[[0, 1, 2, 3, 4], 0] = off[[7, 11], 2] = True
    leaves = [logits.masked_fill(off, -math.inf).requires_grad_(), pos.requires_grad_(), bandwidth.requires_grad_()]
    options = {} if dense else {"ptr": ptr}
    inputs = [x.view(2, 6, -1) for x in leaves] if dense else leaves
    soft = soft_argmax(*inputs[:2], **options)
    torch.testing.assert_close(soft[0, 0], pos[5])  # the only point that is left
    rows = [6, 8, 9, 10]
    torch.testing.assert_close(soft[1, 2], logits[rows, 2].softmax(0) @ pos[rows])
    samples = sampling_argmax(*inputs, **options, estimator=estimator, num_samples=4000, generator=seeded())
    away = (samples[0, 0] - pos[5]) / bandwidth[5]
    assert away.mean().abs() < 0.1
    assert abs(away.std() - 1) < 0.1
    (samples.square().sum() + soft.sum()).backward()
    assert all(x.grad.isfinite().all() for x in leaves)
    assert (leaves[0].grad[off] == 0).all()


def test_the_released_form_is_that_of_tempered_scores():
    logits, pos, bandwidth, ptr = make([5, 3])
    for estimator in ESTIMATORS:
        options = {"ptr": ptr, "num_samples": 4, "temperature": 0.3, "estimator": estimator}
        found = sampling_argmax(logits, pos, bandwidth, form="released", generator=seeded(), **options)
        assert torch.equal(found, sampling_argmax(0.3 * logits, pos, bandwidth, generator=seeded(), **options))
        assert not torch.equal(found, sampling_argmax(logits, pos, bandwidth, generator=seeded(), **options))
    module = SamplingArgmax(4, 0.3, form="released")
    assert torch.equal(
        module(logits, pos, bandwidth, ptr=ptr, generator=seeded()),
        sampling_argmax(0.3 * logits, pos, bandwidth, ptr=ptr, num_samples=4, temperature=0.3, generator=seeded()),
    )


def test_bad_input_form():
    for call in (lambda: sampling_argmax(*make([3])[:3], form="other"), lambda: SamplingArgmax(form="other")):
        with pytest.raises(ValueError, match=r"`form` \(='other'\) must be one of 'paper', 'released'"):
            call()


def test_bad_input_generator_of_numpy():
    with pytest.raises(ValueError, match=r"`generator` \(numpy.Generator\) must be a torch.Generator"):
        sampling_argmax(*make([3])[:3], generator=np.random.default_rng(0))


def test_bad_input_is_not_shown_at_length():
    with pytest.raises(ValueError, match=r"`num_samples` \(=Tensor \[500\]\) must be a whole number"):
        sampling_argmax(*make([3])[:3], num_samples=torch.ones(500))


def test_clouds_as_pytorch_geometric_holds_them():
    data = pytest.importorskip("torch_geometric.data")
    logits, pos, bandwidth, ptr = make([2, 4])
    clouds = data.Batch.from_data_list([data.Data(pos=pos[:2]), data.Data(pos=pos[2:])])
    for cloud in (clouds, data.Data(pos=pos, batch=clouds.batch)):
        assert torch.equal(soft_argmax(logits, cloud), soft_argmax(logits, pos, ptr=ptr))
        assert torch.equal(knn_bandwidth(cloud), knn_bandwidth(pos, ptr=ptr))
        assert torch.equal(
            sampling_argmax(logits, cloud, bandwidth, generator=seeded()),
            sampling_argmax(logits, pos, bandwidth, ptr=ptr, generator=seeded()),
        )
    assert soft_argmax(logits, data.Data(pos=pos)).shape == (1, 2, 2)


def test_bad_input_of_pytorch_geometric():
    data = pytest.importorskip("torch_geometric.data")
    with pytest.raises(ValueError, match=r"`pos` \(NoneType\) must be a tensor"):
        soft_argmax(make([3])[0], data.Data())


def test_one_shell_can_replace_the_other():
    logits, pos, bandwidth, ptr = make([2, 4])
    batch = torch.tensor([0, 0, 1, 1, 1, 1])
    soft, sampling = SoftArgmax(), SamplingArgmax(num_samples=3)
    wanted = soft_argmax(logits, pos, batch)
    for arguments in ((batch,), (bandwidth, batch), (0.1, batch), (None, batch)):
        assert torch.equal(soft(logits, pos, *arguments), wanted)
        assert torch.equal(soft(logits, pos, *arguments, generator=seeded()), wanted)
        assert sampling.train()(logits, pos, *arguments, generator=seeded()).shape == (2, 2, 3, 2)
        assert torch.equal(sampling.eval()(logits, pos, *arguments), wanted)
    sampling.train()
    own = sampling(logits, pos, knn_bandwidth(pos, batch), batch, generator=seeded())
    assert torch.equal(sampling(logits, pos, batch, generator=seeded()), own)
    assert torch.equal(sampling(logits, pos, ptr=ptr, generator=seeded()), own)


def test_a_module_s_temperature_is_set_and_learned():
    inputs = make([5])[:3]
    module = SamplingArgmax(2)
    module.temperature = 0.25
    assert module.temperature.value == 0.25
    assert torch.equal(
        module(*inputs, generator=seeded()),
        sampling_argmax(*inputs, num_samples=2, temperature=0.25, generator=seeded()),
    )
    module.temperature = torch.nn.Parameter(torch.tensor(0.5))
    assert [name for name, _ in module.named_parameters()] == ["temperature"]
    assert "temperature=0.5, learned" in repr(module)
    before = module(*inputs, generator=seeded()).square().sum()
    before.backward()
    assert module.temperature.grad != 0
    other = SamplingArgmax(2, torch.nn.Parameter(torch.tensor(1.0)))
    other.load_state_dict(module.state_dict())
    assert other.temperature.item() == 0.5
    module.temperature = TemperatureSchedule("linear", start=2.0, end=1.0, num_steps=4)
    assert list(module.parameters()) == []
    soft = SoftArgmax(torch.nn.Parameter(torch.tensor(0.5)))
    soft(*inputs[:2]).sum().backward()
    assert soft.temperature.grad != 0
    soft.temperature.data.fill_(2.0)
    assert torch.equal(soft(*inputs[:2]), soft_argmax(*inputs[:2], temperature=2.0))


@pytest.mark.parametrize("wrong", [0.0, torch.ones(2), "hot", torch.tensor(-1.0, requires_grad=True)], ids=str)
def test_bad_input_temperature_that_is_set(wrong):
    module = SamplingArgmax(2)
    with pytest.raises(ValueError, match=r"`(temperature|start)`"):
        module.temperature = wrong
    assert module.temperature.value == 1.0


def test_a_state_is_tensors_alone_and_older_ones_are_loaded(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    build = lambda: torch.nn.Sequential(SamplingArgmax(2, TemperatureSchedule("linear", end=0.5, num_steps=4)))  # noqa: E731
    model = build()
    model[0].temperature.go_to(2)
    state = model.state_dict()
    assert {name: value.item() for name, value in state.items()} == {"0.steps_done": 2}
    safetensors.save_model(model, tmp_path / "model.safetensors")
    restored = build()
    assert safetensors.load_model(restored, tmp_path / "model.safetensors") == (set(), [])
    assert restored[0].temperature.value == model[0].temperature.value
    for older, steps in (({"0._extra_state": {"steps_done": 3}}, 3), ({}, 0), (state, 2)):
        restored = build()
        kept = dict(older)
        assert not any(restored.load_state_dict(older))  # neither missing nor unexpected
        assert restored[0].temperature.steps_done == steps
        assert older.keys() == kept.keys()
