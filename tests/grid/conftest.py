import warnings

import pytest
import torch
from scipy import stats

BASES = ["uniform", "triangular", "gaussian"]


@pytest.fixture(params=[(7,), (3, 4), (2, 3, 4)], ids=str)
def shape(request):
    """Sizes of the axes of a grid."""
    return request.param


@pytest.fixture(params=BASES)
def basis(request):
    return request.param


@pytest.fixture(
    params=[
        {"basis": basis, "noise_axes": axes, "basis_noise": noise}
        for basis in BASES
        for axes in ("joint", "marginal")
        for noise in ("relaxed", "mixture")
        if axes == "marginal" or basis == "gaussian"
    ],
    ids=lambda way: "-".join(way.values()),
)
def way(request):
    """A way to draw that is the paper's."""
    return request.param


@pytest.fixture(scope="session")
def seeded():
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def maps(seeded):
    def make(shape, batch_size=2, num_keypoints=2, seed=0, dtype=torch.float64, spread=1.5):
        return spread * torch.randn((batch_size, num_keypoints, *shape), generator=seeded(seed), dtype=dtype)

    return make


@pytest.fixture(scope="session")
def densities():
    return {"uniform": stats.uniform(-0.5, 1), "triangular": stats.triang(0.5, -1, 2), "gaussian": stats.norm()}


@pytest.fixture(scope="session")
def same_mean():
    def check(a, b):
        error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() <= 5 * error + 1e-9).all(), (a.mean(0), b.mean(0), error)

    return check


@pytest.fixture(scope="session")
def oracle():
    """Import an independent soft-argmax, or skip the test."""

    def load(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip(name, reason=f"{name}, an independent soft-argmax, is not installed")

    return load
