import math

import pytest
import torch
from scipy import stats

from pcsa import grid
from pcsa._core import kernel, marginals
from pcsa.grid.samples import draw_axes

VARIANCE = {"uniform": 1 / 12, "triangular": 1 / 6, "gaussian": 1.0}


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


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_samples_have_the_moments_of_the_literal_equation(seeded, maps, same_mean, shape, way, temperature):
    logits, S = maps(shape, 1, 1), 20_000
    options = {**way, "num_samples": S, "temperature": temperature}
    ours = grid.sampling_argmax(logits, generator=seeded(1), **options)[0, 0]
    wanted = literal(logits[0, 0], generator=seeded(2), **options)
    same_mean(ours, wanted)
    away, away_wanted = ours - wanted.mean(0), wanted - wanted.mean(0)
    same_mean(away[:, :, None] * away[:, None], away_wanted[:, :, None] * away_wanted[:, None])
    # The fourth moment tells a uniform basis from a Gaussian one of the same variance.
    same_mean(away**4, away_wanted**4)
    # And all of the distribution, along every axis.
    for one, other in zip(ours.t(), wanted.t(), strict=True):
        assert stats.ks_2samp(one.numpy(), other.numpy()).pvalue > 1e-3


def replayed(logits, basis, num_samples, temperature, seeds):
    """Plain autograd on the very noise that is drawn, Eq. 12 term by term."""
    B, K, *shape = logits.shape
    noise = kernel._Noise(seeds[0], torch.device("cpu"))
    flat = logits.reshape(B * K, -1)
    gumbel = torch.empty(B * K, num_samples, flat.shape[1], dtype=logits.dtype)
    for of_maps, of_samples in marginals._tiles(flat.detach(), num_samples):
        part = gumbel[of_maps, of_samples]
        part.copy_(-math.log(2) * noise.log2_exponential((1, *part.shape), part.dtype)()[0])
    weight = ((flat[:, None] + gumbel) / temperature).softmax(-1)
    drawn = marginals_of(weight.view(B, K, num_samples, *shape), shape)
    sizes = [m.shape[-1] for m in drawn]
    basis_noise = marginals.basis_noise(torch.cat(drawn, -1).detach(), seeds[1], basis).split(sizes, -1)
    return torch.stack(
        [(m * (torch.arange(m.shape[-1], dtype=m.dtype) + e)).sum(-1) for m, e in zip(drawn, basis_noise, strict=True)],
        -1,
    )


@pytest.mark.parametrize("tile", [None, 40], ids=["one tile", "small tiles"])
@pytest.mark.parametrize("basis", ["uniform", "triangular"])
def test_same_noise_gives_the_same_samples_and_gradients(seeded, maps, shape, basis, tile, monkeypatch, close):
    if tile is not None:
        monkeypatch.setattr(kernel, "_TILE_CPU", tile)
    logits = maps(shape, 3, 2).requires_grad_()
    generator = seeded()
    seeds = [torch.randint(2**63 - 1, (), generator=generator) for _ in range(2)]
    ours = grid.sampling_argmax(logits, basis, num_samples=11, temperature=0.7, generator=seeded())
    wanted = replayed(logits, basis, 11, 0.7, seeds)
    close(ours, wanted)
    direction = torch.randn(ours.shape, dtype=ours.dtype, generator=seeded(1))
    close(*(torch.autograd.grad(x, logits, direction)[0] for x in (ours, wanted)), scale=10)


def test_on_one_axis_noise_per_cell_is_noise_per_axis(seeded, maps):
    logits = maps((6,), 1, 1)
    joint, marginal = (
        grid.sampling_argmax(logits, "gaussian", num_samples=40_000, noise_axes=axes, generator=seeded(seed))[0, 0]
        for seed, axes in enumerate(("joint", "marginal"))
    )
    assert stats.ks_2samp(joint[:, 0].numpy(), marginal[:, 0].numpy()).pvalue > 1e-3


def test_noise_per_cell_and_noise_per_axis_differ_on_two_axes(seeded):
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
    mean = [m @ torch.arange(16, dtype=m.dtype) for m in draw_axes(flat, S, 1.0, seeded(4))]
    for basis in VARIANCE:
        drawn = grid.sampling_argmax(flat, basis, num_samples=S, noise_axes="marginal", generator=seeded(4))
        noise = drawn - torch.stack(mean, -1)
        wanted = VARIANCE[basis] ** 0.5 * per_axis
        assert noise.square().mean().sqrt().item() == pytest.approx(wanted.item(), rel=0.04), basis


