import pytest
import torch

from pcsa.neighbors import interpolate, interpolation_weights, weighted_gather

RAGGED, SQUARE = (17, 1, 200, 5), (40, 40, 40)


@pytest.mark.parametrize("k", [1, 3])
def test_interpolate_gradcheck(k, clouds):
    pos, ptr = clouds((6, 2), dtype=torch.float64)
    query, query_ptr = clouds((3, 2), dtype=torch.float64, seed=1)
    features, _ = clouds((8,), 4, dtype=torch.float64, seed=2)
    inputs = [x.requires_grad_() for x in (features, pos, query)]
    assert torch.autograd.gradcheck(lambda f, p, q: interpolate(f, p, ptr, q, query_ptr, k), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [0.0, 1e-30, 1e-8, 1e-3])
def test_interpolate_at_and_near_a_point(gap, dtype):
    # w ∝ (1/gap², 1/1, 1/4): at the point the feature of the point, whatever the others are.
    pos = torch.tensor([[0.0], [1.0], [-2.0]], dtype=dtype, requires_grad=True)
    query = torch.tensor([[gap]], dtype=dtype, requires_grad=True)
    features = torch.tensor([[3.0], [5.0], [7.0]], dtype=dtype, requires_grad=True)
    out = interpolate(features, pos, torch.tensor([0, 3]), query, torch.tensor([0, 1]))
    out.sum().backward()
    # With x the query: f = (3 + x²(5/(1−x)² + 7/(2+x)²)) / (1 + x²(1/(1−x)² + 1/(2+x)²))
    #   = 3 + x²(2 + 1) + O(x³), so f' = 6x + O(x²).
    assert out.item() == pytest.approx(3 + 3 * gap**2, rel=1e-6)
    assert query.grad.item() == pytest.approx(6 * gap, rel=0.02, abs=1e-12)
    assert pos.grad.isfinite().all()
    assert features.grad.flatten().tolist() == pytest.approx([1, gap**2, gap**2 / 4], rel=0.01, abs=1e-12)


def test_interpolate_at_duplicates_is_finite():
    pos = torch.tensor([[0.0], [0.0], [0.0], [9.0]], requires_grad=True)
    features = torch.tensor([[1.0], [2.0], [6.0], [100.0]])
    out = interpolate(features, pos, torch.tensor([0, 4]), pos, torch.tensor([0, 4]))
    out.sum().backward()
    assert out[:3].flatten().tolist() == pytest.approx([3.0] * 3)  # the mean of 1, 2, 6
    assert pos.grad.isfinite().all()


@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_interpolate_naive(sizes, backend, clouds, naive_neighbors):
    pos, ptr = clouds(sizes, dtype=torch.float64)
    query, query_ptr = clouds((9,) * len(sizes), dtype=torch.float64, seed=1)
    features, _ = clouds((len(pos),), 5, dtype=torch.float64, seed=2)
    out = interpolate(features, pos, ptr, query, query_ptr, backend=backend)
    for i, rows in enumerate(naive_neighbors(pos, ptr, query, query_ptr, 3)):
        weight = torch.tensor([1 / d for _, d in rows], dtype=torch.float64)
        expected = (weight[:, None] * features[[j for j, _ in rows]]).sum(0) / weight.sum()
        torch.testing.assert_close(out[i], expected)
    index, weight = interpolation_weights(pos, ptr, query, query_ptr, backend=backend)
    assert (weight >= 0).all()
    torch.testing.assert_close(weight.sum(1), torch.ones_like(weight[:, 0]))
    assert torch.equal(weighted_gather(features, index, weight), out)
