import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa import ball_mass, knn_bandwidth, localize, soft_argmax

READ_OUTS = ["expectation", "peak", "local", "mode", "median", "ball", "ball_point"]


def named(read_out, radius=0.3):
    """The options that a read-out needs."""
    return {"read_out": read_out, **({"radius": radius} if "ball" in read_out else {})}


def make(sizes, num_keypoints=2, dim=2, seed=0, spread=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(sum(sizes), num_keypoints, generator=generator, dtype=dtype)
    pos = torch.rand(sum(sizes), dim, generator=generator, dtype=dtype)
    bandwidth = 0.05 + 0.1 * torch.rand(sum(sizes), dim, generator=generator, dtype=dtype)
    return logits, pos, bandwidth, torch.tensor([0, *sizes]).cumsum(0)


def log_density(y, log_prob, pos, bandwidth):
    """Logarithm of the mixture's density at y [G, D], up to (2 pi)^(D/2)."""
    bandwidth = bandwidth.view(len(pos), -1).expand_as(pos)
    away = (y[:, None] - pos) / bandwidth
    return (log_prob - bandwidth.log().sum(1) - 0.5 * away.square().sum(2)).logsumexp(1)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    axes=st.booleans(),
    radius=st.sampled_from([None, 0.3]),
)
def test_against_a_loop(seed, sizes, axes, radius):
    logits, pos, bandwidth, ptr = make(sizes, dim=3, seed=seed)
    bandwidth = bandwidth if axes else bandwidth[:, 0]
    outs = {
        name: localize(logits, pos, bandwidth, ptr=ptr, temperature=0.5, read_out=name, radius=radius)
        for name in READ_OUTS
        if radius is not None or "ball" not in name
    }
    for b in range(len(sizes)):
        rows = slice(int(ptr[b]), int(ptr[b + 1]))
        y, width = pos[rows], bandwidth[rows].reshape(sizes[b], -1).expand(-1, 3)
        for k in range(2):
            p = (logits[rows, k] / 0.5).softmax(0)
            i = int(p.argmax())
            ball = 3 * width[i].mean() if radius is None else radius
            inside = (y - y[i]).norm(dim=1) <= ball
            mean = (p[:, None] * y).sum(0)
            covariance = sum(
                p[j] * (torch.outer(y[j] - mean, y[j] - mean) + width[j].square().diag()) for j in range(len(p))
            )
            expected = {
                "expectation": mean,
                "peak": y[i],
                "local": (p[inside, None] * y[inside]).sum(0) / p[inside].sum(),
            }
            for name, position in expected.items():
                torch.testing.assert_close(outs[name].position[b, k], position)
            for out in outs.values():
                torch.testing.assert_close(out.covariance[b, k], covariance)
                torch.testing.assert_close(out.peak[b, k], p.max())
                torch.testing.assert_close(out.entropy[b, k], -(p * p.log()).sum())
                assert out.index[b, k] == int(ptr[b]) + i
                near = (y - out.position[b, k]).norm(dim=1) < (radius or 0)
                torch.testing.assert_close(out.confidence[b, k], p.max() if radius is None else p[near].sum())


