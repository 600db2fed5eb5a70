import pytest
import torch

from pcsa._core.triangular import (
    axis_deviations,
    cholesky,
    covariance_columns,
    lower_columns,
    lower_matrix,
    lower_times,
    num_axes,
)


def factors(n, dim, seed=0):
    drawn = torch.randn(n, dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.tril(-1) + torch.diag_embed(drawn.diagonal(dim1=1, dim2=2).abs() + 0.1)


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_against_the_linear_algebra_of_torch(dim):
    factor = factors(5, dim)
    covariance = factor @ factor.mT
    columns = lower_columns(factor)
    assert num_axes(columns.shape[1]) == dim
    assert torch.equal(lower_matrix(columns), factor)
    torch.testing.assert_close(covariance_columns(factor), lower_columns(covariance))
    torch.testing.assert_close(covariance_columns(factor, 2.0), lower_columns(covariance + 2 * torch.eye(dim)))
    torch.testing.assert_close(lower_matrix(cholesky(lower_columns(covariance))), torch.linalg.cholesky(covariance))
    torch.testing.assert_close(axis_deviations(factor), covariance.diagonal(dim1=1, dim2=2).sqrt())
    vector = torch.randn(2, 5, dim, dtype=torch.float64)
    torch.testing.assert_close(lower_times(columns, vector), (factor @ vector.unsqueeze(-1)).squeeze(-1))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_gradients(dim):
    factor = factors(3, dim).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: cholesky(covariance_columns(f, 0.3)), factor)
    assert torch.autograd.gradcheck(axis_deviations, factor)


@pytest.mark.parametrize(
    "directions",
    [[], [[1.0, 2.0, -1.0]], [[0.0, 0.0, 1.0]], [[0.0, 3.0, 1.0]], [[1.0, 2.0, -1.0], [1.0, 0.0, 1.0]]],
)
def test_a_rank_that_is_not_full_is_no_nan(directions):
    # The sum of the outer products of so many vectors.
    across = torch.tensor(directions).reshape(-1, 3)
    columns = lower_columns((across.T @ across)[None]).requires_grad_()
    factor = cholesky(columns)
    whole = lower_matrix(factor)[0]
    torch.testing.assert_close(whole @ whole.T, across.T @ across)
    factor.sum().backward()
    assert columns.grad.isfinite().all()


def test_tiny_deviations_are_not_zero():
    factor = torch.diag_embed(torch.full((1, 3), 1e-30))
    factor[:, 2, 0] = 1e-30
    torch.testing.assert_close(axis_deviations(factor)[0] * 1e30, torch.tensor([1.0, 1.0, 2**0.5]))
