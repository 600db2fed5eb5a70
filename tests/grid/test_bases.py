import pytest
import torch
from scipy import stats

from pcsa._core import marginals

VARIANCE = {"uniform": 1 / 12, "triangular": 1 / 6, "gaussian": 1.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_noise_has_its_density(densities, basis, dtype):
    noise = marginals.basis_noise(torch.empty(50_000, dtype=dtype), torch.tensor(5), basis)
    assert noise.dtype == dtype
    assert stats.kstest(noise.double().numpy(), densities[basis].cdf).pvalue > 1e-3
    assert densities[basis].var() == pytest.approx(VARIANCE[basis])
    low, high = densities[basis].support()
    assert low <= noise.min()
    assert noise.max() <= high