@pytest.mark.parametrize("width", ["one", "per point", "per axis"])
@pytest.mark.parametrize("seed", range(8))
def test_mode_is_the_densest_place_of_a_grid(seed, width):
    logits, pos, bandwidth, _ = make([30], num_keypoints=3, seed=seed)
    if width == "one":
        bandwidth = torch.full_like(bandwidth[:, 0], 0.08)
    elif width == "per point":
        # A factor of ten between them: the highest basis need not belong to the most probable point.
        bandwidth = 0.015 * 10 ** torch.rand(30, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = localize(logits, pos, bandwidth, read_out="mode").position[0]
    axis = torch.linspace(0, 1, 151, dtype=torch.float64)
    grid = torch.cat([torch.cartesian_prod(axis, axis), pos])
    for k in range(3):
        log_prob = logits[:, k].log_softmax(0)
        best = log_density(grid, log_prob, pos, bandwidth).max()
        assert log_density(found[k : k + 1], log_prob, pos, bandwidth) >= best - 1e-3


def test_mode_between_two_points():
    # Two equal points one bandwidth apart melt into one hill (up to two bandwidths they do), densest halfway;
    # a third, more probable than either, stands alone: 0.3 + 0.3 at half a bandwidth each is
    # 0.6 exp(-1/8) = 0.53 > 0.4.
    pos = torch.tensor([[0.0], [1.0], [50.0]])
    logits = torch.tensor([[0.3], [0.3], [0.4]]).log()
    assert localize(logits, pos, 1.0, read_out="peak").position.item() == 50.0
    assert localize(logits, pos, 1.0, read_out="mode").position.item() == pytest.approx(0.5, abs=1e-3)


def test_mode_prefers_the_narrow_basis():
    # 0.6 / 10 < 0.4 / 1: the less probable point is the denser place.
    logits = torch.tensor([[0.6], [0.4]]).log()
    out = localize(logits, torch.tensor([[0.0], [100.0]]), torch.tensor([10.0, 1.0]), read_out="mode")
    assert out.position.item() == pytest.approx(100.0)
    assert out.index.item() == 0


def test_hand_checkable_numbers():
    pos = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    out = localize(torch.tensor([[0.5], [0.5]]).log(), pos, 0.5)
    # Mean (1, 0); the places vary by 1 along x, and the basis by 0.25 along both.
    torch.testing.assert_close(out.position, torch.tensor([[[1.0, 0.0]]]))
    torch.testing.assert_close(out.covariance, torch.tensor([[[[1.25, 0.0], [0.0, 0.25]]]]))
    assert out.peak.item() == pytest.approx(0.5)
    assert out.entropy.item() == pytest.approx(math.log(2))
    assert out.index.item() == 0  # of equals, the first
    # The ball includes its surface.
    lone = localize(torch.tensor([[0.6], [0.4]]).log(), pos, 0.5, read_out="local", radius=1.99).position
    both = localize(torch.tensor([[0.6], [0.4]]).log(), pos, 0.5, read_out="local", radius=2.0).position
    assert lone[0, 0, 0].item() == 0.0
    assert both[0, 0, 0].item() == pytest.approx(0.8)


@pytest.mark.parametrize("read_out", READ_OUTS)
def test_layouts_agree(read_out):
    sizes = [1, 5, 3]
    logits, pos, bandwidth, ptr = make(sizes)
    options = {**named(read_out), "temperature": 0.7}
    ragged = localize(logits, pos, bandwidth, ptr=ptr, **options)
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    for other in (
        localize(logits, pos, bandwidth, batch, **options),
        localize(logits, pos, bandwidth, batch, batch_size=3, validate=False, **options),
    ):
        torch.testing.assert_close(other, ragged)
    # Rows that are switched off lie before, between and after the others, and hold NaN.
    places = [[4], [0, 2, 3, 4, 6], [1, 2, 5]]
    dense = [torch.full((3, 7, 2), math.nan, dtype=torch.float64) for _ in range(3)]
    mask = torch.zeros(3, 7, dtype=torch.bool)
    for b, place in enumerate(places):
        mask[b, place] = True
        for out, x in zip(dense, (logits, pos, bandwidth), strict=True):
            out[b, place] = x[ptr[b] : ptr[b + 1]]
        alone = localize(*(x[ptr[b] : ptr[b + 1]] for x in (logits, pos, bandwidth)), **options)
        for x, y in zip(alone[:4], ragged[:4], strict=True):
            torch.testing.assert_close(x[0], y[b])
        assert torch.equal(alone.index[0] + ptr[b], ragged.index[b])
    masked = localize(*dense, mask=mask, **options)
    for x, y in zip(masked[:4], ragged[:4], strict=True):
        torch.testing.assert_close(x, y)
    for b, place in enumerate(places):
        assert torch.equal(torch.tensor(place)[ragged.index[b] - ptr[b]], masked.index[b])
    if read_out == "expectation":
        torch.testing.assert_close(ragged.position, soft_argmax(logits, pos, ptr=ptr, temperature=0.7))


def test_index_is_a_row_of_pos_or_a_place_along_n():
    logits = torch.tensor([[0.0], [1.0], [5.0], [5.0], [0.0]])
    pos = torch.arange(5.0)[:, None]
    out = localize(logits, pos, 1.0, ptr=torch.tensor([0, 2, 5]), read_out="peak")
    assert out.index.tolist() == [[1], [2]]
    assert torch.equal(pos[out.index], out.position)
    dense = localize(logits[:4].view(2, 2, 1), pos[:4].view(2, 2, 1), 1.0, read_out="peak")
    assert dense.index.tolist() == [[1], [0]]
    assert dense.index.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("read_out", READ_OUTS)
def test_degenerate_clouds_are_finite(read_out, dtype):
    pos = torch.tensor([[0.1, 0.2, 0.3]] * 4 + [[0.1, 0.7, 0.3]] + [[0.0, 0.0, 0.0]], dtype=dtype)
    logits = torch.tensor([[0.0], [1.0], [1e4], [-1e4], [1e30], [-1e30]], dtype=dtype)
    for ptr in ([0, 4, 5, 6], [0, 1, 6], [0, 6]):
        ptr = torch.tensor(ptr)
        out = localize(logits, pos, knn_bandwidth(pos, ptr=ptr), ptr=ptr, **named(read_out))
        assert all(part.isfinite().all() for part in out)
        low, high = pos.amin(0) - 1e-6, pos.amax(0) + 1e-6
        assert ((out.position >= low) & (out.position <= high)).all()
    # All points are one, whatever the read-out.
    out = localize(logits[:4], pos[:4], knn_bandwidth(pos[:4]), **named(read_out))
    torch.testing.assert_close(out.position[0, 0], pos[0])


@pytest.mark.parametrize("read_out", ["expectation", "mode", "median", "ball"])
@settings(deadline=None, max_examples=20, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), copies=st.integers(2, 40))
def test_a_point_in_parts_is_the_point(read_out, seed, copies):
    logits, pos, bandwidth, _ = make([6], dim=3, seed=seed, spread=1.0)
    whole = localize(logits, pos, bandwidth, **named(read_out))
    order = torch.randperm(6 * copies, generator=torch.Generator().manual_seed(seed))
    row = torch.arange(6).repeat(copies)[order]
    parts = localize(logits[row], pos[row], bandwidth[row], **named(read_out))
    torch.testing.assert_close(parts.position, whole.position)
    torch.testing.assert_close(parts.covariance, whole.covariance)
    torch.testing.assert_close(parts.peak * copies, whole.peak)


