import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def bools():
    """`bools("1101", …)` as a [B, K] mask."""

    def make(*rows):
        return torch.tensor([[c == "1" for c in row] for row in rows])

    return make


@pytest.fixture(scope="session")
def poses():
    """Random positions of a size."""

    def make(size, seed=0, dtype=torch.float64):
        return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)

    return make


@pytest.fixture(scope="session")
def draw():
    """Predictions, annotations and ids of n shapes, each with some of the ids."""

    def make(seed, n, K, num_ids=6):
        generator = np.random.default_rng(seed)
        ids = [np.sort(generator.choice(num_ids, generator.integers(1, num_ids + 1), replace=False)) for _ in range(n)]
        return [generator.random((K, 3)) for _ in ids], [generator.random((len(i), 3)) for i in ids], ids

    return make
