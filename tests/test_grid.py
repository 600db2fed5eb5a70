import copy
import io
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

import pcsa
from pcsa import grid, losses
from pcsa._core import kernel as _kernel, marginals as _marginals

SHAPES = [(7,), (3, 4), (2, 3, 4)]
BASES = ["uniform", "triangular", "gaussian"]
VARIANCE = {"uniform": 1 / 12, "triangular": 1 / 6, "gaussian": 1.0}
# Ways to draw that are the paper's: (basis, noise_axes, basis_noise).
WAYS = [
    (basis, axes, noise)
    for basis in BASES
    for axes in ("joint", "marginal")
    for noise in ("relaxed", "mixture")
    if axes == "marginal" or basis == "gaussian"
]
quick = settings(deadline=None, max_examples=25, derandomize=True)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def maps(shape, batch_size=2, num_keypoints=2, seed=0, dtype=torch.float64, spread=1.5):
    size = (batch_size, num_keypoints, *shape)
    return spread * torch.randn(size, generator=seeded(seed), dtype=dtype)


def oracle(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name}, an independent soft-argmax, is not installed")


# --- the literal Eq. 12 ------------------------------------------------------------------------------------


def marginals_of(weight, shape):
    """[..., *shape] to a marginal per axis, x first, by a loop over the indices of the axis."""
    out, leading = [], weight.dim() - len(shape)
    for d in reversed(range(len(shape))):
        along = weight.movedim(leading + d, 0)
        out.append(torch.stack([along[a].reshape(*weight.shape[:leading], -1).sum(-1) for a in range(shape[d])], -1))
    return out


def literal_noise(size, basis, generator):
    """From textbook recipes that the package doesn't use: a triangular number is the sum of two uniform ones."""
    if basis == "gaussian":
        return torch.randn(size, dtype=torch.float64, generator=generator)
    u = torch.rand(size, dtype=torch.float64, generator=generator) - 0.5
    return u if basis == "uniform" else u + torch.rand(size, dtype=torch.float64, generator=generator) - 0.5


def literal(logits, basis, noise_axes, basis_noise, num_samples, temperature, generator):
    """Eq. 11-12 as written, with noise per cell or per index of every axis: [S, D] from one map."""
    shape = tuple(logits.shape)
    gumbel = -torch.empty(num_samples, *shape, dtype=torch.float64).exponential_(generator=generator).log()
    weight = ((logits.flatten().log_softmax(0) + gumbel.flatten(1)) / temperature).softmax(1)
    out = []
    for d, marginal in enumerate(marginals_of(weight.view(num_samples, *shape), shape)):
        n = marginal.shape[-1]
        index = torch.arange(n, dtype=torch.float64)
        if basis_noise == "mixture":
            out.append((marginal * index).sum(-1) + literal_noise(num_samples, basis, generator))
        elif noise_axes == "marginal":
            out.append((marginal * (index + literal_noise((num_samples, n), basis, generator))).sum(-1))
        else:
            cell = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"), -1).view(-1, len(shape))
            noise = literal_noise((num_samples, len(cell)), basis, generator)
            out.append((weight * (cell[:, len(shape) - 1 - d] + noise)).sum(-1))
    return torch.stack(out, -1)


