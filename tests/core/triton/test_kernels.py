"""The operator's kernels: on CUDA, or run as Python on the CPU by ``TRITON_INTERPRET=1 pytest`` and this file.

`test_choice_of_path.py` starts the latter.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pcsa import grid, sampling_argmax
from pcsa._core.triton import grids, points
from pcsa._core.triton.launch import cdiv, interpreted, next_power

if not interpreted() and not torch.cuda.is_available():
    pytest.skip("no CUDA device, and no TRITON_INTERPRET=1 in the environment", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed", exc_type=ImportError)

import triton
import triton.language as tl
from triton.runtime import interpreter

from pcsa._core.triton.noise import four_log2_exponentials, four_normals, four_words

DEVICE = torch.device("cpu" if interpreted() else "cuda")
pytestmark = [] if interpreted() else [pytest.mark.cuda]

SEED = 8_765_432_109_876_543
INF = math.inf
# A compiler may round the noise of one kernel in another way than that of the next, in float32.
SLACK = 1 if interpreted() else 1e5


_known = set()


def _call(function, *args, **kwargs):
    # Triton looks its whole language up at each call of a function by a kernel, which takes most of the time.
    if function not in _known:
        interpreter._patch_lang(function.fn)
        _known.add(function)
    return function.rewrite()(*args, **kwargs)


@pytest.fixture(autouse=True, scope="module")
def quicker():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter.InterpretedFunction, "__call__", _call)
        yield


@triton.jit
def write_exponentials(out, seed, cloud, K, n, groups, SIZE: tl.constexpr):
    keypoint = tl.program_id(0)
    place = tl.arange(0, SIZE)
    for group in range(groups):
        noise = four_log2_exponentials(seed, place, keypoint, group, cloud)
        for j in tl.static_range(4):
            tl.store(out + (place * K + keypoint) * (4 * groups) + 4 * group + j, noise[j], mask=place < n)


@triton.jit
def write_normals(out, seed, cloud, S, axes, SIZE: tl.constexpr):
    keypoint = tl.program_id(0)
    sample = tl.arange(0, SIZE)
    for four in range(axes):
        noise = four_normals(seed, four, keypoint, sample, cloud)
        for j in tl.static_range(4):
            tl.store(out + (keypoint * S + sample) * (4 * axes) + 4 * four + j, noise[j], mask=sample < S)


@triton.jit
def write_words(out, seed, place, keypoint, group, stream):
    words = four_words(seed, place, keypoint, group, stream)
    for j in tl.static_range(4):
        tl.store(out + j, words[j].to(tl.int64))


def exponentials_of(sizes, K, S, seed=SEED):
    """Log2-exponentials [N, K, S], as the kernels draw them."""
    groups, drawn = cdiv(S, 4), []
    for cloud, n in enumerate(sizes):
        drawn.append(torch.empty(n, K, 4 * groups, device=DEVICE))
        write_exponentials[(K,)](drawn[-1], seed, cloud, K, n, groups, next_power(n))
    return torch.cat(drawn)[..., :S]


def normals_of(B, K, S, D, seed=SEED):
    """Normals [B, K, S, D], as the kernels draw them."""
    axes = cdiv(D, 4)
    drawn = torch.empty(B, K, S, 4 * axes, device=DEVICE)
    for cloud in range(B):
        write_normals[(K,)](drawn[cloud], seed, cloud, S, axes, next_power(S))
    return drawn[..., :D]


def literal(logits, pos, variance, sizes, temperature, mixture, noise):
    """Eq. 11-12 with the given noise, one cloud after the other, under plain autograd."""
    out = []
    for x, y, v, e, z in zip(*(t.split(sizes) for t in (logits, pos, variance, noise[0])), noise[1], strict=True):
        score = (x - x.detach().amax(0))[..., None] - math.log(2) * e.to(x.dtype)
        weight = (score / temperature).softmax(0)
        power = weight if mixture else weight.square()
        std = torch.einsum("nks,nd->ksd", power, v).sqrt()
        out.append(torch.einsum("nks,nd->ksd", weight, y) + z.to(x.dtype) * std)
    return torch.stack(out)


def make(sizes, K, D, axes, dtype):
    generator = torch.Generator().manual_seed(3)
    N = sum(sizes)
    logits = 1.5 * torch.randn(N, K, dtype=dtype, generator=generator)
    pos = torch.randn(N, D, dtype=dtype, generator=generator)
    variance = 0.05 + torch.rand(N, axes, dtype=dtype, generator=generator)
    return logits.to(DEVICE), pos.to(DEVICE), variance.to(DEVICE)


def ptr_of(sizes):
    return torch.tensor([0, *sizes], device=DEVICE).cumsum(0)


def both(sizes, logits, pos, variance, S, temperature, mixture):
    """Samples and gradients of the kernels and of the literal form, in pairs."""
    inputs = (logits, pos, variance, ptr_of(sizes), torch.tensor(SEED), torch.tensor(temperature, dtype=torch.float64))
    drawn = points.draw(*inputs, S, mixture)
    grad = torch.randn(drawn[0].shape, dtype=logits.dtype, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    ours = points.draw_backward(grad, *drawn, *inputs, mixture, True, True, True)
    leaves = [x.detach().clone().requires_grad_() for x in (logits, pos, variance)]
    K, D = logits.shape[1], pos.shape[1]
    noise = exponentials_of(sizes, K, S), normals_of(len(sizes), K, S, D)
    wanted = literal(*leaves, sizes, temperature, mixture, noise)
    return [(drawn[0], wanted.detach()), *zip(ours, torch.autograd.grad(wanted, leaves, grad), strict=True)]


@pytest.fixture
def short(monkeypatch):
    """Several ranges to a cloud, and several keypoints to a program of the gradient."""
    monkeypatch.setattr(points, "_SMALLEST_RANGE", 32)
    monkeypatch.setattr(points, "_PROGRAMS", 2)


# --- noise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        (0, (0, 0, 0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (-1, (-1, -1, -1, -1), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (0x299F31D0A4093822, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_words_are_those_that_the_authors_of_philox_publish(key, counter, words):
    out = torch.empty(4, dtype=torch.int64, device=DEVICE)
    write_words[(1,)](out, key, *counter)
    assert [f"{word:08x}" for word in out.tolist()] == words.split()


@pytest.fixture(scope="module")
def streams():
    """Of 2 clouds of 4,096 points, 2 keypoints and 8 samples; normals of 4 axes for 4,096 samples of their own."""
    by_seed = torch.stack([exponentials_of([4096], 2, 8, seed) for seed in (SEED, SEED + 1)])
    by_cloud = exponentials_of([4096] * 2, 2, 4).view(2, 4096, 2, 4)
    return by_seed.cpu(), by_cloud.cpu(), normals_of(2, 2, 4096, 4).cpu()


def test_noise_is_distributed_as_it_should_be(streams):
    exponentials, _, normals = streams
    gumbel = -math.log(2) * exponentials.double().flatten().numpy()
    assert stats.kstest(gumbel, "gumbel_r").pvalue > 1e-3
    # The smallest of E decide a sample: 4,096 of them in groups, each the smallest of 32, are E / 32.
    smallest = 32 * np.exp2(exponentials.double().view(-1, 32).amin(1).numpy())
    assert stats.kstest(smallest, "expon").pvalue > 1e-3
    assert stats.kstest(normals.double().flatten().numpy(), "norm").pvalue > 1e-3
    # Two of a pair come from one radius and one angle.
    x, y = normals.double().view(-1, 2).T.numpy()
    assert stats.kstest(np.arctan2(y, x), stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3
    assert stats.kstest((x * x + y * y) / 2, "expon").pvalue > 1e-3


def independent(a, b):
    """Neither numbers nor their squares are correlated: of n pairs, a correlation is normal with deviation n^-1/2."""
    a, b = (stats.zscore(stats.rankdata(x.flatten().numpy())) for x in (a, b))
    for p, q in ((a, b), (a * a, b), (a, b * b), (a * a, b * b)):
        assert abs(np.corrcoef(p, q)[0, 1]) * math.sqrt(len(p)) < 4.5


def test_streams_are_independent(streams):
    by_seed, by_cloud, normals = streams
    noise = by_seed[0]
    independent(*by_seed)
    independent(*by_cloud)
    independent(noise[:, 0], noise[:, 1])
    for apart in (1, 3, 4, 7):  # in the same four words, and in others
        independent(noise[..., : 8 - apart], noise[..., apart:])
    for apart in (1, 2, 64):
        independent(noise[:-apart], noise[apart:])
    independent(normals[0], normals[1])
    independent(normals[:, 0], normals[:, 1])
    independent(normals[:, :, :-1], normals[:, :, 1:])
    for a, b in ((0, 1), (0, 2), (1, 3)):
        independent(normals[..., a], normals[..., b])
    independent(normals[..., :2], noise.permute(1, 2, 0).reshape(2, 2, 4096, 4)[..., :2])


# --- points ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "K", "S", "D", "axes", "mixture", "dtype"),
    [
        ([5, 1, 37], 2, 3, 3, 1, False, torch.float64),
        ([5, 1, 37], 2, 3, 3, 3, True, torch.float64),
        ([34, 6], 1, 8, 2, 2, False, torch.float32),
        ([3], 2, 1, 1, 1, True, torch.float32),
        ([4, 2], 1, 5, 5, 1, False, torch.float32),
        ([4, 2], 1, 2, 6, 6, False, torch.float32),
    ],
    ids=str,
)
def test_samples_and_gradients_are_those_of_the_literal_form(sizes, K, S, D, axes, mixture, dtype, close):
    for ours, wanted in both(sizes, *make(sizes, K, D, axes, dtype), S, 0.7, mixture):
        assert ours.is_contiguous()
        close(ours, wanted, scale=10 * SLACK)


@pytest.mark.parametrize("mixture", [False, True])
def test_ranges_of_a_cloud_and_keypoints_of_a_program(mixture, short, close):
    sizes = [70, 3]
    for ours, wanted in both(sizes, *make(sizes, 3, 2, 1, torch.float64), 5, 0.3, mixture):
        close(ours, wanted, scale=10 * SLACK)


def test_hard_input(short, close):
    sizes = [1, 40, 6]
    logits, pos, variance = make(sizes, 1, 3, 1, torch.float32)
    logits[1:36] = -INF  # the whole first range of the second cloud
    pos[41:], variance[41:] = pos[41], variance[41]
    logits[41:44] = -1e30
    pos[0] = 1e3
    for ours, wanted in both(sizes, logits, pos, variance, 3, 0.5, False):
        assert ours.isfinite().all()
        close(ours, wanted, scale=100 * SLACK)


@pytest.mark.parametrize("offset", [-(2.0**20), 2.0**30])
def test_a_common_offset_of_the_logits_changes_nothing(offset):
    logits, pos, variance = make([5, 3], 1, 2, 1, torch.float32)
    logits = logits.div(256).round() * 256  # exact beside the offset
    results = [both([5, 3], x, pos, variance, 2, 0.5, False) for x in (logits, logits + offset)]
    for (a, _), (b, _) in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("temperature", [1e-3, 30.0])
def test_temperatures(temperature, close):
    sizes = [6, 2]
    for ours, wanted in both(sizes, *make(sizes, 1, 2, 1, torch.float64), 2, temperature, False):
        close(ours, wanted, scale=1000 * SLACK)


def draw(*inputs, **options):
    return sampling_argmax(*inputs, generator=torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("basis_noise", ["relaxed", "mixture"])
def test_gradcheck(basis_noise):
    leaves = [x.requires_grad_() for x in make([3, 1], 1, 2, 1, torch.float64)]
    leaves[2] = leaves[2][:, 0].detach().requires_grad_()
    options = {"ptr": ptr_of([3, 1]), "num_samples": 2, "temperature": 0.8, "basis_noise": basis_noise}
    assert torch.autograd.gradcheck(lambda *x: draw(*x, **options), leaves, fast_mode=True)


def test_only_the_gradients_asked_for_and_the_same_for_a_gradient_of_any_strides(close):
    inputs = make([5, 3], 2, 3, 1, torch.float64)
    every = None
    for which in ((0, 1, 2), (0,), (1,), (2,)):
        leaves = [x.clone().requires_grad_(i in which) for i, x in enumerate(inputs)]
        draw(*leaves[:2], leaves[2][:, 0], ptr=ptr_of([5, 3]), num_samples=3).sum().backward()
        every = [x.grad for x in leaves] if every is None else every
        for i, leaf in enumerate(leaves):
            assert (leaf.grad is None) == (i not in which)
            if i in which:
                close(leaf.grad, every[i])


def test_a_cloud_draws_the_same_whatever_is_beside_it_and_however_it_is_padded(close):
    logits, pos, _ = make([4, 6], 2, 3, 1, torch.float64)
    together = draw(logits, pos, 0.1, ptr=ptr_of([4, 6]), num_samples=5)
    close(draw(logits[:4], pos[:4], 0.1, num_samples=5)[0], together[0])
    close(draw(logits[2:], pos[2:], 0.1, ptr=ptr_of([2, 6]), num_samples=5)[1], together[1])
    padded = torch.zeros(2, 7, 5, dtype=torch.float64, device=DEVICE)
    mask = (torch.arange(7) < torch.tensor([[4], [6]])).to(DEVICE)
    padded[mask] = torch.cat([logits, pos], 1)
    close(draw(padded[..., :2], padded[..., 2:], 0.1, mask=mask, num_samples=5), together)
    # Nor does a sample know how many there are.
    close(draw(logits, pos, 0.1, ptr=ptr_of([4, 6]), num_samples=8)[:, :, :5], together)


def test_seeds():
    logits, pos, _ = make([5], 1, 2, 1, torch.float32)
    torch.manual_seed(1)
    first, second = (sampling_argmax(logits, pos, 0.1) for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(sampling_argmax(logits, pos, 0.1), first)
    assert not torch.equal(first, second)


def test_a_seed_that_the_device_holds(monkeypatch):
    # As while a CUDA graph is captured: the kernels read it, and no one waits for it.
    logits, pos, variance = make([5], 1, 2, 1, torch.float32)
    inputs = (logits, pos, variance, ptr_of([5]), torch.tensor(SEED), torch.tensor(1.0))
    expected = points.draw(*inputs, 1, False)
    expected = (*expected, *points.draw_backward(expected[0], *expected, *inputs, False, True, True, True))
    monkeypatch.setattr(points, "seed_of", lambda seed: (0, seed.to(DEVICE)))
    drawn = points.draw(*inputs, 1, False)
    for a, b in zip((*drawn, *points.draw_backward(drawn[0], *drawn, *inputs, False, True, True, True)), expected,
                    strict=True):  # fmt: skip
        assert torch.equal(a, b)


def test_half_precision_and_autocast():
    logits, pos, _ = make([5], 1, 2, 1, torch.float32)
    logits = logits.bfloat16().requires_grad_()
    with torch.autocast(DEVICE.type, torch.bfloat16):
        samples = draw(logits, pos, 0.1)
        samples.sum().backward()
    assert samples.dtype == torch.float32
    assert logits.grad.dtype == torch.bfloat16
    assert torch.equal(samples, draw(logits.detach().float(), pos, 0.1))


def test_compiled_caller():
    logits, pos, _ = make([5, 3], 1, 2, 1, torch.float32)
    leaf = logits.clone().requires_grad_()

    def loss(x):
        return sampling_argmax(x, pos, 0.1, ptr=ptr_of([5, 3]), num_samples=2).square().sum()

    torch.manual_seed(0)
    (eager,) = torch.autograd.grad(loss(leaf), leaf)
    torch.manual_seed(0)
    (compiled,) = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(leaf), leaf)
    assert torch.equal(eager, compiled)


def test_second_derivative_is_refused():
    logits, pos, _ = make([3], 1, 2, 1, torch.float64)
    (slope,) = torch.autograd.grad(draw(logits.requires_grad_(), pos, 0.1).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        slope.sum().backward()


@pytest.mark.cuda
@pytest.mark.skipif(interpreted(), reason="graphs are CUDA's")
def test_a_captured_graph_draws_anew_at_each_replay():
    logits, pos, _ = make([500, 300], 4, 3, 1, torch.float32)
    logits.requires_grad_()

    def step():
        samples = sampling_argmax(logits, pos, 0.1, ptr=ptr_of_both, num_samples=8, validate=False)
        return samples, torch.autograd.grad(samples.square().sum(), logits)[0]

    ptr_of_both, graph, side = ptr_of([500, 300]), torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        samples, grad = step()
    replayed = []
    for _ in range(2):
        graph.replay()
        replayed.append((samples.clone(), grad.clone()))
    for first, second in zip(*replayed, strict=True):
        assert first.isfinite().all()
        assert not torch.equal(first, second)


@pytest.mark.cuda
@pytest.mark.skipif(interpreted(), reason="it takes the interpreter minutes")
def test_no_host_wait_and_the_same_bits_every_time():
    logits, pos, variance = make([2048] * 7 + [9000], 10, 3, 1, torch.float32)
    leaves = [logits.requires_grad_(), pos.requires_grad_(), variance[:, 0].detach().requires_grad_()]
    options = {"ptr": ptr_of([2048] * 7 + [9000]), "num_samples": 30, "validate": False}

    def step():
        samples = draw(*leaves, **options)
        return samples.detach(), *torch.autograd.grad(samples.norm(dim=-1).sum(), leaves)

    first = step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        second = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# --- the other estimators ----------------------------------------------------------------------------------


def test_choice_is_the_largest_of_the_noise_that_draw_takes(short):
    sizes = [2, 70]
    logits, _, _ = make(sizes, 2, 1, 1, torch.float32)
    ptr = ptr_of(sizes)
    chosen = points.choose(logits, ptr, torch.tensor(SEED), torch.tensor(0.5), 5)
    score = logits[..., None] - math.log(2) * exponentials_of(sizes, 2, 5)
    wanted = [part.argmax(0) + start for part, start in zip(score.split(sizes), ptr, strict=False)]
    assert torch.equal(chosen, torch.stack(wanted))


def test_straight_through_is_relaxed_at_a_small_temperature(close):
    logits, pos, _ = make([6], 1, 2, 1, torch.float64)
    hard, soft = (draw(logits, pos, 1e-9, num_samples=4, temperature=1e-3, estimator=e) for e in
                  ("straight_through", "relaxed"))  # fmt: skip
    # Their seeds differ, so the points chosen may: each sample is one of the points.
    for samples in (hard, soft):
        assert torch.cdist(samples[0, 0], pos).amin(1).max() < 1e-3


# --- grids -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype"), [((35,), torch.float64), ((3, 5), torch.float64), ((2, 3, 4), torch.float32)]
)
def test_marginals_and_their_gradients_are_those_of_the_literal_form(shape, dtype, close):
    R, S, N = 2, 5, math.prod(shape)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(R, N, dtype=dtype, generator=generator).to(DEVICE).requires_grad_()
    inputs = (list(shape), torch.tensor(SEED), torch.tensor(0.6, dtype=torch.float64))
    drawn = grids.draw(logits.detach(), *inputs, S)
    grad = torch.randn(drawn[0].shape, dtype=dtype, generator=generator).to(DEVICE)
    ours = grids.draw_backward(grad, *drawn, logits.detach(), *inputs)
    noise = exponentials_of([N] * R, 1, S).view(R, N, S).to(dtype)
    weight = ((logits[..., None] - math.log(2) * noise) / 0.6).softmax(1).mT.unflatten(-1, shape)
    letters = "zyx"[-len(shape) :]
    wanted = torch.cat([torch.einsum(f"rs{letters}->rs{axis}", weight) for axis in reversed(letters)], -1)
    close(drawn[0], wanted.detach(), scale=SLACK)
    close(ours, torch.autograd.grad(wanted, logits, grad)[0], scale=10 * SLACK)


@pytest.mark.parametrize("options", [{"basis": "triangular"}, {"basis": "gaussian", "periodic": ["x"]}], ids=str)
def test_gradcheck_of_grids(options):
    logits = torch.randn(1, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = logits.to(DEVICE).requires_grad_()

    def samples(x):
        return grid.sampling_argmax(x, num_samples=2, generator=torch.Generator().manual_seed(0), **options)

    assert torch.autograd.gradcheck(samples, logits, fast_mode=True)


# --- which path --------------------------------------------------------------------------------------------


def test_more_columns_than_registers_go_to_plain_torch():
    one = torch.zeros(1, 1, device=DEVICE)
    assert points.takes(one, 17, 1, False)
    assert not points.takes(one, 17, 17, False)
    assert not points.takes(one.double(), 17, 1, False)


@pytest.mark.parametrize("estimator", ["relaxed", "straight_through"])
def test_a_mask_of_a_keypoint_s_own_and_words_of_torch_func(estimator):
    # "words" in the name: among the few that the quick run under the interpreter takes.
    logits, pos = torch.zeros(8, 2, device=DEVICE), torch.arange(8.0, device=DEVICE).view(8, 1)
    off = torch.zeros(8, 2, dtype=torch.bool, device=DEVICE)
    off[1:5, 0] = off[6:, 1] = True
    logits = logits.masked_fill(off, -INF).requires_grad_()
    ptr = torch.tensor([0, 5, 8], device=DEVICE)
    assert points.takes(logits, 1, 1, False)

    def draw(logits):
        seeded = torch.Generator().manual_seed(0)
        return sampling_argmax(logits, pos, 1e-3, ptr=ptr, num_samples=4, estimator=estimator, generator=seeded)

    samples = draw(logits)
    assert (samples[0, 0].abs() < 0.01).all()  # the only point that is left
    (slope,) = torch.autograd.grad(samples.square().sum(), logits)
    assert slope.isfinite().all()
    assert (slope[off] == 0).all()
    torch.testing.assert_close(torch.func.grad(lambda x: draw(x).square().sum())(logits.detach()), slope)
