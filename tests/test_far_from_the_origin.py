"""Clouds far from the origin keep what their float32 coordinates hold: positions, losses, neighbors and gradients."""

import functools

import pytest
import torch

import pcsa
from pcsa import losses, neighbors
from pcsa._core.points import canonical

SIZES = (40, 1, 23)
K, S = 3, 16
# Of an extent of about one; in float32 a coordinate of the last is a multiple of 1/16.
OFFSETS = [1e4, 1e6]
FORMS = ["ragged", "dense"]


class Clouds:
    """Clouds at an offset as float32 has them, and the same ones about the origin, exactly."""

    def __init__(self, offset, seed=0):
        g = torch.Generator().manual_seed(seed)
        N = sum(SIZES)
        self.ptr = torch.tensor([0, *SIZES]).cumsum(0)
        self.batch = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
        self.logits = 2 * torch.randn(N, K, generator=g)
        # Along the last axis they are at the origin.
        self.corner = torch.tensor([offset, -offset, 0.0])
        self.far = 2 * torch.rand(N, 3, generator=g) + self.corner
        self.near = self.far - self.corner
        assert torch.equal(self.near.double(), self.far.double() - self.corner.double())
        self.bandwidth = 0.1 + torch.rand(N, generator=g)
        self.target = 2 * torch.rand(len(SIZES), K, 3, generator=g) + self.corner
        self.near_target = self.target - self.corner
        self.visible = torch.tensor([[True, True, False], [False, True, True], [True] * K])
        self.step = float(torch.nextafter(torch.tensor(offset), torch.tensor(2 * offset)) - offset)

    def given(self, form, *tensors):
        """Tensors of the points in the form, and the options that belong to it."""
        if form == "ragged":
            return tensors, {"ptr": self.ptr}
        mask = torch.arange(max(SIZES)) < torch.tensor(SIZES)[:, None]

        def pad(x):
            out = x.new_zeros(*mask.shape, *x.shape[1:])
            out[mask] = x
            return out

        return tuple(pad(x) for x in tensors), {"mask": mask}


@pytest.fixture(params=OFFSETS)
def clouds(request):
    return Clouds(request.param)


def gradients(function, clouds, pos, form="ragged"):
    """What a function of logits, positions and bandwidths gives, and its gradients."""
    leaves = [x.clone().requires_grad_() for x in (clouds.logits, pos, clouds.bandwidth)]
    given, options = clouds.given(form, *leaves)
    value = function(*given, **options)
    weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad((weight * value).sum(), leaves, allow_unused=True)
    return value.detach(), [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]


def check_gradients(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5 * float(b.abs().max()))