def test_the_mode_adds_up_what_lies_in_one_place():
    # Ten points in one place hold half of the probability, a twentieth each; five lone places hold a tenth each.
    pos = torch.cat([torch.zeros(10, 1), 10 * torch.arange(1.0, 6)[:, None]])
    logits = torch.tensor([0.05] * 10 + [0.1] * 5).log()[:, None]
    assert localize(logits, pos, 1.0, read_out="mode").position.item() == pytest.approx(0, abs=1e-6)
    assert localize(logits, pos, 1.0, read_out="peak").position.item() == 10


@pytest.mark.parametrize("read_out", READ_OUTS)
def test_improbable_copies_win_nothing(read_out):
    generator = torch.Generator().manual_seed(0)
    pos = torch.cat([torch.randn(200, 3, generator=generator) + 20, torch.zeros(4, 3)])
    prob = torch.full((204, 1), 1e-9)
    prob[7], prob[200:] = 0.9999, 5e-7
    found = localize(prob.log(), pos, knn_bandwidth(pos), **named(read_out, 0.1))
    assert (found.position[0, 0] - pos[7]).norm() < 0.01


def test_no_gradient_and_no_autocast():
    logits, pos, bandwidth, _ = make([6], dtype=torch.float32)
    plain = localize(logits, pos, bandwidth, read_out="mode")
    logits.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = localize(logits, pos, bandwidth, read_out="mode")
    assert not out.position.requires_grad
    assert all(torch.equal(x, y) for x, y in zip(plain, out, strict=True))


