"""Samples of a map by the operator, or by what the operator would run."""

import torch
from torch import Tensor

from pcsa._core.kernel import draw
from pcsa._core.triton import points as fused
from pcsa._core.triton.equal import plain


def sample(
    logits: Tensor,
    pos: Tensor,
    variance: Tensor,
    ptr: Tensor,
    seed: Tensor,
    temperature: float | Tensor,
    num_samples: int,
    mixture: bool,
    cloud_size: int,
) -> Tensor:
    """The samples of ``draw``, differentiable; where nothing looks at its operator, without that."""
    inputs = (logits, pos, variance)
    if plain(*inputs) and fused.takes(logits, pos.shape[1], variance.shape[1], mixture):
        return fused.sample(*inputs, ptr, seed, float(temperature), num_samples, mixture)
    # Copied: a schedule may step before the backward pass reads it.
    tau = torch.as_tensor(temperature, dtype=torch.float64).clone()
    return draw(*inputs, ptr, seed, tau, num_samples, mixture, cloud_size)[0]
