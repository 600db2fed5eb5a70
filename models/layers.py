"""Layers that the networks on points share."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcsa._core.checks import check_between
from pcsa._core.transforms import plain
from pcsa._core.triton import norms

NormKind = Literal["batch", "group", "none"]


class PointNorm(nn.Module):
    """Normalization of rows of features; in train mode, batch norm takes a single row by its running statistics."""

    def __init__(self, kind: NormKind, channels: int) -> None:
        super().__init__()
        self.norm: nn.Module
        if kind == "batch":
            self.norm = nn.BatchNorm1d(channels)
        elif kind == "group":
            self.norm = nn.GroupNorm(math.gcd(channels, max(1, channels // 16)), channels)
        else:
            self.norm = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, nn.BatchNorm1d) and self.training and x.shape[0] == 1:
            # One row has no variance: normalized by what was seen before.
            n = self.norm
            return F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, False, eps=n.eps)
        return self.norm(x)

    def activated(self, x: Tensor, size: int = 1) -> Tensor:
        """ReLU of the normalized rows ``[M * size, C]``, the largest of ``size`` at a time: ``[M, C]``."""
        if norms.takes(x, self.norm, size):
            return norms.normalized_maximum(x, cast(nn.BatchNorm1d, self.norm), size)
        return largest(F.relu(self(x), inplace=True), size)


def largest(x: Tensor, size: int) -> Tensor:
    """Maximum over ``size`` of the rows ``[M * size, C]`` at a time: ``[M, C]``; of equal rows the first counts."""
    if size == 1:
        return x
    if x.device.type == "cpu" and x.numel() and plain():
        # Pooling of images with their channels last finds values and places with vector instructions, in a fifth of
        # the time of `max`, which finds the same ones.
        image = x.view(1, -1, size, x.shape[1]).permute(0, 3, 1, 2)
        found: Tensor = F.max_pool2d(image, (1, size))
        return found.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    # Not amax: its backward pass over all rows costs more than the indices.
    return x.view(-1, size, x.shape[1]).max(1).values


class PointMLP(nn.Sequential):
    """Linear layers, each with its norm and ReLU."""

    def forward(self, x: Tensor, size: int = 1) -> Tensor:
        """Run the layers on rows ``[M * size, C]``; of ``size`` results at a time the largest remain, ``[M, C]``."""
        layers = list(self)
        if not layers:
            return largest(x, size)
        for i in range(0, len(layers), 3):
            norm = cast(PointNorm, layers[i + 1])
            x = norm.activated(layers[i](x), size if i + 3 == len(layers) else 1)
        return x


def mlp(channels: Sequence[int], norm: NormKind) -> PointMLP:
    """Linear layers of these widths, each with its norm and ReLU."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(channels):
        layers += [nn.Linear(a, b, bias=norm == "none"), PointNorm(norm, b), nn.ReLU(inplace=True)]
    return PointMLP(*layers)


class DropPath(nn.Module):
    """Stochastic depth: while training, leave out a residual branch for some clouds of the batch.

    `"Deep Networks with Stochastic Depth" <https://arxiv.org/abs/1603.09382>`_. Each cloud draws for itself. The branch
    of the others is divided by the share that stays, so that its expectation does not change and testing needs no
    factor. The draw is from torch's own generator, as in :class:`torch.nn.Dropout`.

    Args:
        probability: Probability that a cloud does without the branch, from 0 to below 1; 0 draws nothing.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        check_between("drop_path", probability, 0, 1, "[)")
        self.probability = probability

    def forward(self, branch: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Return the branch ``[N, C]`` of clouds ``batch [N]``, times 0 or 1 / (1 - probability) for each cloud."""
        if not self.training or not self.probability:
            return branch
        factor = F.dropout(torch.ones(batch_size, 1, dtype=branch.dtype, device=branch.device), self.probability)
        return branch * factor.index_select(0, batch)

    def extra_repr(self) -> str:
        return f"{self.probability:g}"