@pytest.mark.parametrize("ptr", [[0, 0, 6], [0, 6, 6]], ids=str)
@pytest.mark.parametrize("read_out", READ_OUTS)
def test_an_empty_cloud_let_through_spoils_only_itself(ptr, read_out):
    logits, pos, bandwidth, _ = make([6])
    ptr = torch.tensor(ptr)
    out = localize(logits, pos, bandwidth, ptr=ptr, **named(read_out), validate=False)
    alone = localize(logits, pos, bandwidth, **named(read_out))
    b = int(ptr.diff().argmax())
    for x, y in zip(out, alone, strict=True):
        torch.testing.assert_close(x[b], y[0])


def test_bad_input():
    logits, pos, bandwidth, _ = make([4])
    with pytest.raises(ValueError, match=r"`read_out` \(='mean'\) must be one of 'expectation', 'peak'"):
        localize(logits, pos, bandwidth, read_out="mean")
    for name in ("ball", "ball_point"):
        with pytest.raises(ValueError, match=rf"`radius` \(=None\) must be given with `read_out` '{name}'"):
            localize(logits, pos, bandwidth, read_out=name)
    with pytest.raises(ValueError, match=r"`radius` \[2\] .* must be a number or \[1\], one for each cloud"):
        localize(logits, pos, bandwidth, radius=torch.ones(2))
    with pytest.raises(ValueError, match="`radius` must be positive and finite everywhere"):
        localize(logits, pos, bandwidth, radius=torch.zeros(1))
    with pytest.raises(ValueError, match=r"`center` \[1, 2, 3\] must be \[B, K, D\], here \[1, 2, 2\]"):
        ball_mass(logits, pos, torch.zeros(1, 2, 3), 0.1)
    for radius in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"`radius` \(={radius}\) must be positive"):
            localize(logits, pos, bandwidth, read_out="local", radius=radius)


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_mean_covariance_and_certainty_are_differentiable(dense, oriented):
    logits, pos, bandwidth, ptr = make([4, 4])
    if oriented:
        bandwidth = torch.diag_embed(bandwidth) + torch.tensor([[0.0, 0.0], [0.05, 0.0]], dtype=torch.float64)
    leaves = [x.requires_grad_() for x in (logits, pos, bandwidth, torch.tensor(0.7, dtype=torch.float64))]

    def read(logits, pos, bandwidth, temperature):
        bandwidth = bandwidth.tril() if oriented else bandwidth
        inputs = [x.view(2, 4, *x.shape[1:]) if dense else x for x in (logits, pos, bandwidth)]
        found = localize(*inputs, ptr=None if dense else ptr, temperature=temperature)
        return found.position, found.covariance, found.peak, found.entropy

    assert torch.autograd.gradcheck(read, leaves)


@pytest.mark.parametrize("read_out", READ_OUTS)
def test_decisions_carry_no_gradient_and_spoil_none(read_out):
    logits, pos, bandwidth, ptr = make([5, 3])
    logits[0, 0] = -math.inf
    found = localize(logits.requires_grad_(), pos, bandwidth, ptr=ptr, **named(read_out))
    assert found.position.requires_grad == (read_out == "expectation")
    assert not found.confidence.requires_grad
    slope = torch.autograd.grad(found.covariance.sum() + found.entropy.sum(), logits)[0]
    assert slope.isfinite().all()
    assert slope[0, 0] == 0


@pytest.mark.parametrize("read_out", READ_OUTS)
def test_a_mask_of_a_keypoint_s_own_is_a_cloud_without_these_points(read_out):
    logits, pos, bandwidth, _ = make([9])
    kept = [0, 2, 3, 5, 8]
    masked = torch.full_like(logits, -math.inf)
    masked[kept, 0], masked[:, 1] = logits[kept, 0], logits[:, 1]
    found = localize(masked, pos, bandwidth, **named(read_out))
    alone = localize(logits[kept, :1], pos[kept], bandwidth[kept], **named(read_out))
    for name in ("position", "covariance", "peak", "entropy", "confidence"):
        torch.testing.assert_close(getattr(found, name)[:, :1], getattr(alone, name))
    assert found.index[0, 0] == kept[alone.index[0, 0]]
