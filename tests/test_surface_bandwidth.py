import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa import knn_bandwidth, localize, sampling_argmax, surface_bandwidth


def covariance(factor):
    return factor @ factor.mT


def naive(pos, sizes, sigma, k, normal):
    """A loop over the points: the covariance, by the principal directions of the nearest other places."""
    out = []
    for cloud, widths in zip(np.split(pos, np.cumsum(sizes)[:-1]), np.split(sigma, np.cumsum(sizes)[:-1]), strict=True):
        places = np.unique(cloud, axis=0)
        for own, width in zip(cloud, widths, strict=True):
            away = np.linalg.norm(places - own, axis=1)
            near = places[np.argsort(away, kind="stable")[: k + 1]]
            second = np.cov(near.T, bias=True).reshape(len(own), -1) if len(near) > 1 else np.eye(len(own))
            variance, directions = np.linalg.eigh(second)
            x = np.maximum(variance, 0) / variance[-1]
            along = np.maximum(np.minimum(1, 10 * (x - x[0])), max(2 * x[0] - 1, 0))
            out.append(width**2 * (directions * (normal**2 + (1 - normal**2) * along)) @ directions.T)
    return torch.from_numpy(np.array(out))


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    k=st.integers(1, 6),
    dim=st.integers(1, 4),
    copies=st.booleans(),
)
def test_against_a_loop(seed, sizes, k, dim, copies):
    g = torch.Generator().manual_seed(seed)
    pos = torch.randn(sum(sizes), dim, generator=g, dtype=torch.float64)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    if copies:
        for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
            pos[(a + b) // 2 : b] = pos[a].clone()
    sigma = torch.rand(len(pos), generator=g, dtype=torch.float64) + 0.1
    factor = surface_bandwidth(pos, ptr=ptr, bandwidth=sigma, k=k, normal=0.2)
    assert torch.equal(factor, factor.tril())
    assert (factor.diagonal(dim1=1, dim2=2) > 0).all()
    torch.testing.assert_close(covariance(factor), naive(pos.numpy(), sizes, sigma.numpy(), k, 0.2))
    alone = [
        surface_bandwidth(cloud, bandwidth=own, k=k, normal=0.2)
        for cloud, own in zip(pos.split(sizes), sigma.split(sizes), strict=True)
    ]
    torch.testing.assert_close(torch.cat(alone), factor)


def test_a_plane_is_flat_at_its_border_too():
    rows = torch.linspace(-1, 1, 9, dtype=torch.float64)
    x, y = (side.reshape(-1) for side in torch.meshgrid(rows, rows, indexing="ij"))
    pos = torch.stack([x, y, torch.zeros_like(x)], 1)
    axes = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    found = covariance(surface_bandwidth(pos @ axes.T, bandwidth=0.5, normal=0.1))
    wanted = 0.25 * axes @ torch.diag(torch.tensor([1.0, 1.0, 0.01], dtype=torch.float64)) @ axes.T
    torch.testing.assert_close(found, wanted.expand_as(found))


def test_samples_stay_on_a_surface():
    # A sphere of radius 1: how far from it samples of the points themselves are.
    generator = torch.Generator().manual_seed(0)
    pos = torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator))
    logits = torch.zeros(2000, 1)
    sigma = knn_bandwidth(pos)

    def off(bandwidth):
        drawn = sampling_argmax(
            logits, pos, bandwidth, num_samples=4000, estimator="reinmax", generator=torch.Generator().manual_seed(1)
        )
        return (drawn.norm(dim=-1) - 1).square().mean().sqrt()

    # A tenth is left across, and the surface bends away from its tangent planes.
    assert off(surface_bandwidth(pos, bandwidth=sigma)) < 0.3 * off(sigma)


def test_around_a_line_no_direction_is_preferred():
    line = torch.arange(20.0, dtype=torch.float64)[:, None] * torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64)
    found = covariance(surface_bandwidth(line, normal=0.5, bandwidth=2.0))
    wanted = torch.diag(torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(found, wanted.expand_as(found))


def test_bases_turn_and_grow_with_the_cloud():
    generator = torch.Generator().manual_seed(0)
    pos = torch.randn(40, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 0.8, 0.2])
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    one = covariance(surface_bandwidth(pos))
    other = covariance(surface_bandwidth(3 * pos @ turn.T + 5))
    torch.testing.assert_close(other, 9 * turn @ one @ turn.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "pos",
    [
        torch.ones(1, 3),
        torch.ones(5, 3),
        torch.tensor([[0.0, 0.0, 0.0], [1e-30, 0.0, 0.0], [0.0, 1e-30, 0.0]]),
        torch.tensor([[0.0, 0.0, 0.0], [1e12, 0.0, 0.0]]),
        torch.tensor([[1.0, 2.0, 3.0]] * 3 + [[2.0, 2.0, 3.0]]),
    ],
)
def test_degenerate_clouds_are_finite(pos, dtype):
    pos = pos.clone().to(dtype).detach().requires_grad_()
    factor = surface_bandwidth(pos)
    assert factor.isfinite().all()
    assert (factor.diagonal(dim1=1, dim2=2) > 0).all()
    logits = torch.zeros(len(pos), 1, dtype=dtype, requires_grad=True)
    drawn = sampling_argmax(logits, pos, factor, num_samples=3)
    assert drawn.isfinite().all()
    drawn.sum().backward()
    assert pos.grad.isfinite().all()
    assert logits.grad.isfinite().all()


