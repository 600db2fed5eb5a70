"""What the authors' code for images and volumes does in place of Eq. 12."""

import torch
from torch import Tensor

from pcsa.grid.bases import Basis


def released_index(marginal: Tensor, noise: Tensor, basis: Basis, num_axes: int) -> Tensor:
    """One axis of the authors' form: marginal and noise ``[..., n]`` to index ``[...]``."""
    n = marginal.shape[-1]
    where = torch.arange(n, dtype=marginal.dtype, device=marginal.device) + noise
    if basis == "triangular":
        padded = torch.nn.functional.pad(marginal, (1, 1))
        left = where.floor().clamp(-1, n - 1)
        low = padded.gather(-1, left.long() + 1)
        marginal = low + (padded.gather(-1, left.long() + 2) - low) * (where - left)
    elif basis == "gaussian" and num_axes == 2:
        marginal = marginal * (-2 * noise.square()).exp()
    if basis == "triangular" or (basis == "gaussian" and num_axes == 2):
        marginal = marginal / marginal.sum(-1, keepdim=True).clamp_min(torch.finfo(marginal.dtype).tiny)
    index = (marginal * where).sum(-1)
    if num_axes == 2:
        index = index.detach()
        sign = torch.where(where < index.unsqueeze(-1), -2.0, 2.0)
        # Adds nothing, and has the gradient wanted.
        index = index + (sign * (marginal - marginal.detach())).sum(-1)
    return index
