import pytest
import torch

# How far two ways of computing the same thing may lie apart: (relative, absolute) for values of order 1.
TOLERANCES = {torch.float64: (1e-9, 1e-10), torch.float32: (1e-4, 1e-5)}


@pytest.fixture
def close():
    """Compare two tensors of one dtype within that dtype's tolerance."""

    def check(actual: torch.Tensor, expected: torch.Tensor, scale: float = 1.0) -> None:
        rtol, atol = TOLERANCES[actual.dtype]
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol * scale)

    return check
