"""What the whole cloud says of a point: attention through a few tokens per cloud."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pcsa._core.checks import check_count
from pcsa._core.points import Points, cloud_softmax, working_dtype
from pcsa.models.layers import DropPath

_TILE = 128


class LatentAttention(nn.Module):
    r"""Residual block in which every point attends to the whole of its cloud, in time linear in the points.

    The induced set attention block of `"Set Transformer" <https://arxiv.org/abs/1810.00825>`_ (Eq. 9-10), pre-normed:
    M tokens gather the points of a cloud, each by its own softmax over them; the tokens attend to each other; every
    point attends to the tokens; an MLP ends the block. Clouds may have any sizes: nothing is padded to the longest, and
    memory grows with points x (channels + tokens x heads).

    Args:
        channels: Width C of the features.
        num_tokens: M.
        num_heads: Heads of the attention.
        attention_channels: Width of queries, keys and values, a multiple of ``num_heads``. Default: a quarter of
            ``channels``, or ``channels`` where the heads do not divide that.
        hidden_channels: Width inside the MLP. Default half of ``channels``.
        drop_path: See :class:`DropPath`; of the attention and of the MLP.

    Shapes:
        - x ``[N, C]``, batch ``[N]`` and ptr ``[B + 1]``: which point is whose
        - output ``[N, C]``

    Differentiable in ``x``. A permutation of a cloud's points permutes the output.

    Example:
        >>> ptr = torch.tensor([0, 20, 50])
        >>> batch = torch.arange(2).repeat_interleave(ptr.diff())
        >>> LatentAttention(8)(torch.rand(50, 8), batch, ptr).shape
        torch.Size([50, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        num_tokens: int = 16,
        num_heads: int = 4,
        attention_channels: int | None = None,
        hidden_channels: int | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("channels", channels)
        check_count("num_tokens", num_tokens)
        check_count("num_heads", num_heads)
        if attention_channels is None:
            attention_channels = channels // 4 if channels % (4 * num_heads) == 0 else channels
        if attention_channels % num_heads:
            raise ValueError(
                f"`attention_channels` (={attention_channels}) must be a multiple of `num_heads` (={num_heads})"
            )
        hidden = max(1, channels // 2) if hidden_channels is None else hidden_channels
        check_count("hidden_channels", hidden)
        self.norm = nn.LayerNorm(channels)
        self.gather = nn.Linear(channels, num_tokens, bias=False)
        self.value = nn.Linear(channels, channels)
        self.tokens = nn.Parameter(torch.randn(num_tokens, channels) / channels**0.5)
        self.token_norm = nn.LayerNorm(channels)
        self.among = _Attention(channels, attention_channels, num_heads)
        self.key_norm = nn.LayerNorm(channels)
        self.attend = _Attention(channels, attention_channels, num_heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels)
        )
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "N C"], batch: Int[Tensor, " N"], ptr: Int[Tensor, " B_plus_1"]
    ) -> Float[Tensor, "N C"]:
        """See the class."""
        batch_size = ptr.numel() - 1
        slot, owner, size = tiles(batch, ptr)
        normed = self.norm(x)
        tiled = normed.new_zeros(owner.numel() * size, x.shape[1]).index_copy(0, slot, normed)
        score = self.gather(normed)
        score = score.to(working_dtype(score))
        weight = cloud_softmax(score, Points(score, score, None, batch, ptr, batch_size, None))
        weight = weight.new_zeros(tiled.shape[0], weight.shape[1]).index_copy(0, slot, weight).to(tiled.dtype)
        tiled = tiled.view(-1, size, x.shape[1])
        part = weight.view(-1, size, weight.shape[1]).transpose(1, 2) @ tiled
        part = part.to(score.dtype)
        mean = part.new_zeros(batch_size, *part.shape[1:]).index_add(0, owner, part).to(x.dtype)
        tokens = self.tokens + self.value(mean)
        normed_tokens = self.token_norm(tokens)
        tokens = self.key_norm(tokens + self.among(normed_tokens, normed_tokens))
        found = self.attend(tiled, tokens, owner).flatten(0, 1).index_select(0, slot)
        x = x + self.drop_path(found, batch, batch_size)
        return x + self.drop_path(self.mlp(x), batch, batch_size)


class _Attention(nn.Module):
    """Multi-head attention of queries ``[M, Q, C]`` to ``[B, T, C]``; ``owner [M]`` is the batch's row for each M."""

    def __init__(self, channels: int, attention_channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(channels, attention_channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * attention_channels, bias=False)
        self.out = nn.Linear(attention_channels, channels)

    def forward(self, x: Tensor, tokens: Tensor, owner: Tensor | None = None) -> Tensor:
        key_value = self.key_value(tokens)
        if owner is not None:
            key_value = key_value.index_select(0, owner)
        query, key, value = (self._heads(y) for y in (self.query(x), *key_value.chunk(2, -1)))
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def tiles(batch: Int[Tensor, " N"], ptr: Int[Tensor, " B_plus_1"]) -> tuple[Tensor, Tensor, int]:
    """Cut the clouds into tiles of one size, so that they share batched products, whatever their sizes.

    There are as many tiles as are always enough, 1.5 N points at most: the exact number would have to be read from the
    device.

    Returns:
        - **slot** ``[N]``: place of each point in the tiles laid end to end
        - **owner** ``[M]``: cloud of each tile; some at the end may be without points
        - **size**: points in a tile
    """
    num_points, batch_size = batch.numel(), ptr.numel() - 1
    size = min(max(num_points // (2 * batch_size), 1), _TILE)
    per_cloud = (ptr.diff() + (size - 1)).div(size, rounding_mode="floor")
    last = per_cloud.cumsum(0)
    index = torch.arange(num_points, device=ptr.device)
    slot = index + ((last - per_cloud) * size - ptr[:-1]).index_select(0, batch)
    tile = torch.arange(num_points // size + batch_size, device=ptr.device)
    owner = torch.searchsorted(last, tile, right=True).clamp(max=batch_size - 1)
    return slot, owner, size