def test_a_cloud_of_one_place_has_round_bases():
    assert torch.equal(surface_bandwidth(torch.ones(3, 2), bandwidth=0.5), 0.5 * torch.eye(2).expand(3, 2, 2))


def test_the_default_is_the_bandwidth_from_neighbors_and_carries_its_gradient():
    pos = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    factor = surface_bandwidth(pos)
    assert torch.equal(factor, surface_bandwidth(pos, bandwidth=knn_bandwidth(pos)))
    # The directions are fixed: of the widest, the variance is that of the bandwidth.
    (grad,) = torch.autograd.grad(factor.square().sum(), pos)
    shape = (factor / knn_bandwidth(pos)[:, None, None]).detach()
    (wanted,) = torch.autograd.grad((knn_bandwidth(pos)[:, None, None] * shape).square().sum(), pos)
    torch.testing.assert_close(grad, wanted)
    assert grad.abs().sum() > 0


def test_dense_is_ragged_and_masked_points_are_nobodys_neighbors():
    pos = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(surface_bandwidth(pos), torch.stack([surface_bandwidth(cloud) for cloud in pos]))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, [2, 5]] = False
    found = surface_bandwidth(pos, mask=mask)
    torch.testing.assert_close(found[1, mask[1]], surface_bandwidth(pos[1, mask[1]]))
    assert torch.equal(found[1, 2], torch.eye(3, dtype=torch.float64))
    sigma = torch.rand(2, 9, dtype=torch.float64) + 0.1
    one = surface_bandwidth(pos, bandwidth=sigma, mask=mask)[0]
    torch.testing.assert_close(one, surface_bandwidth(pos[0], bandwidth=sigma[0]))


def test_covariances_of_read_outs():
    g = torch.Generator().manual_seed(0)
    sizes, ptr = [6, 1, 5], torch.tensor([0, 6, 7, 12])
    logits, pos = torch.randn(12, 2, generator=g, dtype=torch.float64), torch.randn(12, 3, generator=g).double()
    factor = surface_bandwidth(pos, ptr=ptr, k=3)
    found = localize(logits, pos, factor, ptr=ptr)
    for b, (score, own, bases) in enumerate(zip(*(x.split(sizes) for x in (logits, pos, factor)), strict=True)):
        for k in range(2):
            prob = score[:, k].softmax(0)
            away = own - prob @ own
            wanted = torch.einsum("n,nd,ne->de", prob, away, away) + torch.einsum("n,nde->de", prob, covariance(bases))
            torch.testing.assert_close(found.covariance[b, k], wanted)
    for read_out in ("local", "median", "ball"):
        assert localize(logits, pos, factor, ptr=ptr, read_out=read_out, radius=0.5).position.isfinite().all()
    sigma = torch.rand(12, 3, generator=g, dtype=torch.float64) + 0.1
    for read_out in ("expectation", "local"):
        one = localize(logits, pos, torch.diag_embed(sigma), ptr=ptr, read_out=read_out)
        other = localize(logits, pos, sigma, ptr=ptr, read_out=read_out)
        torch.testing.assert_close(one.covariance, other.covariance)
        torch.testing.assert_close(one.position, other.position)
    with pytest.raises(ValueError, match="`read_out` 'mode'"):
        localize(logits, pos, factor, ptr=ptr, read_out="mode")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"normal": 0.0}, "`normal`"),
        ({"normal": 1.1}, "`normal`"),
        ({"k": 0}, "`k`"),
        ({"bandwidth": -1.0}, "`bandwidth`"),
        ({"bandwidth": math.nan}, "`bandwidth`"),
        ({"bandwidth": torch.ones(3)}, "`bandwidth`"),
        ({"bandwidth": torch.zeros(4)}, "`bandwidth`"),
        ({"mask": torch.ones(1, 4, dtype=torch.bool)}, "`mask`"),
        ({"batch": torch.tensor([1, 0, 0, 0])}, "sorted"),
        ({"pos": torch.full((4, 3), math.nan)}, "`pos`"),
        ({"pos": torch.zeros(0, 3)}, "`pos`"),
        ({"pos": torch.zeros(2, 4, 3), "ptr": torch.tensor([0, 4])}, "`ptr`"),
    ],
)
def test_bad_arguments_are_named(options, name):
    pos = torch.randn(4, 3)
    with pytest.raises(ValueError, match=name):
        surface_bandwidth(options.pop("pos", pos), **{"bandwidth": 1.0, **options})
