"""Bases: shapes of a cell's density, and noise of every index of every axis."""

from typing import Literal

import torch
from torch import Tensor

from pcsa._core.marginals import basis_noise

Basis = Literal["triangular", "uniform", "gaussian"]


def noise_per_index(marginals: list[Tensor], basis: Basis, seed: Tensor) -> list[Tensor]:
    """Draw a number from the basis for every index of every axis."""
    like = torch.cat([m.detach() for m in marginals], -1)
    return list(basis_noise(like, seed, basis).split([m.shape[-1] for m in marginals], -1))
