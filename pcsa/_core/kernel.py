"""The one place where samples are drawn: Eq. 11-12, streamed over points and samples.

Clouds are cut into blocks of a fixed number of points, so that clouds of any size share the same batched
arithmetic and none is padded to the longest. A pass runs over tiles of [blocks, K, samples, points]; only the
sums over points survive a tile, so the memory needed does not grow with the number of samples. The backward
pass draws the noise of every tile again from the forward pass's seed.

Both passes are opaque operators: inside, the number of blocks may be read from `ptr` on the CPU, where that
costs nothing, without breaking the graph of a compiled caller. The temperature comes as a tensor on the CPU:
a number would be compiled in, and a schedule would compile anew at every step.

Where Triton's kernels run, the same sums are made by `pcsa._core.triton.points`, from noise of its own.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcsa._core.points import full_precision
from pcsa._core.tiles import in_order, one_thread
from pcsa._core.transforms import keep_nothing, map_one_by_one, transformable
from pcsa._core.triton import points as fused

# Elements of one tile: a few tiles fit the cache of a CPU core; on an accelerator, few launches matter more.
_TILE_CPU = 1 << 18
_TILE_DEVICE = 1 << 24
_MAX_BLOCK = 2048
_MIN_BLOCK = 64
_LOG2_E = math.log2(math.e)


class _Blocks(NamedTuple):
    logits: Tensor  # [M, K, P], less their cloud's maximum, over the temperature, base 2; -inf in padding
    pos: Tensor  # [M, P, D]
    variance: Tensor  # [M, P, 1] or [M, P, D]
    owner: Tensor  # [M] cloud of each block
    rows: Tensor | None  # [M, P] row of each entry, N for padding; None where the blocks are the rows in order
    num_clouds: int
    highest: Tensor  # [B, K] largest logit of each cloud


def _block_size(num_points: int, num_clouds: int, cloud_size: int) -> int:
    """Points in a block: equal parts of equal clouds, else a quarter of the mean size.

    Below _MIN_BLOCK points to a quarter the mean size itself: clouds of a few points would be mostly padding.
    """
    if cloud_size:
        return -(-cloud_size // -(-cloud_size // _MAX_BLOCK))
    smallest = min(_MIN_BLOCK, -(-num_points // num_clouds))
    return min(max(num_points // (4 * num_clouds), smallest), _MAX_BLOCK)


def _cut(logits: Tensor, pos: Tensor, variance: Tensor, ptr: Tensor, temperature: float, cloud_size: int) -> _Blocks:
    """Blocks of the clouds; ``cloud_size`` is 0 where they may differ in size."""
    N, K = logits.shape
    B = ptr.numel() - 1
    sizes = ptr[1:] - ptr[:-1]
    if not cloud_size and ptr.device.type == "cpu" and bool((sizes == sizes[0]).all()):
        cloud_size = int(sizes[0])
    P = _block_size(N, B, cloud_size)
    per_cloud = (sizes + P - 1).div(P, rounding_mode="floor")
    if cloud_size:
        M = B * -(-cloud_size // P)
    elif ptr.device.type == "cpu":
        M = int(per_cloud.sum())
    else:
        # Reading the exact number from an accelerator would wait for it: this many are always enough.
        M = N // P + B
    last = per_cloud.cumsum(0)
    block = torch.arange(M, device=ptr.device)
    owner = torch.searchsorted(last, block, right=True)
    spare = owner >= B  # blocks beyond the last cloud, where M is only a bound
    owner = owner.clamp_max(B - 1)
    start = ptr[owner] + (block - (last - per_cloud)[owner]) * P
    if M * P == N:  # every block is full: there is no padding, and the rows are in order
        scaled, highest = _scaled(logits.view(M, P, K).transpose(1, 2).contiguous(), owner, B, temperature)
        return _Blocks(scaled, pos.view(M, P, -1), variance.reshape(M, P, -1), owner, None, B, highest)
    rows = start[:, None] + torch.arange(P, device=ptr.device)
    rows = rows.masked_fill((rows >= ptr[owner + 1][:, None]) | spare[:, None], N)
    flat = rows.flatten()

    def gather(x: Tensor, padding: float) -> Tensor:
        padded = torch.cat([x, x.new_full((1, x.shape[1]), padding)])
        return padded.index_select(0, flat).view(M, P, -1)

    scaled, highest = _scaled(gather(logits, -math.inf).transpose(1, 2).contiguous(), owner, B, temperature)
    return _Blocks(scaled, gather(pos, 0.0), gather(variance, 0.0), owner, rows, B, highest)


def _scaled(logits: Tensor, owner: Tensor, num_clouds: int, temperature: float) -> tuple[Tensor, Tensor]:
    """(logits - their cloud's maximum) / temperature, base 2, and that maximum.

    A common offset must not swallow the noise.
    """
    top = logits.amax(-1)
    index = owner[:, None].expand_as(top)
    largest = top.new_full((num_clouds, top.shape[1]), -math.inf).scatter_reduce_(0, index, top, "amax")
    return (logits - largest.index_select(0, owner).unsqueeze(-1)).mul_(_LOG2_E / temperature), largest


def _uncut(x: Tensor, blocks: _Blocks, num_rows: int) -> Tensor:
    """Back from [M, P, C] to contiguous rows [N, C]."""
    if blocks.rows is None:
        return x.reshape(num_rows, -1).contiguous()
    out = x.new_empty(num_rows + 1, x.shape[-1])
    out[blocks.rows.flatten()] = x.reshape(-1, x.shape[-1])
    return out[:-1]


def _tiles(blocks: _Blocks, num_samples: int, parts: int = 1) -> list[tuple[slice, slice]]:
    """Ranges of samples and, within each, ranges of blocks: the order in which noise is drawn.

    A tile may be made smaller, by dividing it into ``parts``.
    """
    M, K, P = blocks.logits.shape
    tile = (_TILE_CPU if blocks.logits.device.type == "cpu" else _TILE_DEVICE) // parts
    many_samples = min(num_samples, max(1, tile // (K * P)))
    many_blocks = max(1, tile // (K * P * many_samples))
    return [
        (slice(s, min(s + many_samples, num_samples)), slice(m, min(m + many_blocks, M)))
        for s in range(0, num_samples, many_samples)
        for m in range(0, M, many_blocks)
    ]


class _Noise:
    """Log-exponential noise from one seed: the same numbers for the same sequence of calls.

    A Gumbel draw is -ln E with E exponential. On a CPU torch's generators take most of a sample's time:
    `exponential_` 20 ns a number, `uniform_` 3.5 ns, NumPy's SFC64 1 ns.
    """

    def __init__(self, seed: Tensor, device: torch.device) -> None:
        self.device = device
        if device.type == "cpu":
            self.raw = np.random.SFC64(int(seed))
        else:
            self.generator = torch.Generator(device).manual_seed(int(seed))

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Standard normal numbers."""
        if self.device.type == "cpu":
            drawn = np.random.Generator(self.raw).standard_normal(shape)
            return torch.from_numpy(drawn).to(dtype)
        return torch.randn(shape, dtype=dtype, device=self.device, generator=self.generator)

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Numbers between 0 and 1."""
        if self.device.type == "cpu":
            return torch.from_numpy(np.random.Generator(self.raw).random(shape)).to(dtype)
        return torch.rand(shape, dtype=dtype, device=self.device, generator=self.generator)

    def log2_exponential(self, shape: tuple[int, ...], dtype: torch.dtype) -> Callable[[], Tensor]:
        """Draw now what makes log2 E with E exponential, finite; what is returned makes it, in any thread.

        E = -log1p(-v) with v uniform, finest near 0: the few smallest E of a cloud decide a sample, and with v
        rounded to 2^-24 they would tie in clouds of 10^5 points.
        """
        if self.device.type != "cpu":
            noise = torch.empty(shape, dtype=dtype, device=self.device).exponential_(generator=self.generator)
            return lambda: noise.clamp_min_(2.0**-32).log2_()
        size = math.prod(shape)
        raw = self.raw.random_raw((size + 1) // 2 if dtype == torch.float32 else size)

        def finished() -> Tensor:
            if dtype == torch.float32:
                v = torch.from_numpy(raw.view(np.int32))[:size].bitwise_and_(0x7FFFFFFF).to(dtype)
                step, below_one = 2.0**-31, 1 - 2.0**-24
            else:
                v = torch.from_numpy(raw >> np.uint64(11)).to(dtype)
                step, below_one = 2.0**-53, 1 - 2.0**-53
            v = v.mul_(-step).clamp_(-below_one, -step / 2)
            return v.log1p_().neg_().log2_().view(shape)

        return finished


Perturbed = Callable[[], Tensor]


def _perturbed(logits: Tensor, num_samples: int, temperature: float, noise: _Noise) -> Perturbed:
    """Draw a tile's noise now; what is returned makes log2 of its unnormalized weights, [m, K, S, P], in any thread.

    They are (logits + Gumbel noise) / temperature, base 2 throughout, because `exp2` takes half the time of `exp`;
    factors common to a cloud cancel.
    """
    m, K, P = logits.shape
    noise_of_tile = noise.log2_exponential((m, K, num_samples, P), logits.dtype)

    def finished() -> Tensor:
        drawn = noise_of_tile()
        return torch.add(logits[:, :, None], drawn, alpha=-1.0 / temperature, out=drawn)

    return finished


def _spread(blocks: _Blocks, x: Tensor) -> Tensor:
    """From clouds to their blocks."""
    return x.index_select(0, blocks.owner)


def _sums(
    blocks: _Blocks,
    columns: Tensor,
    squared: Tensor | None,
    num_samples: int,
    tau: float,
    noise: _Noise,
    threads: int,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Sum columns [M, C, P] of the points with the weights, and others with their squares, for a range of samples each.

    Yields the range, log2 of the largest weight of each cloud [B, K, S], and the sums relative to it [B, K, S, C].
    """
    (M, K, _), B, C = blocks.logits.shape, blocks.num_clouds, columns.shape[1]

    def summed(m: slice, perturbed: Perturbed) -> tuple[Tensor, Tensor]:
        weight = perturbed()
        # A block's own maximum keeps exp2() in range; blocks are brought to their cloud's maximum below.
        # A block of nothing but padding has none: any number will do.
        largest = weight.amax(-1, keepdim=True)
        top = largest.squeeze(-1).clone()
        weight.sub_(largest.clamp_min_(torch.finfo(weight.dtype).min)).exp2_()
        # Points are summed with the few columns on the left: three times as fast as on the right.
        flat = weight.flatten(1, 2).transpose(1, 2)
        if squared is None:
            return top, columns[m] @ flat
        return top, torch.cat([columns[m] @ flat, squared[m] @ flat.square_()], 1)

    tiles = _tiles(blocks, num_samples)
    tasks = (partial(summed, m, _perturbed(blocks.logits[m], s.stop - s.start, tau, noise)) for s, m in tiles)
    parts: list[tuple[Tensor, Tensor]] = []
    for part, (of_samples, m) in zip(in_order(tasks, threads), tiles, strict=True):
        parts.append(part)
        if m.stop < M:
            continue
        top, sums = (torch.cat(x) if len(x) > 1 else x[0] for x in zip(*parts, strict=True))
        parts.clear()
        S = of_samples.stop - of_samples.start
        sums = sums.view(M, -1, K, S)
        index = blocks.owner.view(-1, 1, 1).expand_as(top)
        cloud_top = top.new_full((B, K, S), -math.inf).scatter_reduce_(0, index, top, "amax")
        factor = (top - _spread(blocks, cloud_top)).exp2_().unsqueeze_(1)
        sums[:, :C] *= factor
        if squared is not None:
            sums[:, C:] *= factor.square()
        total = sums.new_zeros(B, *sums.shape[1:])
        total.scatter_add_(0, index.unsqueeze(1).expand_as(sums), sums)
        yield of_samples, cloud_top, total.permute(0, 2, 3, 1)


def _draw(
    logits: Tensor,
    pos: Tensor,
    variance: Tensor,
    ptr: Tensor,
    seed: Tensor,
    temperature: Tensor,
    num_samples: int,
    mixture: bool,
    cloud_size: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples [B, K, S, D], and for the backward pass log2-normalizers [B, K, S] and variances [B, K, S, 1|D].

    Normalizers are relative to the clouds' largest logits [B, K], which come last.
    """
    if fused.takes(logits, pos.shape[1], variance.shape[1], mixture):
        return fused.draw(logits, pos, variance, ptr, seed, temperature, num_samples, mixture)
    with one_thread(logits.device) as threads:
        tau = float(temperature)
        blocks = _cut(logits, pos, variance, ptr, tau, cloud_size)
        K = blocks.logits.shape[1]
        B, D, axes = blocks.num_clouds, pos.shape[1], variance.shape[1]
        noise = _Noise(seed, logits.device)
        samples = noise.normal((B, K, num_samples, D), logits.dtype)
        log_norm = logits.new_empty(B, K, num_samples)
        basis_variance = logits.new_empty(B, K, num_samples, axes)
        ones = torch.ones_like(blocks.pos[..., :1])
        columns = torch.cat([blocks.pos, ones] + ([blocks.variance] if mixture else []), -1)
        columns, variances = (x.transpose(1, 2).contiguous() for x in (columns, blocks.variance))

        squared = None if mixture else variances
        for of_samples, cloud_top, total in _sums(blocks, columns, squared, num_samples, tau, noise, threads):
            norm = total[..., D : D + 1]
            std2 = total[..., D + 1 :] / (norm if mixture else norm.square())
            log_norm[:, :, of_samples] = norm.squeeze(-1).log2() + cloud_top
            basis_variance[:, :, of_samples] = std2
            samples[:, :, of_samples] *= std2.sqrt()
            samples[:, :, of_samples] += total[..., :D] / norm
        return samples, log_norm, basis_variance, blocks.highest


def _draw_fake(logits, pos, variance, ptr, seed, temperature, num_samples, mixture, cloud_size):  # type: ignore[no-untyped-def]
    B, K = ptr.shape[0] - 1, logits.shape[1]
    return (
        logits.new_empty(B, K, num_samples, pos.shape[1]),
        logits.new_empty(B, K, num_samples),
        logits.new_empty(B, K, num_samples, variance.shape[1]),
        logits.new_empty(B, K),
    )


def _draw_backward(
    grad: Tensor,
    samples: Tensor,
    log_norm: Tensor,
    basis_variance: Tensor,
    highest: Tensor,
    logits: Tensor,
    pos: Tensor,
    variance: Tensor,
    ptr: Tensor,
    seed: Tensor,
    temperature: Tensor,
    mixture: bool,
    cloud_size: int,
    need_logits: bool,
    need_pos: bool,
    need_variance: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to logits [N, K], pos [N, D] and variance [N, 1|D] (empty where not needed).

    With p the weights of one sample, g its gradient, e its noise, std its basis deviation:
    G_i = dL/dp_i = <g, y_i> + c p_i v_i (mixture: c v_i / 2) with c = g e / std, v = sigma^2, and
    dL/dl_i = sum_s p_i (G_i - sum_j p_j G_j) / temperature.
    """
    need = (need_logits, need_pos, need_variance)
    if fused.takes(logits, pos.shape[1], variance.shape[1], mixture):
        inputs = (logits, pos, variance, ptr, seed, temperature)
        return fused.draw_backward(grad, samples, log_norm, basis_variance, highest, *inputs, mixture, *need)
    with one_thread(logits.device) as threads:
        tau = float(temperature)
        blocks = _cut(logits, pos, variance, ptr, tau, cloud_size)
        _, K, P = blocks.logits.shape
        D, axes = pos.shape[1], variance.shape[1]
        num_samples = samples.shape[2]
        noise = _Noise(seed, logits.device)
        # Drawn first in the forward pass, hence drawn first here.
        basis = noise.normal(tuple(samples.shape), logits.dtype)
        std = basis_variance.sqrt()
        along = (grad * basis).sum(-1, keepdim=True) if axes == 1 else grad * basis
        half = 0.5 if mixture else 1.0
        # c (half of it under the mixture). A variance below the smallest number is 0, and so is what it multiplies.
        pull = half * along / std.clamp_min(torch.finfo(std.dtype).tiny ** 0.5)
        # sum_j p_j G_j; under relaxed noise it is <g, sample> exactly.
        mean_grad = (grad * samples).sum(-1, keepdim=True)
        if mixture:
            mean_grad = mean_grad - 0.5 * (along * std).sum(-1, keepdim=True)
        rows = torch.cat([grad, -mean_grad], -1)  # times [y, 1]: <g, y> - sum_j p_j G_j
        columns = torch.cat([blocks.pos, torch.ones_like(blocks.pos[..., :1])], -1)
        if mixture:
            rows, columns = torch.cat([rows, pull], -1), torch.cat([columns, blocks.variance], -1)
        columns = columns.transpose(1, 2).contiguous()
        rows, pull, shift = _spread(blocks, rows), _spread(blocks, pull), _spread(blocks, log_norm)
        variances = blocks.variance.transpose(1, 2).contiguous()

        grad_logits = torch.zeros_like(blocks.logits) if need_logits else None
        grad_pos = torch.zeros_like(blocks.pos) if need_pos else None
        grad_variance = torch.zeros_like(blocks.variance) if need_variance else None

        def gradients(of_samples: slice, m: slice, perturbed: Perturbed) -> list[tuple[Tensor, Tensor]]:
            """Of the tile's points: where each part of the gradient is added, and the part."""
            S, found = of_samples.stop - of_samples.start, []
            weight = perturbed()
            weight.sub_(shift[m, :, of_samples, None]).exp2_()
            size = weight.shape[0]
            flat = weight.view(size, K * S, P)
            row = rows[m, :, of_samples].reshape(size, K * S, -1)
            c = pull[m, :, of_samples].reshape(size, K * S, axes)
            if grad_pos is not None:
                found.append((grad_pos[m], flat.transpose(1, 2) @ row[..., :D]))
            if grad_logits is not None:
                found.append((grad_logits[m], (row @ columns[m]).view_as(weight).mul_(weight).sum(2)))
            square = flat if mixture else flat.square_()
            if grad_logits is not None and not mixture:
                # sum over samples of c p^2, then times the variance: [K, axes, S] @ [K, S, P]
                pulled = c.view(size, K, S, axes).transpose(2, 3) @ square.view_as(weight)
                found.append((grad_logits[m], (pulled * variances[m, None]).sum(2)))
            if grad_variance is not None:
                found.append((grad_variance[m], square.transpose(1, 2) @ (c if mixture else 0.5 * c)))
            return found

        tasks = (
            partial(gradients, s, m, _perturbed(blocks.logits[m], s.stop - s.start, tau, noise))
            for s, m in _tiles(blocks, num_samples)
        )
        for found in in_order(tasks, threads):
            for total, part in found:
                total += part
        if grad_logits is not None:
            grad_logits = grad_logits.div_(tau).transpose(1, 2)
        parts = (grad_logits, grad_pos, grad_variance)
        N = logits.shape[0]
        out = [logits.new_empty(0) if part is None else _uncut(part, blocks, N) for part in parts]
        return out[0], out[1], out[2]


def _draw_backward_fake(  # type: ignore[no-untyped-def]
    grad,
    samples,
    log_norm,
    basis_variance,
    highest,
    logits,
    pos,
    variance,
    ptr,
    seed,
    temperature,
    mixture,
    cloud_size,
    need_logits,
    need_pos,
    need_variance,
):
    return tuple(
        torch.empty_like(x) if needed else x.new_empty(0)
        for x, needed in ((logits, need_logits), (pos, need_pos), (variance, need_variance))
    )


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    logits, pos, variance, ptr, seed, temperature, _, mixture, cloud_size = inputs
    samples, log_norm, basis_variance, highest = output
    ctx.mark_non_differentiable(log_norm, basis_variance, highest)
    ctx.save_for_backward(samples, log_norm, basis_variance, highest, logits, pos, variance, ptr, seed, temperature)
    ctx.mixture, ctx.cloud_size = mixture, cloud_size


def _backward(ctx, grad, _log_norm, _basis_variance, _highest):  # type: ignore[no-untyped-def]
    need = ctx.needs_input_grad[:3]
    # backward() may be called inside the caller's autocast region.
    with full_precision(grad):
        grads = draw_backward(grad, *ctx.saved_tensors, ctx.mixture, ctx.cloud_size, *need)
    return (*(g if needed else None for g, needed in zip(grads, need, strict=True)), *[None] * 6)


def _twice(ctx, *grads):  # type: ignore[no-untyped-def]
    raise RuntimeError("autograd: sampling_argmax can be differentiated once only")


# Not torch.library.custom_op: its first call imports the compiler, which takes longer than many a first step.
_LIBRARY = torch.library.Library("pcsa", "DEF")
_LIBRARY.define(
    "draw(Tensor logits, Tensor pos, Tensor variance, Tensor ptr, Tensor seed, Tensor temperature, int num_samples, "
    "bool mixture, int cloud_size) -> (Tensor, Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "draw_backward(Tensor grad, Tensor samples, Tensor log_norm, Tensor basis_variance, Tensor highest, Tensor logits, "
    "Tensor pos, Tensor variance, Tensor ptr, Tensor seed, Tensor temperature, bool mixture, int cloud_size, "
    "bool need_logits, bool need_pos, bool need_variance) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.impl("draw", _draw, "CompositeExplicitAutograd")
_LIBRARY.impl("draw_backward", _draw_backward, "CompositeExplicitAutograd")
torch.library.register_fake("pcsa::draw", _draw_fake, lib=_LIBRARY)
torch.library.register_fake("pcsa::draw_backward", _draw_backward_fake, lib=_LIBRARY)
torch.library.register_autograd("pcsa::draw", _backward, setup_context=_setup_context, lib=_LIBRARY)
torch.library.register_autograd("pcsa::draw_backward", _twice, lib=_LIBRARY)
for _name in ("draw", "draw_backward"):
    map_one_by_one(_name, _LIBRARY)
draw = transformable("sampling_argmax", torch.ops.pcsa.draw.default, _setup_context, _backward)
draw_backward = transformable("sampling_argmax", torch.ops.pcsa.draw_backward.default, keep_nothing, _twice)


def draw_seed(generator: torch.Generator | None, device: torch.device | None = None) -> Tensor:
    """One number from the caller's generator, on the host; both passes derive their noise from it.

    While a CUDA graph is captured, it is one on the ``device`` instead: a number would be replayed with the graph.
    """
    on_cuda = device is not None and device.type == "cuda" and not torch.compiler.is_compiling()
    if on_cuda and torch.cuda.is_current_stream_capturing():
        return torch.randint(2**63 - 1, (), device=device, generator=generator)
    if generator is None or generator.device.type == "cpu":
        return torch.randint(2**63 - 1, (), generator=generator)
    # A number drawn on the device would have to be waited for. Seed and offset are known on the host.
    offset = generator.get_offset()
    generator.set_offset(offset + 4)
    mixed = (generator.initial_seed() * 6364136223846793005 + (offset + 1) * 1442695040888963407) % (2**63)
    return torch.tensor(mixed, dtype=torch.int64)