def same_mean(a, b):
    error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    assert ((a.mean(0) - b.mean(0)).abs() <= 5 * error + 1e-9).all(), (a.mean(0), b.mean(0), error)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize(("basis", "noise_axes", "basis_noise"), WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_samples_have_the_moments_of_the_literal_equation(shape, basis, noise_axes, basis_noise, temperature):
    logits, S = maps(shape, 1, 1), 20_000
    ours = grid.sampling_argmax(
        logits,
        basis,
        num_samples=S,
        temperature=temperature,
        noise_axes=noise_axes,
        basis_noise=basis_noise,
        generator=seeded(1),
    )[0, 0]
    wanted = literal(logits[0, 0], basis, noise_axes, basis_noise, S, temperature, seeded(2))
    same_mean(ours, wanted)
    away, away_wanted = ours - wanted.mean(0), wanted - wanted.mean(0)
    same_mean(away[:, :, None] * away[:, None], away_wanted[:, :, None] * away_wanted[:, None])
    # The fourth moment tells a uniform basis from a Gaussian one of the same variance.
    same_mean(away**4, away_wanted**4)


def replayed(logits, basis, num_samples, temperature, seeds):
    """Plain autograd on the very noise that is drawn, Eq. 12 term by term."""
    B, K, *shape = logits.shape
    noise = _kernel._Noise(seeds[0], torch.device("cpu"))
    flat = logits.reshape(B * K, -1)
    gumbel = torch.empty(B * K, num_samples, flat.shape[1], dtype=logits.dtype)
    for of_maps, of_samples in _marginals._tiles(flat.detach(), num_samples):
        part = gumbel[of_maps, of_samples]
        part.copy_(-math.log(2) * noise.log2_exponential((1, *part.shape), part.dtype)[0])
    weight = ((flat[:, None] + gumbel) / temperature).softmax(-1)
    drawn = marginals_of(weight.view(B, K, num_samples, *shape), shape)
    sizes = [m.shape[-1] for m in drawn]
    basis_noise = _marginals.basis_noise(torch.cat(drawn, -1).detach(), seeds[1], basis).split(sizes, -1)
    return torch.stack(
        [(m * (torch.arange(m.shape[-1], dtype=m.dtype) + e)).sum(-1) for m, e in zip(drawn, basis_noise, strict=True)],
        -1,
    )


@pytest.mark.parametrize("tile", [None, 40], ids=["one tile", "small tiles"])
@pytest.mark.parametrize("basis", ["uniform", "triangular"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_noise_gives_the_same_samples_and_gradients(shape, basis, tile, monkeypatch, close):
    if tile is not None:
        monkeypatch.setattr(_kernel, "_TILE_CPU", tile)
    logits = maps(shape, 3, 2).requires_grad_()
    generator = seeded()
    seeds = [torch.randint(2**63 - 1, (), generator=generator) for _ in range(2)]
    ours = grid.sampling_argmax(logits, basis, num_samples=11, temperature=0.7, generator=seeded())
    wanted = replayed(logits, basis, 11, 0.7, seeds)
    close(ours, wanted)
    direction = torch.randn(ours.shape, dtype=ours.dtype, generator=seeded(1))
    close(*(torch.autograd.grad(x, logits, direction)[0] for x in (ours, wanted)), scale=10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_grid_handed_over_as_a_point_set_gives_the_same_numbers(shape, close):
    logits = maps(shape)
    spacing = [0.5, 2.0, 3.0][: len(shape)]
    options = {"num_samples": 9, "temperature": 0.6}
    ours = grid.sampling_argmax(logits, "gaussian", spacing=spacing, generator=seeded(), **options)
    pos = grid.cells(shape, spacing=spacing, dtype=torch.float64).expand(2, -1, -1)
    sigma = torch.tensor(spacing, dtype=torch.float64).expand_as(pos)
    close(ours, pcsa.sampling_argmax(grid.flatten(logits), pos, sigma, generator=seeded(), **options))
    close(
        grid.soft_argmax(logits, spacing=spacing, temperature=0.6),
        pcsa.soft_argmax(grid.flatten(logits), pos, temperature=0.6),
    )


def test_on_one_axis_noise_per_cell_is_noise_per_axis():
    logits = maps((6,), 1, 1)
    joint, marginal = (
        grid.sampling_argmax(logits, "gaussian", num_samples=40_000, noise_axes=axes, generator=seeded(seed))[0, 0]
        for seed, axes in enumerate(("joint", "marginal"))
    )
    assert stats.ks_2samp(joint[:, 0].numpy(), marginal[:, 0].numpy()).pvalue > 1e-3


def test_noise_per_cell_and_noise_per_axis_differ_on_two_axes():
    # The mean square of the noise on a flat map is E[sum of p^2], respectively E[sum of the marginals^2].
    S = 4000
    flat = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    gumbel = -torch.empty(S, 256, dtype=torch.float64).exponential_(generator=seeded(3)).log()
    weight = gumbel.softmax(1)
    per_cell = weight.square().sum(1).mean().sqrt()
    per_axis = weight.view(S, 16, 16).sum(1).square().sum(1).mean().sqrt()
    assert per_cell.item() == pytest.approx(0.384, abs=0.01)
    assert per_axis.item() == pytest.approx(0.444, abs=0.01)
    # The weights are the same for the same seed, so what one more draw of Eq. 1 leaves is the noise.
    mean = [m @ torch.arange(16, dtype=m.dtype) for m in grid._marginals(flat, S, 1.0, seeded(4))]
    for basis in BASES:
        drawn = grid.sampling_argmax(flat, basis, num_samples=S, noise_axes="marginal", generator=seeded(4))
        noise = drawn - torch.stack(mean, -1)
        wanted = VARIANCE[basis] ** 0.5 * per_axis
        assert noise.square().mean().sqrt().item() == pytest.approx(wanted.item(), rel=0.04), basis


# --- densities ---------------------------------------------------------------------------------------------

DENSITIES = {"uniform": stats.uniform(-0.5, 1), "triangular": stats.triang(0.5, -1, 2), "gaussian": stats.norm()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("basis", BASES)
def test_noise_has_its_density(basis, dtype):
    noise = _marginals.basis_noise(torch.empty(50_000, dtype=dtype), torch.tensor(5), basis)
    assert noise.dtype == dtype
    assert stats.kstest(noise.double().numpy(), DENSITIES[basis].cdf).pvalue > 1e-3
    assert DENSITIES[basis].var() == pytest.approx(VARIANCE[basis])
    low, high = DENSITIES[basis].support()
    assert low <= noise.min()
    assert noise.max() <= high


@pytest.mark.parametrize(("basis", "noise_axes", "basis_noise"), WAYS)
def test_at_a_low_temperature_the_density_is_the_mixture(basis, noise_axes, basis_noise):
    # Eq. 6: the sum of pi_i times the density around cell i; here on one axis of an image, other rows included.
    prob = torch.tensor([[0.1, 0.0, 0.2], [0.3, 0.0, 0.4]], dtype=torch.float64)
    logits = prob.clamp_min(1e-30).log()[None, None]
    drawn = grid.sampling_argmax(
        logits,
        basis,
        num_samples=20_000,
        temperature=1e-4,
        noise_axes=noise_axes,
        basis_noise=basis_noise,
        generator=seeded(8),
    )[0, 0]
    for d, weights in enumerate((prob.sum(0), prob.sum(1))):

        def cdf(x, weights=weights):
            return sum(w * DENSITIES[basis].cdf(x - i) for i, w in enumerate(weights.tolist()))

        assert stats.kstest(drawn[:, d].numpy(), cdf).pvalue > 1e-3


# --- gradients, types, robustness --------------------------------------------------------------------------


@pytest.mark.parametrize("periodic", ["", "x"])
@pytest.mark.parametrize(("basis", "noise_axes", "basis_noise"), WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradcheck(shape, basis, noise_axes, basis_noise, periodic, monkeypatch):
    monkeypatch.setattr(_kernel, "_TILE_CPU", 30)
    logits = maps(shape, 1, 2).requires_grad_()

    def draw(logits):
        return grid.sampling_argmax(
            logits,
            basis,
            num_samples=3,
            temperature=0.8,
            noise_axes=noise_axes,
            basis_noise=basis_noise,
            periodic=periodic,
            generator=seeded(1),
            frame="normalized",
        )

    assert torch.autograd.gradcheck(draw, logits)


@pytest.mark.parametrize("periodic", ["", "x"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradcheck_of_expectations(shape, periodic):
    logits = maps(shape).requires_grad_()
    for function in (
        lambda x: grid.soft_argmax(x, temperature=0.8, periodic=periodic),
        lambda x: grid.kernel_soft_argmax(x, 1.5, temperature=0.8, periodic=periodic),
        lambda x: grid.kernel_soft_argmax(x.abs(), 1.5, on="scores", temperature=0.8, periodic=periodic),
    ):
        assert torch.autograd.gradcheck(function, logits)


def test_samples_are_differentiable_once():
    logits = maps((3, 4)).requires_grad_()
    (first,) = torch.autograd.grad(grid.sampling_argmax(logits).square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(first.sum(), logits)


def everything(logits, **options):
    """All results on one map: name and tensor."""
    for basis in BASES:
        for form in ("paper", "released"):
            yield f"{basis} {form}", grid.sampling_argmax(logits, basis, form=form, generator=seeded(), **options)
    for periodic in ("", "xy"):
        for axes in ("joint", "marginal"):
            way = {"noise_axes": axes, "periodic": periodic, "generator": seeded(), **options}
            yield f"gaussian {axes} {periodic}", grid.sampling_argmax(logits, "gaussian", **way)
        yield f"soft {periodic}", grid.soft_argmax(logits, periodic=periodic, **options)
        yield f"kernel {periodic}", grid.kernel_soft_argmax(logits, 1.0, periodic=periodic, **options)


def test_types(close):
    logits = maps((3, 4), dtype=torch.float32)
    for (name, single), (_, double) in zip(everything(logits), everything(logits.double()), strict=True):
        assert (single.dtype, double.dtype) == (torch.float32, torch.float64), name
    half = logits.bfloat16()
    for (name, of_half), (_, single) in zip(everything(half), everything(half.float()), strict=True):
        assert of_half.dtype == torch.float32, name
        close(of_half, single)


def test_strides_change_nothing():
    logits = maps((3, 4))
    apart = logits.to(memory_format=torch.channels_last)
    assert not apart.is_contiguous()
    for (name, plain), (_, strided) in zip(everything(logits), everything(apart), strict=True):
        torch.testing.assert_close(strided, plain, msg=name)
    leaves = [x.clone().requires_grad_() for x in (logits, apart)]
    assert leaves[1].stride() == apart.stride()
    grads = [torch.autograd.grad(sum(x.square().sum() for _, x in everything(leaf)), leaf)[0] for leaf in leaves]
    torch.testing.assert_close(*grads)


def test_autocast_changes_nothing():
    logits = maps((3, 4), dtype=torch.float32)
    grads = []
    for region in (False, True):
        leaf = logits.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=region):
            sum(x.square().sum() for _, x in everything(leaf)).backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", ["flat", "one-hot", "huge", "tiny differences"])
def test_extreme_maps_give_finite_numbers(name, temperature):
    logits = torch.zeros(1, 2, 4, 5)
    if name == "one-hot":
        logits[..., 1, 3] = 1e4
    if name == "huge":
        logits = 1e30 * torch.randn(logits.shape, generator=seeded())
    if name == "tiny differences":
        logits = 1e8 + torch.randn(logits.shape, generator=seeded())
    logits.requires_grad_()
    for way, out in everything(logits, temperature=temperature):
        (grad,) = torch.autograd.grad(out.square().sum(), logits)
        assert out.isfinite().all(), way
        assert grad.isfinite().all(), way


def test_a_one_hot_map_is_where_its_peak_is():
    logits = torch.full((1, 1, 2, 3, 4), -1e4)
    logits[0, 0, 1, 2, 3] = 0.0
    # Arrays are indexed z, y, x; positions are x, y, z.
    peak = torch.tensor([3.0, 2.0, 1.0])
    assert torch.equal(grid.soft_argmax(logits)[0, 0], peak)
    assert torch.equal(grid.kernel_soft_argmax(logits, 1.0)[0, 0], peak)
    for basis in ("uniform", "triangular"):
        away = grid.sampling_argmax(logits, basis, num_samples=500)[0, 0] - peak
        assert away.abs().min() > 0
        assert away.abs().max() <= (0.5 if basis == "uniform" else 1.0)


def test_seeds_and_the_callers_generator():
    logits = maps((3, 4)).requires_grad_()
    generator = seeded()
    first, second = (grid.sampling_argmax(logits, generator=generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, grid.sampling_argmax(logits, generator=seeded()))
    state = generator.get_state()
    second.sum().backward()
    assert torch.equal(state, generator.get_state())
    # Every sample, map and axis has noise of its own.
    flat = grid.sampling_argmax(torch.zeros(2, 2, 3, 3), num_samples=4).flatten()
    assert len(flat.unique()) == len(flat)


@pytest.mark.parametrize("basis", ["triangular", "gaussian"])
def test_compiles_in_one_graph(basis):
    logits = maps((3, 4)).requires_grad_()

    def loss(logits):
        return grid.sampling_argmax(logits, basis, num_samples=3, temperature=0.5, frame="normalized").square().sum()

    grads = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)
        grads.append(torch.autograd.grad(function(logits), logits)[0])
    torch.testing.assert_close(*grads)


def test_the_operators_keep_their_promises_to_the_compiler():
    seed, tau = torch.tensor(3), torch.tensor(0.5, dtype=torch.float64)
    logits = torch.randn(4, 6, dtype=torch.float64, generator=seeded()).requires_grad_()
    torch.library.opcheck(_marginals.draw_marginals, (logits, [2, 3], seed, tau, 5))
    torch.library.opcheck(_marginals.basis_noise, (logits.detach(), seed, "triangular"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("basis", BASES)
def test_cuda(basis):
    logits = maps((6, 5), 1, 1)
    drawn = [
        grid.sampling_argmax(logits.to(device), basis, num_samples=20_000, noise_axes="marginal")[0, 0].cpu()
        for device in ("cpu", "cuda")
    ]
    same_mean(*drawn)
    same_mean(*(x.square() for x in drawn))
    leaf = logits.cuda().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: grid.sampling_argmax(x, basis, generator=torch.Generator("cuda").manual_seed(0)), leaf
    )


# --- frames ------------------------------------------------------------------------------------------------

FRAMES = ["index", "normalized", "normalized_corners", "pixels", "physical", "released"]


def frame_options(frame, num_axes):
    return {"frame": frame, "spacing": [0.5, 4.0, 3.0][:num_axes] if frame in ("pixels", "physical") else None}


@given(
    shape=st.lists(st.integers(2, 70), min_size=1, max_size=3),
    frame=st.sampled_from(FRAMES),
    where=st.lists(st.floats(-1, 2), min_size=3, max_size=3),
)
@quick
def test_frames_go_there_and_back(shape, frame, where):
    sizes = torch.tensor(shape[::-1], dtype=torch.float64)
    index = torch.tensor(where[: len(shape)], dtype=torch.float64) * sizes
    options = frame_options(frame, len(shape))
    there = grid.from_index(index, shape, **options)
    torch.testing.assert_close(grid.to_index(there, shape, **options), index, rtol=1e-12, atol=1e-12)
    # And in the other direction.
    back = grid.to_index(index, shape, **options)
    torch.testing.assert_close(grid.from_index(back, shape, **options), index, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_come_in_the_frame_asked_for(shape, frame, close):
    logits, options = maps(shape), frame_options(frame, len(shape))
    close(grid.soft_argmax(logits, **options), grid.from_index(grid.soft_argmax(logits), shape, **options))
    close(
        grid.kernel_soft_argmax(logits, 2.0, **options),
        grid.from_index(grid.kernel_soft_argmax(logits, 2.0), shape, **options),
    )
    for basis in BASES:
        drawn = [grid.sampling_argmax(logits, basis, num_samples=3, generator=seeded(), **o) for o in ({}, options)]
        close(drawn[1], grid.from_index(drawn[0], shape, **options))


def test_values_of_the_frames():
    # Four rows of eight cells; the first and the last cell, by the definitions.
    corners = torch.tensor([[0.0, 0.0], [7.0, 3.0]])
    for frame, spacing, wanted in (
        ("index", None, [[0, 0], [7, 3]]),
        ("normalized", None, [[-7 / 8, -3 / 4], [7 / 8, 3 / 4]]),
        ("normalized_corners", None, [[-1, -1], [1, 1]]),
        ("pixels", 4.0, [[1.5, 1.5], [29.5, 13.5]]),
        ("pixels", 1.0, [[0, 0], [7, 3]]),
        ("physical", (0.5, 2.0), [[0, 0], [3.5, 6]]),
        ("released", None, [[-0.5, -0.5], [3 / 8, 1 / 4]]),
    ):
        found = grid.from_index(corners, (4, 8), frame=frame, spacing=spacing)
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float32), rtol=0, atol=0)
    # Outer edges are -1 and 1 in one convention, half a cell beyond them in the other.
    edges = torch.tensor([[-0.5, -0.5], [7.5, 3.5]])
    assert grid.from_index(edges, (4, 8), frame="normalized").tolist() == [[-1, -1], [1, 1]]
    assert grid.from_index(edges, (4, 8), frame="normalized_corners")[1].tolist() == pytest.approx([8 / 7, 4 / 3])


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)], ids=str)
def test_normalized_frames_are_those_of_grid_sample(shape):
    D = len(shape)
    eye = torch.eye(D, D + 1)[None]
    for frame, align in (("normalized", False), ("normalized_corners", True)):
        theirs = torch.nn.functional.affine_grid(eye, [1, 1, *shape], align_corners=align).view(-1, D)
        torch.testing.assert_close(grid.cells(shape, frame=frame), theirs)
        # Reading a map at a position given in that frame finds the cell.
        values = torch.arange(math.prod(shape), dtype=torch.float32).view(1, 1, *shape)
        at = grid.from_index(grid.cells(shape), shape, frame=frame).view(1, *shape, D)
        read = torch.nn.functional.grid_sample(values, at, align_corners=align)
        torch.testing.assert_close(read, values, atol=1e-4, rtol=1e-4)


def test_a_cell_is_the_mean_of_its_pixels():
    # Pixel coordinates of a 12 x 20 image, averaged over the 4 x 4 pixels of each cell.
    pixel = grid.cells((12, 20)).view(1, 12, 20, 2).permute(0, 3, 1, 2)
    mean = torch.nn.functional.avg_pool2d(pixel, 4).flatten(2)[0].T
    torch.testing.assert_close(mean, grid.cells((3, 5), frame="pixels", spacing=4.0))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cells_are_in_the_order_of_flattened_logits(shape):
    pos = grid.cells(shape)
    assert pos.shape == (math.prod(shape), len(shape))
    for n, cell in enumerate(np.ndindex(shape)):
        assert tuple(int(x) for x in pos[n]) == cell[::-1]
    logits = maps(shape)
    flat = grid.flatten(logits)
    for n, cell in enumerate(np.ndindex(shape)):
        assert torch.equal(flat[:, n], logits[(slice(None), slice(None), *cell)])
    assert flat.data_ptr() == logits.data_ptr()


@pytest.mark.parametrize("shape", [(5,), (3, 4), (3, 2, 4)], ids=str)
def test_the_bandwidth_of_an_isotropic_grid_is_its_spacing(shape):
    pos = grid.cells(shape, spacing=0.25)
    torch.testing.assert_close(pcsa.knn_bandwidth(pos), torch.full((len(pos),), 0.25))


# --- outside oracles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_soft_argmax_is_that_of_dsntnn(shape, close):
    dsntnn = oracle("dsntnn")
    logits = maps(shape)
    prob = dsntnn.flat_softmax(logits)
    close(grid.soft_argmax(logits, frame="normalized"), dsntnn.dsnt(prob))
    close(grid.soft_argmax(logits), dsntnn.dsnt(prob, normalized_coordinates=False))
    index = grid.soft_argmax(logits)
    close(grid.from_index(index, shape, frame="normalized"), dsntnn.pixel_to_normalized_coordinates(index, shape))


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)], ids=str)
def test_regularizers_are_those_of_dsntnn(shape, close):
    dsntnn = oracle("dsntnn")
    logits = maps(shape)
    prob = dsntnn.flat_softmax(logits)
    flat, pos = grid.flatten(logits), grid.cells(shape, dtype=torch.float64).expand(2, -1, -1)
    target = torch.rand(2, 2, len(shape), dtype=torch.float64, generator=seeded(1)) - 0.5
    for ours, theirs in (
        (
            losses.variance_regularization(flat, pos, target_variance=0.81, reduction="none"),
            # Its variance takes the mean of the whole batch for one map's where the batch is not 1.
            torch.stack([dsntnn.variance_reg_losses(p[None, None], 0.9)[0, 0] for p in prob.flatten(0, 1)]).view(2, 2),
        ),
        (
            losses.js_regularization(
                flat,
                pos,
                0.9,
                grid.to_index(target, shape, frame="normalized"),
                center="target",
                reduction="none",
            ),
            dsntnn.js_reg_losses(prob, target, 0.9),
        ),
        (
            losses.js_regularization(flat, pos, 0.9, reduction="none"),
            dsntnn.js_reg_losses(prob, dsntnn.dsnt(prob), 0.9),
        ),
    ):
        close(ours, theirs)


def test_soft_argmax_is_that_of_kornia(close):
    oracle("kornia")
    from kornia.geometry.subpix import spatial_soft_argmax2d

    logits = maps((5, 6))
    # Its normalized frame has the outer centers at -1 and 1.
    for temperature in (1.0, 0.4):
        for frame, normalized in (("index", False), ("normalized_corners", True)):
            theirs = spatial_soft_argmax2d(logits / temperature, normalized_coordinates=normalized)
            close(grid.soft_argmax(logits, frame=frame, temperature=temperature), theirs)


def test_losses_of_point_sets_serve_grids():
    # Two cells, 2 mm apart, as likely as each other; the target is the first one.
    logits = torch.zeros(1, 1, 2, 1, dtype=torch.float64)
    flat, pos = grid.flatten(logits), grid.cells((2, 1), spacing=2.0, dtype=torch.float64).expand(1, -1, -1)
    target = torch.zeros(1, 1, 2, dtype=torch.float64)
    assert losses.expectation_error(flat, pos, target).item() == pytest.approx(1.0)
    assert losses.discrete_expected_error(flat, pos, target).item() == pytest.approx(1.0)
    # Squared: (0 + 4) / 2 and twice sigma^2.
    error = losses.mixture_expected_error(flat, pos, 2.0, target, norm="squared")
    assert error.item() == pytest.approx(2 + 2 * 4)
    density = 0.5 * sum(stats.norm(0, 2).pdf(0) * stats.norm(y, 2).pdf(0) for y in (0, 2))
    assert losses.mixture_nll(flat, pos, 2.0, target).item() == pytest.approx(-math.log(density))
    drawn = grid.sampling_argmax(logits, "gaussian", num_samples=200_000, temperature=1e-3, spacing=2.0)
    assert losses.sample_error(drawn, target, norm="squared").item() == pytest.approx(error.item(), rel=0.02)


# --- rings and windows -------------------------------------------------------------------------------------


def test_a_ring_has_no_seam():
    # Two equal neighbors across the seam of eight cells: halfway between them, not in the middle of the array.
    logits = torch.full((1, 1, 8), -1e3)
    logits[..., [0, 7]] = 0.0
    assert grid.soft_argmax(logits).item() == pytest.approx(3.5)
    assert grid.soft_argmax(logits, periodic="x").item() == pytest.approx(-0.5, abs=1e-5)
    ring = grid.soft_argmax(logits, periodic="x", frame="normalized").item()
    assert abs(ring) == pytest.approx(1.0, abs=1e-5)


def test_the_mean_on_a_ring_is_that_of_scipy():
    prob = maps((12,), 1, 1).flatten().softmax(0)
    count = (prob * 1000).round().long()
    values = torch.repeat_interleave(torch.arange(12), count)
    ours = grid.soft_argmax(count.double().log().clamp_min(-1e3)[None, None], periodic="x").item()
    assert ours == pytest.approx(stats.circmean(values.numpy(), high=11.5, low=-0.5))


@given(shift=st.integers(0, 11), seed=st.integers(0, 99))
@quick
def test_turning_a_ring_turns_the_mean(shift, seed):
    logits = maps((5, 12), 1, 3, seed=seed)
    here = grid.soft_argmax(logits, periodic="x")
    there = grid.soft_argmax(logits.roll(shift, -1), periodic=["x"])
    away = (there[..., 0] - here[..., 0] - shift) % 12
    assert torch.minimum(away, 12 - away).max() < 1e-8
    # The other axis is as it was.
    torch.testing.assert_close(here[..., 1], grid.soft_argmax(logits)[..., 1])
    torch.testing.assert_close(there[..., 1], here[..., 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_map_without_a_direction_gets_no_gradient(dtype):
    for n in (1, 2, 5, 360):
        logits = torch.zeros(1, 1, n, dtype=dtype, requires_grad=True)
        where = grid.soft_argmax(logits, periodic="x")
        where.sum().backward()
        assert where.item() == 0
        assert logits.grad.abs().max() == 0


@pytest.mark.parametrize(("basis", "noise_axes", "basis_noise"), WAYS)
def test_samples_on_a_ring(basis, noise_axes, basis_noise):
    way = {"noise_axes": noise_axes, "basis_noise": basis_noise, "num_samples": 20_000, "temperature": 1e-4}
    # A peak at the seam: samples on both sides of it, none outside of the ring, the density that of the basis.
    logits = torch.full((1, 1, 3, 8), -1e3, dtype=torch.float64)
    logits[..., 1, 0] = 0.0
    drawn = grid.sampling_argmax(logits, basis, periodic="x", generator=seeded(), **way)[0, 0]
    assert drawn[:, 0].min() >= -0.5
    assert drawn[:, 0].max() < 7.5
    away = (drawn[:, 0] + 4) % 8 - 4
    assert stats.kstest(away.numpy(), DENSITIES[basis].cdf).pvalue > 1e-3
    assert stats.kstest(drawn[:, 1].numpy() - 1, DENSITIES[basis].cdf).pvalue > 1e-3
    assert basis == "uniform" or (drawn[:, 0] > 7).any()


@pytest.mark.parametrize(("basis", "noise_axes", "basis_noise"), WAYS)
def test_far_from_the_seam_a_ring_is_a_line(basis, noise_axes, basis_noise):
    # The circular mean of neighbors differs from the mean in the third order of the angle between them.
    logits = torch.full((1, 1, 2, 1000), -1e3, dtype=torch.float64)
    logits[..., 500:503] = maps((2, 3), 1, 1)
    way = {"noise_axes": noise_axes, "basis_noise": basis_noise, "num_samples": 2000}
    line, ring = (grid.sampling_argmax(logits, basis, periodic=p, generator=seeded(2), **way)[0, 0] for p in ("", "x"))
    same_mean(line, ring)
    same_mean((line - 500).square(), (ring - 500).square())
    if noise_axes == "marginal":
        torch.testing.assert_close(line, ring, rtol=0, atol=1e-4)


@pytest.mark.parametrize("on", ["probabilities", "scores"])
def test_the_window_of_kernel_soft_argmax(on, close):
    logits = maps((4, 5)).abs()
    found = grid.kernel_soft_argmax(logits, 1.5, on=on, temperature=0.5)
    for b in range(2):
        for k in range(2):
            score = logits[b, k].numpy()
            py, px = np.unravel_index(score.argmax(), score.shape)
            y, x = np.mgrid[:4, :5]
            window = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.5**2))
            weight = np.exp(window * score / 0.5) if on == "scores" else window * np.exp(score / 0.5)
            weight /= weight.sum()
            close(found[b, k], torch.tensor([(weight * x).sum(), (weight * y).sum()]))


def test_kernel_soft_argmax_keeps_to_its_peak():
    logits = maps((4, 5))
    torch.testing.assert_close(grid.kernel_soft_argmax(logits, 1e6), grid.soft_argmax(logits), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grid.kernel_soft_argmax(logits - 7.0, 1.5), grid.kernel_soft_argmax(logits, 1.5))
    narrow = grid.kernel_soft_argmax(logits, 0.05)
    peak = logits.flatten(2).argmax(-1)
    torch.testing.assert_close(narrow, torch.stack([peak % 5, peak // 5], -1).double())
    # Across the seam of a ring the window goes on.
    ring = torch.full((1, 1, 8), -1e3)
    ring[..., 0], ring[..., 7] = 1.0, 1.0
    found = grid.kernel_soft_argmax(ring, 1.0, periodic="x").item()
    assert -0.5 < found < -0.1
    assert grid.kernel_soft_argmax(ring, 1.0).item() == pytest.approx(0.0, abs=1e-5)


# --- what the authors released -----------------------------------------------------------------------------


def test_released_weights_are_drawn_from_the_map_to_the_power_of_the_temperature():
    # pi = (3/4, 1/4) and tau = 2: the first cell wins in 9 of 10 samples, where Eq. 11 has it win in 3 of 4.
    logits = torch.tensor([[[[math.log(3.0), 0.0]]]], dtype=torch.float64)
    S = 40_000
    ours = {"num_samples": S, "temperature": 2.0}
    drawn = grid._marginals(logits * 2.0, S, 2.0, seeded())[0]
    assert (drawn[..., 0] > 0.5).double().mean().item() == pytest.approx(0.9, abs=0.01)
    paper = grid._marginals(logits, S, 2.0, seeded())[0]
    assert (paper[..., 0] > 0.5).double().mean().item() == pytest.approx(0.75, abs=0.015)
    # The uniform basis shows it from outside: whoever wins, the sample lies nearer to it, up to the jitter.
    released = grid.sampling_argmax(logits, "uniform", form="released", generator=seeded(1), **ours)[0, 0, :, 0]
    u = torch.rand(S, 2, dtype=torch.float64, generator=seeded(2))
    weight = (logits.flatten() - (-u.log()).log() / 2).softmax(1)
    jitter = torch.rand(S, 2, dtype=torch.float64, generator=seeded(3)) - 0.5
    literal = (weight * (torch.arange(2) + jitter)).sum(1)
    assert stats.ks_2samp(released.numpy(), literal.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("num_axes", [2, 3])
def test_released_values_by_hand(num_axes):
    marginal = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    noise = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64)
    # Jittered positions 0.5, 0.75, 2.
    uniform = grid._released(marginal, noise, "uniform", num_axes)
    assert uniform.item() == pytest.approx(0.25 * 0.5 + 0.5 * 0.75 + 0.25 * 2)
    # Marginals read there: (1/4 + 1/2) / 2 = 3/8; 1/4 + 3/4 * 1/4 = 7/16; 1/4. Together 17/16.
    # 3/8 * 1/2 + 7/16 * 3/4 + 1/4 * 2 = 12/64 + 21/64 + 32/64 = 65/64, over 17/16: 65/68.
    triangular = grid._released(marginal, noise, "triangular", num_axes)
    assert triangular.item() == pytest.approx(65 / 68)
    gaussian = grid._released(marginal, noise, "gaussian", num_axes)
    if num_axes == 3:
        assert gaussian.item() == pytest.approx(uniform.item())
    else:
        # Factors e^(-1/2), e^(-1/8), 1.
        a, b, c = 0.25 * math.exp(-0.5), 0.5 * math.exp(-0.125), 0.25
        assert gaussian.item() == pytest.approx((0.5 * a + 0.75 * b + 2 * c) / (a + b + c))


def test_released_interpolation_ends_at_zero():
    # Beyond the ends there is nothing: at -1/2 half of the first cell, at 2 1/2 half of the last one.
    marginal = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    noise = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
    # Read: 1/4, 1/4, 1/8, together 5/8; -1/2 * 1/4 + 1 * 1/4 + 5/2 * 1/8 = 7/16.
    assert grid._released(marginal, noise, "triangular", 2).item() == pytest.approx((7 / 16) / (5 / 8))
    # All the way out: positions -1, 1, 3 read 0, 1/4, 0.
    noise = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    assert grid._released(marginal, noise, "triangular", 2).item() == pytest.approx(1.0)


def test_released_gradient_by_hand():
    # Positions 0.5, 0.75, 2 and their sum 1 under (1/4, 1/2, 1/4): below, below, not below.
    marginal = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64, requires_grad=True)
    noise = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64)
    for num_axes, wanted in ((2, [-2.0, -2.0, 2.0]), (3, [0.5, 0.75, 2.0])):
        (grad,) = torch.autograd.grad(grid._released(marginal, noise, "uniform", num_axes), marginal)
        assert grad.tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("basis", BASES)
def test_gradcheck_released(basis):
    # On three axes the gradient is the true one.
    def draw(logits):
        return grid.sampling_argmax(logits, basis, num_samples=2, form="released", generator=seeded(), frame="released")

    assert torch.autograd.gradcheck(draw, maps((2, 3, 3), 1, 1).requires_grad_())


# --- modules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"basis_noise": "mixture", "frame": "pixels", "spacing": (4.0, 2.0)},
        {"noise_axes": "marginal", "periodic": iter("x")},  # looked at more than once
        {"form": "released", "frame": "released"},
    ],
)
def test_modules_are_thin(options):
    logits = maps((3, 4))
    module = grid.SamplingArgmax("gaussian", 3, 0.5, **options)
    options = {**options, "periodic": module.periodic}
    same = grid.sampling_argmax(logits, "gaussian", num_samples=3, temperature=0.5, generator=seeded(), **options)
    assert torch.equal(module(logits, generator=seeded()), same)
    frame = {name: options[name] for name in ("frame", "spacing", "periodic") if name in options}
    # Testing reads the map out as it is: at temperature 1.
    assert torch.equal(module.eval()(logits), grid.soft_argmax(logits, **frame))
    soft = grid.SoftArgmax(0.5, **frame)
    assert torch.equal(soft(logits), grid.soft_argmax(logits, temperature=0.5, **frame))
    assert soft(logits / 0, validate=False).isnan().any()
    assert list(module.parameters()) == []


def test_modules_say_what_they_are():
    assert repr(grid.SoftArgmax(0.5, frame="pixels", spacing=4.0)) == (
        "SoftArgmax(temperature=0.5, frame='pixels', spacing=4.0)"
    )
    assert repr(grid.SamplingArgmax(num_samples=3, periodic="x")) == (
        "SamplingArgmax(basis='triangular', num_samples=3, temperature=1, basis_noise='relaxed', form='paper', "
        "periodic=('x',))"
    )


def test_a_module_follows_its_schedule_and_a_checkpoint_keeps_it():
    def build():
        schedule = pcsa.TemperatureSchedule("linear", start=2.0, end=1.0, num_steps=4)
        return grid.SamplingArgmax(num_samples=2, temperature=schedule)

    module, logits = build(), maps((3, 4))
    for _ in range(3):
        module.temperature.step()
    wanted = grid.sampling_argmax(logits, num_samples=2, temperature=1.25, generator=seeded())
    assert torch.equal(module(logits, generator=seeded()), wanted)
    file = io.BytesIO()
    torch.save(torch.nn.Sequential(module).state_dict(), file)
    file.seek(0)
    restored = torch.nn.Sequential(build())
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert restored[0].temperature.value == 1.25
    copied = copy.deepcopy(module)
    copied.temperature.step()
    assert (copied.temperature.value, module.temperature.value) == (1.0, 1.25)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"basis": "box"}, r"`basis` \(='box'\) must be one of"),
        ({"num_samples": 0}, r"`num_samples` \(=0\) must be at least 1"),
        ({"temperature": 0.0}, r"`start` \(=0.0\) must be a positive"),
        ({"noise_axes": "joint"}, r"`noise_axes` \(='joint'\) must be 'marginal'"),
        ({"basis_noise": "none"}, r"`basis_noise` \(='none'\) must be one of"),
        ({"form": "official"}, r"`form` \(='official'\) must be one of"),
        ({"frame": "voxels"}, r"`frame` \(='voxels'\) must be one of"),
        ({"frame": "pixels"}, r"`spacing` \(=None\) must be given"),
        ({"spacing": (1.0, 0.0)}, r"`spacing` \(=\(1.0, 0.0\)\) must be positive"),
        ({"periodic": "w"}, r"`periodic` \(=\('w',\)\) must name axes out of x, y, z"),
    ],
)
def test_modules_refuse_bad_input_when_they_are_made(options, match):
    with pytest.raises(ValueError, match=match):
        grid.SamplingArgmax(**options)
    frame = {name: value for name, value in options.items() if name in ("frame", "spacing", "periodic")}
    if frame:
        with pytest.raises(ValueError, match=match):
            grid.SoftArgmax(**frame)


