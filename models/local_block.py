"""What the points around a point say of it, at full resolution."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pcsa._core.checks import check_count, check_positive
from pcsa._core.points import full_precision
from pcsa.models.layers import DropPath, NormKind, PointNorm


class LocalBlock(nn.Module):
    r"""Residual block over the neighbors of every point.

    The inverted residual block of `"PointNeXt" <https://arxiv.org/abs/2206.04670>`_, with a bottleneck in place of its
    expansion: one linear layer before the neighborhood's maximum, one after it.

    .. math:: f_i \leftarrow \mathrm{relu}\bigl(f_i + W\,\mathrm{relu}(\max_j W_f f_j + W_x (x_j - x_i)/r)\bigr)

    with a norm after the maximum and after W. The linear layer runs before grouping, which is the same algebra on fewer
    rows, and the norm after the maximum, so that nothing of size neighbors x channels is kept.

    Args:
        channels: Width of the features.
        hidden_channels: Width inside. Default half of ``channels``.
        radius: Unit of the offsets, r, in the units of ``pos``: about what the neighbors span.
        norm: See :class:`PointNet2`.
        drop_path: See :class:`DropPath`.

    Shapes:
        - x ``[N, channels]``, pos ``[N, 3]``, neighbors ``[N, k]`` rows of the points, batch ``[N]``
        - output ``[N, channels]``

    Differentiable in ``x`` and ``pos``.

    Example:
        >>> import torch
        >>> from pcsa.neighbors import knn
        >>> pos, ptr = torch.rand(50, 3), torch.tensor([0, 20, 50])
        >>> batch = torch.arange(2).repeat_interleave(ptr.diff())
        >>> LocalBlock(8)(torch.rand(50, 8), pos, knn(pos, ptr, 4).index, batch, 2).shape
        torch.Size([50, 8])
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int | None = None,
        *,
        radius: float = 0.1,
        norm: NormKind = "batch",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("channels", channels)
        hidden = max(1, channels // 2) if hidden_channels is None else hidden_channels
        check_count("hidden_channels", hidden)
        check_positive("radius", radius)
        self.radius = radius
        self.of_features = nn.Linear(channels, hidden, bias=False)
        self.of_offset = nn.Linear(3, hidden, bias=norm == "none")
        self.norm = PointNorm(norm, hidden)
        self.out = nn.Linear(hidden, channels, bias=norm == "none")
        self.out_norm = PointNorm(norm, channels)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Float[Tensor, "N C"],
        pos: Float[Tensor, "N 3"],
        neighbors: Int[Tensor, "N k"],
        batch: Int[Tensor, " N"],
        batch_size: int,
    ) -> Float[Tensor, "N C"]:
        """See the class."""
        # The positions' part cancels: not in half precision.
        with full_precision(pos):
            weight = self.of_offset.weight / self.radius
            points, origin = F.linear(pos, weight, self.of_offset.bias), F.linear(pos, weight)
        h = gathered_maximum(points + self.of_features(x), neighbors) - origin
        branch = self.out_norm(self.out(self.norm.activated(h)))
        return F.relu(x + self.drop_path(branch, batch, batch_size))


def gathered_maximum(x: Float[Tensor, "N C"], index: Int[Tensor, "M k"]) -> Float[Tensor, "M C"]:
    """Maximum over the rows ``x[index]`` of each of M, ``[M, C]``; differentiable in ``x``."""
    # The fused maximum never holds [M, k, C], and takes a third of the time with its backward.
    return F.embedding_bag(index, x, mode="max")
