"""Three networks of per-point features to train a detector on: DGCNN, a PointTransformer, and a plain Transformer.

Each keeps the protocol of pcsa.models.backbone and needs nothing else of pcsa but its neighbors. From this folder:

    pcsa train supervised demo --model.backbone backbones:Dgcnn --model.backbone-options k=16 --out runs/dgcnn
    pcsa evaluate runs/dgcnn/last.ckpt --trust-backbone
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.nn import MLP, EdgeConv, PointTransformerConv
from torch_geometric.utils import to_dense_batch

from pcsa.neighbors import knn_graph


class Dgcnn(nn.Module):
    """Edge convolutions, each over the nearest neighbors among the features of the one before.

    "Dynamic Graph CNN for Learning on Point Clouds", https://arxiv.org/abs/1801.07829
    """

    def __init__(self, k: int = 16, widths: Sequence[int] = (64, 64, 128), out_channels: int = 128) -> None:
        super().__init__()
        self.k, self.out_channels = k, out_channels
        sizes = [3, *widths]
        self.convolutions = nn.ModuleList(
            EdgeConv(MLP([2 * i, o, o], plain_last=False), aggr="max") for i, o in pairwise(sizes)
        )
        self.last = MLP([sum(widths), out_channels], plain_last=False)

    def forward(self, x: Tensor | None, pos: Tensor, ptr: Tensor) -> Tensor:
        h, found = pos, []
        for convolution in self.convolutions:
            # Which points are neighbors carries no gradient.
            h = convolution(h, knn_graph(h.detach(), ptr, self.k))
            found.append(h)
        features: Tensor = self.last(torch.cat(found, 1))
        return features


class PointTransformer(nn.Module):
    """Attention of every point to its nearest ones, weighed by where they lie.

    "Point Transformer", https://arxiv.org/abs/2012.09164, at full resolution.
    """

    def __init__(self, k: int = 16, out_channels: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.k, self.out_channels = k, out_channels
        C = out_channels
        self.lift = MLP([3, C], plain_last=False)
        self.attention = nn.ModuleList(
            PointTransformerConv(C, C, pos_nn=MLP([3, C, C], norm=None), attn_nn=MLP([C, C, C], norm=None))
            for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(C) for _ in range(depth))

    def forward(self, x: Tensor | None, pos: Tensor, ptr: Tensor) -> Tensor:
        edges = knn_graph(pos, ptr, self.k)
        h: Tensor = self.lift(pos)
        for attention, norm in zip(self.attention, self.norms, strict=True):
            h = h + norm(attention(h, pos, edges)).relu()
        return h


class DenseTransformer(nn.Module):
    """PyTorch's own encoder on padded clouds [B, N, C], with a mask where a cloud has no point."""

    def __init__(self, out_channels: int = 64, depth: int = 2, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.lift = nn.Sequential(nn.Linear(3, out_channels), nn.GELU(), nn.Linear(out_channels, out_channels))
        layer = nn.TransformerEncoderLayer(
            out_channels, heads, 2 * out_channels, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, x: Tensor | None, pos: Tensor, batch: Tensor) -> Tensor:
        dense, there = to_dense_batch(self.lift(pos), batch)
        features: Tensor = self.encoder(dense, src_key_padding_mask=~there)[there]
        return features