# --- bad input ---------------------------------------------------------------------------------------------

GOOD = torch.zeros(1, 1, 2, 3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda f: f([[1.0]]), r"`logits` \(list\) must be a tensor"),
        (lambda f: f(torch.zeros(2, 3)), r"`logits` \[2, 3\] must be \[B, K, x\]"),
        (lambda f: f(torch.zeros(1, 1, 1, 1, 1, 1)), r"`logits` .* one, two or three spatial axes"),
        (lambda f: f(GOOD.long()), r"`logits` \(torch.int64\) must be floating point"),
        (lambda f: f(torch.zeros(1, 1, 0, 3)), r"`logits` \[1, 1, 0, 3\] must have no axis of size 0"),
        (lambda f: f(torch.zeros(0, 1, 2, 3)), r"`logits` \[0, 1, 2, 3\] must have no axis of size 0"),
        (lambda f: f(GOOD / 0), "`logits` must be finite"),
        (lambda f: f(GOOD + math.inf), "`logits` must be finite"),
        (lambda f: f(GOOD, temperature=0.0), r"`temperature` \(=0.0\) must be positive"),
        (lambda f: f(GOOD, frame="voxels"), r"`frame` \(='voxels'\) must be one of 'index', 'normalized'"),
        (lambda f: f(GOOD, spacing=0.0), r"`spacing` \(=0.0\) must be positive and finite"),
        (lambda f: f(GOOD, spacing=(1.0, -2.0)), r"`spacing` \(=\(1.0, -2.0\)\) must be positive"),
        (lambda f: f(GOOD, spacing=math.nan), r"`spacing` \(=nan\) must be positive"),
        (lambda f: f(GOOD, spacing=(1.0, 1.0, 1.0)), r"`spacing` .* one for each of 2 axes, x first"),
        (lambda f: f(GOOD, frame="pixels"), r"`spacing` \(=None\) must be given for `frame` 'pixels'"),
        (lambda f: f(GOOD, frame="normalized", spacing=2.0), r"`spacing` \(=2.0\) .* `frame` is 'normalized'"),
        (lambda f: f(GOOD[..., :1], frame="normalized_corners"), r"`shape` \(=\(2, 1\)\) of at least 2 cells"),
        (lambda f: f(GOOD, periodic="z"), r"`periodic` \(='z'\) must name axes out of x, y$"),
        (lambda f: f(GOOD, periodic=["xy"]), r"`periodic` \(=\['xy'\]\) must name axes"),
    ],
)
@pytest.mark.parametrize("function", ["soft_argmax", "sampling_argmax", "kernel_soft_argmax"])
def test_bad_input(function, call, match):
    def run(*args, **options):
        if function == "kernel_soft_argmax":
            args = (*args, 1.0)
        return getattr(grid, function)(*args, **options)

    with pytest.raises(ValueError, match=match):
        call(run)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"basis": "box"}, r"`basis` \(='box'\) must be one of 'triangular', 'uniform', 'gaussian'"),
        ({"noise_axes": "both"}, r"`noise_axes` \(='both'\) must be one of 'joint', 'marginal'"),
        ({"noise_axes": "joint"}, r"`noise_axes` \(='joint'\) must be 'marginal' for `basis` \(='triangular'\)"),
        ({"basis": "gaussian", "noise_axes": "joint", "form": "released"}, r"`noise_axes` .* `form` \(='released'\)"),
        ({"basis_noise": "none"}, r"`basis_noise` \(='none'\) must be one of"),
        ({"form": "official"}, r"`form` \(='official'\) must be one of 'paper', 'released'"),
        ({"form": "released", "periodic": "x"}, "`form` .* neither `periodic`"),
        ({"form": "released", "basis_noise": "mixture"}, "`form` .* nor `basis_noise`"),
        ({"num_samples": 0}, r"`num_samples` \(=0\) must be at least 1"),
        ({"num_samples": 1.5}, r"`num_samples` \(=1.5\) must be a whole number"),
    ],
)
def test_bad_input_of_sampling(options, match):
    with pytest.raises(ValueError, match=match):
        grid.sampling_argmax(GOOD, **options)