def test_at_a_low_temperature_the_density_is_the_mixture(densities, seeded, way):
    # Eq. 6: the sum of pi_i times the density around cell i; here on one axis of an image, other rows included.
    prob = torch.tensor([[0.1, 0.0, 0.2], [0.3, 0.0, 0.4]], dtype=torch.float64)
    logits = prob.clamp_min(1e-30).log()[None, None]
    drawn = grid.sampling_argmax(logits, num_samples=20_000, temperature=1e-4, generator=seeded(8), **way)[0, 0]
    for d, weights in enumerate((prob.sum(0), prob.sum(1))):

        def cdf(x, weights=weights):
            return sum(w * densities[way["basis"]].cdf(x - i) for i, w in enumerate(weights.tolist()))

        assert stats.kstest(drawn[:, d].numpy(), cdf).pvalue > 1e-3


@pytest.mark.parametrize("periodic", ["", "x"])
def test_gradcheck(seeded, maps, shape, way, periodic, monkeypatch):
    monkeypatch.setattr(kernel, "_TILE_CPU", 30)
    logits = maps(shape, 1, 2).requires_grad_()

    def draw(logits):
        options = {**way, "periodic": periodic, "frame": "normalized", "generator": seeded(1)}
        return grid.sampling_argmax(logits, num_samples=3, temperature=0.8, **options)

    assert torch.autograd.gradcheck(draw, logits)


def test_samples_are_differentiable_once(maps):
    logits = maps((3, 4)).requires_grad_()
    (first,) = torch.autograd.grad(grid.sampling_argmax(logits).square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(first.sum(), logits)


def test_seeds_and_the_callers_generator(seeded, maps):
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
def test_compiles_in_one_graph(maps, basis):
    logits = maps((3, 4)).requires_grad_()

    def loss(logits):
        return grid.sampling_argmax(logits, basis, num_samples=3, temperature=0.5, frame="normalized").square().sum()

    grads = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)
        grads.append(torch.autograd.grad(function(logits), logits)[0])
    torch.testing.assert_close(*grads)


def test_the_operators_keep_their_promises_to_the_compiler(seeded):
    seed, tau = torch.tensor(3), torch.tensor(0.5, dtype=torch.float64)
    logits = torch.randn(4, 6, dtype=torch.float64, generator=seeded()).requires_grad_()
    torch.library.opcheck(torch.ops.pcsa.draw_marginals.default, (logits, [2, 3], seed, tau, 5))
    torch.library.opcheck(marginals.basis_noise, (logits.detach(), seed, "triangular"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda(maps, same_mean, basis):
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


GOOD = torch.zeros(1, 1, 2, 3)


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


@pytest.mark.parametrize(
    "options",
    [
        {"basis": "gaussian"},
        {"basis": "triangular"},
        {"basis": "uniform", "basis_noise": "mixture"},
        {"basis": "gaussian", "form": "released"},
        {"basis": "triangular", "periodic": "x"},
    ],
    ids=str,
)
def test_gradient_of_a_learned_temperature(options):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    logits[0, 1, 2, 1:] = -math.inf

    def draw(logits, tau):
        seeded = torch.Generator().manual_seed(1)
        return grid.sampling_argmax(logits, num_samples=3, temperature=tau, generator=seeded, validate=False, **options)

    tau = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    out = draw(logits.requires_grad_(), tau)
    slope, of_logits = torch.autograd.grad(out.square().sum(), [tau, logits])
    assert of_logits.isfinite().all()
    # The released form replaces a gradient by its sign.
    if options.get("form") != "released":
        high, low = (draw(logits, tau.detach().add(step).requires_grad_()).square().sum() for step in (1e-6, -1e-6))
        assert slope.item() == pytest.approx((high - low).item() / 2e-6, rel=1e-5)
    else:
        assert slope.isfinite()


def test_bad_input_learned_temperature_on_a_ring_with_noise_per_cell():
    tau = torch.tensor(0.8, requires_grad=True)
    with pytest.raises(ValueError, match="`temperature` that needs a gradient must not be given with `periodic` axes"):
        grid.sampling_argmax(torch.zeros(1, 1, 4), "gaussian", temperature=tau, periodic="x")


@pytest.mark.parametrize("basis", ["uniform", "triangular", "gaussian"])
@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_mask_of_a_map_s_own(basis, form):
    logits = torch.full((1, 1, 4, 5), -math.inf)
    logits[..., 2, 3] = 1.0
    logits.requires_grad_()
    samples = grid.sampling_argmax(logits, basis, num_samples=500, form=form)
    assert ((samples.mean(2) - torch.tensor([3.0, 2.0])).abs() < 0.3).all()  # the only cell that is left
    samples.sum().backward()
    assert logits.grad.isfinite().all()
    for bad, message in (
        (torch.full((1, 1, 4), -math.inf), "a map of -inf alone"),
        (torch.tensor([[[math.nan]]]), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            grid.sampling_argmax(bad, basis)