OPERATORS = {
    "soft_argmax": lambda x, y, s, **o: pcsa.soft_argmax(x, y, **o),
    "turned": lambda x, y, s, **o: pcsa.sampling_argmax(
        x,
        y,
        torch.diag_embed(s.unsqueeze(-1).expand_as(y)),
        num_samples=S,
        generator=torch.Generator().manual_seed(0),
        **o,
    ),
    **{
        name: functools.partial(
            lambda x, y, s, e, n, **o: pcsa.sampling_argmax(
                x, y, s, num_samples=S, estimator=e, basis_noise=n, generator=torch.Generator().manual_seed(0), **o
            ),
            e=estimator,
            n=noise,
        )
        for name, estimator, noise in (
            ("relaxed", "relaxed", "relaxed"),
            ("mixture", "relaxed", "mixture"),
            ("straight_through", "straight_through", "relaxed"),
            ("reinmax", "reinmax", "relaxed"),
            ("implicit", "implicit", "relaxed"),
        )
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPERATORS)
def test_the_operator(clouds, name, form):
    found, grads = gradients(OPERATORS[name], clouds, clouds.far, form)
    expected, wanted = gradients(OPERATORS[name], clouds, clouds.near, form)
    # The result is rounded once, to a multiple of the step.
    away = (found.double() - clouds.corner.double() - expected.double()).abs()
    assert float(away.max()) <= 0.51 * clouds.step + 1e-5
    check_gradients(grads, wanted)


@pytest.mark.parametrize("read_out", ["expectation", "peak", "local", "mode", "median", "ball", "ball_point"])
def test_read_outs(clouds, read_out):
    def read(pos):
        return pcsa.localize(clouds.logits, pos, clouds.bandwidth, ptr=clouds.ptr, read_out=read_out, radius=0.6)

    found, expected = read(clouds.far), read(clouds.near)
    away = (found.position.double() - clouds.corner.double() - expected.position.double()).abs()
    assert float(away.max()) <= 0.51 * clouds.step + 1e-4
    assert torch.equal(found.index, expected.index)
    for name in ("covariance", "peak", "entropy", "confidence"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


def test_places_asked_about(clouds):
    how = {"ptr": clouds.ptr}
    found, expected = (
        (
            pcsa.ball_mass(clouds.logits, pos, places, 0.7, **how),
            pcsa.expected_distance(clouds.logits, pos, places, **how),
        )
        for pos, places in ((clouds.far, clouds.target), (clouds.near, clouds.near_target))
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


SIGMA = {"norm": "bounded", "sigma": 0.8}
LOSSES = {
    **{
        f"expectation {n.get('norm', 'l2')}": functools.partial(
            lambda x, y, s, t, n, **o: losses.expectation_error(x, y, t, **n, **o), n=n
        )
        for n in ({}, {"norm": "l1"}, {"norm": "squared"}, SIGMA)
    },
    "discrete": lambda x, y, s, t, **o: losses.discrete_expected_error(x, y, t, **o),
    "mixture": lambda x, y, s, t, **o: losses.mixture_expected_error(x, y, s, t, **o),
    "nll": lambda x, y, s, t, **o: losses.mixture_nll(x, y, s, t, **o),
    "cross_entropy": lambda x, y, s, t, **o: losses.nearest_point_cross_entropy(x, y, t, **o),
    "soft_label": lambda x, y, s, t, **o: losses.soft_label_cross_entropy(x, y, 0.5, t, **o),
    "variance": lambda x, y, s, t, **o: losses.variance_regularization(x, y, target_variance=0.1, **o),
    "js mean": lambda x, y, s, t, **o: losses.js_regularization(x, y, 0.5, **o),
    "js target": lambda x, y, s, t, **o: losses.js_regularization(x, y, 0.5, t, center="target", **o),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(clouds, name, form):
    how = {"visible": clouds.visible, "reduction": "none"}
    function = LOSSES[name]
    found, grads = gradients(functools.partial(function, t=clouds.target, **how), clouds, clouds.far, form)
    near = functools.partial(function, t=clouds.near_target, **how)
    expected, wanted = gradients(near, clouds, clouds.near, form)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    check_gradients(grads, wanted)


def test_neighbors(clouds):
    far, near = (
        (
            neighbors.knn(pos, clouds.ptr, 4),
            neighbors.farthest_points(pos, clouds.ptr, 0.3),
            pcsa.knn_bandwidth(pos, ptr=clouds.ptr),
        )
        for pos in (clouds.far, clouds.near)
    )
    assert torch.equal(far[0].index, near[0].index)
    assert torch.equal(far[0].sq_distance, near[0].sq_distance)
    assert all(torch.equal(a, b) for a, b in zip(far[1], near[1], strict=True))
    torch.testing.assert_close(far[2], near[2], rtol=1e-6, atol=0)


def test_only_what_is_far_is_moved_and_only_along_the_axes_where_it_is():
    clouds = Clouds(1e4)
    points = canonical(clouds.logits, clouds.far, ptr=clouds.ptr, near=True)
    # A cloud of one point is always far, unless it is at the origin; the others have their own bits.
    here = clouds.batch != 1
    assert torch.equal(points.pos[here, 2], clouds.far[here, 2])
    assert (points.origin[:, :2].abs() > 9e3).all()
    assert (points.origin[[0, 2], 2] == 0).all()
    assert (points.pos[:, :2].abs() <= 1).all()
    near = canonical(clouds.logits, clouds.near, ptr=clouds.ptr, near=True)
    assert torch.equal(near.pos[here], clouds.near[here])
    assert (near.origin[[0, 2]] == 0).all()
    # Points that a mask switches off are nowhere.
    (logits, pos), options = clouds.given("dense", clouds.logits, clouds.far)
    dense = canonical(logits, pos, near=True, **options)
    assert torch.equal(dense.origin, points.origin)
    assert (dense.pos.view(3, -1, 3)[1, 1:] == 0).all()
    # The largest numbers, and none.
    for value in (3e38, -3e38, float("nan"), float("inf")):
        strange = canonical(torch.zeros(2, 1), torch.tensor([[value], [value]]), near=True, validate=False)
        assert torch.equal(strange.pos + strange.origin, torch.tensor([[value], [value]])) or value != value


@pytest.mark.slow
def test_by_tritons_kernels(interpret):
    chosen = "operator and 1000000 and ragged and (relaxed or mixture or straight)"
    assert interpret("tests/test_far_from_the_origin.py", "-k", chosen) == 3