def test_bad_input_of_the_rest():
    for call, match in (
        (lambda: grid.sampling_argmax(GOOD[0], form="released"), r"`logits` \[1, 2, 3\] must have two or three"),
        (lambda: grid.kernel_soft_argmax(GOOD, 0.0), r"`sigma` \(=0.0\) must be a number, positive"),
        (lambda: grid.kernel_soft_argmax(GOOD, 1.0, on="logits"), r"`on` \(='logits'\) must be one of"),
        (lambda: grid.cells(()), r"`shape` \(=\(\)\) must have one, two or three axes"),
        (lambda: grid.cells((2, 0)), r"`shape` \(=0\) must be at least 1"),
        (lambda: grid.flatten(torch.zeros(2, 3)), r"`logits` \[2, 3\] must be"),
        (lambda: grid.from_index(torch.zeros(2), (2, 3, 4)), r"`index` \[2\] must end in the 3 axes of `shape`"),
        (lambda: grid.to_index(torch.zeros(2).long(), (2, 3)), r"`position` \(torch.int64\) must be a floating"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_values_are_not_read_where_that_was_not_asked_for():
    broken = GOOD + math.nan
    assert grid.soft_argmax(broken, validate=False).isnan().all()
    assert grid.sampling_argmax(broken, validate=False).isnan().all()
