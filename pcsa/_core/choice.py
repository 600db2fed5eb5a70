"""Samples of the mixture itself: one point is chosen, and moved by its own basis.

Which point is chosen has no derivative. What stands in for one, in the gradient to the logits, is the estimator's
affair (`pcsa._core.estimators`); here are the two ways of choosing, and the pathwise derivative of the mixture.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from pcsa._core.kernel import _LIBRARY, Perturbed, _Blocks, _cut, _Noise, _perturbed, _spread, _tiles, _twice, _uncut
from pcsa._core.points import Points, full_precision
from pcsa._core.tiles import in_order, one_thread
from pcsa._core.transforms import keep_nothing, map_one_by_one, transformable
from pcsa._core.triton import points as fused

# Of an offset over a bandwidth: its square stays finite in float32, a Gaussian is 0 long before.
_FAR = 1e15
# Of a point's weight over that of the chosen one, as a logarithm: it is larger once in 10^26 samples.
_MOST = 60.0
# Temporaries of a tile of the pathwise derivative, for one of the drawing kernel.
_TEMPORARIES = 8


def choose(prob: Tensor, points: Points, uniform: Tensor) -> Tensor:
    """Choose points by their probabilities: rows ``[B, K, S]`` for numbers from 0 to 1 of that shape, in float64.

    By the inverse of the distribution function, which takes one pass over the points for all samples.
    """
    summed = prob.detach().double().cumsum(0)
    ends = torch.cat([torch.zeros_like(summed[:1]), summed]).index_select(0, points.ptr)
    low, high = ends[:-1, :, None], ends[1:, :, None]
    # Below the end: the first point that is above lies in the cloud and has a probability.
    wanted = torch.minimum(low + uniform * (high - low), torch.nextafter(high, low))
    B, K, S = uniform.shape
    rows = torch.searchsorted(
        summed.t().contiguous(), wanted.transpose(0, 1).reshape(K, B * S).contiguous(), right=True
    )
    return rows.view(K, B, S).transpose(0, 1).clamp(max=len(prob) - 1)


def _choose_perturbed(
    logits: Tensor, ptr: Tensor, seed: Tensor, temperature: Tensor, num_samples: int, columns: int, cloud_size: int
) -> Tensor:
    """Rows [B, K, S] of the largest weight of each relaxed sample that `draw` takes of as many columns."""
    if fused.takes(logits, columns, 1, False):
        return fused.choose(logits, ptr, seed, temperature, num_samples)
    with one_thread(logits.device) as threads:
        tau = float(temperature)
        nothing = logits.new_zeros(logits.shape[0], 1)
        blocks = _cut(logits, nothing, nothing, ptr, tau, cloud_size)
        M, K, P = blocks.logits.shape
        B = blocks.num_clouds
        noise = _Noise(seed, logits.device)
        # Drawn first there, hence drawn first here.
        noise.normal((B, K, num_samples, columns), logits.dtype)
        rows = torch.arange(M * P, device=logits.device).view(M, P) if blocks.rows is None else blocks.rows
        chosen = rows.new_empty(B, K, num_samples)

        def largest_of(m: slice, perturbed: Perturbed) -> tuple[Tensor, Tensor]:
            top, where = perturbed().max(-1)
            return top, rows[m].gather(1, where.flatten(1)).view_as(where)

        tiles = _tiles(blocks, num_samples)
        tasks = (partial(largest_of, m, _perturbed(blocks.logits[m], s.stop - s.start, tau, noise)) for s, m in tiles)
        parts: list[tuple[Tensor, Tensor]] = []
        for part, (of_samples, m) in zip(in_order(tasks, threads), tiles, strict=True):
            parts.append(part)
            if m.stop < M:
                continue
            top, place = (torch.cat(x) for x in zip(*parts, strict=True))
            parts.clear()
            S = of_samples.stop - of_samples.start
            index = blocks.owner.view(-1, 1, 1).expand_as(top)
            largest = top.new_full((B, K, S), -math.inf).scatter_reduce_(0, index, top, "amax")
            place = place.masked_fill_(top < _spread(blocks, largest), logits.shape[0])
            first = place.new_full((B, K, S), logits.shape[0]).scatter_reduce_(0, index, place, "amin")
            chosen[:, :, of_samples] = first
        return chosen.clamp_max_(logits.shape[0] - 1)


def _choose_fake(logits, ptr, seed, temperature, num_samples, columns, cloud_size):  # type: ignore[no-untyped-def]
    return ptr.new_empty(ptr.shape[0] - 1, logits.shape[1], num_samples)


def _path(
    logits: Tensor, pos: Tensor, deviation: Tensor, samples: Tensor, chosen: Tensor, ptr: Tensor, cloud_size: int
) -> Tensor:
    """Zeros, whose derivative is that of the samples of the mixture, by implicit reparameterization."""
    return torch.zeros_like(samples)


def _path_backward(
    grad: Tensor,
    logits: Tensor,
    pos: Tensor,
    deviation: Tensor,
    samples: Tensor,
    chosen: Tensor,
    ptr: Tensor,
    cloud_size: int,
) -> Tensor:
    """Gradient to the logits [N, K].

    With z a sample, a_i^d = pi_i prod_(e <= d) N(z_e; y_ie, sigma_ie) the weight of point i once d axes are known,
    A^d their sum and P_id the normal distribution function of (z_d - y_id) / sigma_id, the conditional distribution
    function of axis d is F_d = sum_i a_i^(d-1) P_id / A^(d-1). A change of the logits that leaves all F_d alone moves z
    by J dz = -dF, with the triangular J_de = dF_d / dz_e and dF_d / dl_j = a_j^(d-1) (P_jd - F_d) / A^(d-1); so
    dL/dl = -sum_d lambda_d dF_d / dl where J' lambda = grad.

    Lengths are in units of the chosen point's bandwidth, weights in those of the chosen point's: no number is out of
    range, however small bandwidths are.
    """
    with one_thread(logits.device) as threads:
        B, K, num_samples, D = samples.shape
        blocks = _cut(logits, pos, deviation, ptr, 1.0, cloud_size)
        # What pads a block has no weight, but a distance.
        blocks = blocks._replace(variance=blocks.variance.masked_fill(blocks.variance == 0, 1.0))
        natural = blocks.logits * math.log(2)
        blocks = blocks._replace(logits=natural)
        own_logit = _uncut(natural.transpose(1, 2), blocks, len(logits)).gather(0, chosen.movedim(1, -1).reshape(-1, K))
        own_logit = own_logit.view(B, num_samples, K).transpose(1, 2)
        own_pos, own_deviation = (x[chosen] for x in (pos, deviation.expand_as(pos)))
        own = (samples - own_pos).div(own_deviation).clamp(-_FAR, _FAR)
        spread = [_spread(blocks, x) for x in (samples, own, own_deviation, own_logit)]
        pairs = [(d, e) for d in range(D) for e in range(d)]
        grad_logits = torch.zeros_like(natural)

        def summed(m: slice, known: list[Tensor]) -> Tensor:
            sums = logits.new_empty(m.stop - m.start, 2 * D + 1 + 2 * len(pairs), K, known[0].shape[2])
            slopes: list[Tensor] = []
            for d, (weight, below, slope) in enumerate(_axes(blocks, m, known)):
                sums[:, d] = weight.sum(-1)
                if below is None or slope is None:
                    break
                weighted = weight * below
                sums[:, D + 1 + d] = weighted.sum(-1)
                for e, other in enumerate(slopes):
                    column = 2 * D + 1 + 2 * pairs.index((d, e))
                    sums[:, column] = (weight * other).sum(-1)
                    sums[:, column + 1] = (weighted * other).sum(-1)
                slopes.append(slope)
            return sums

        def gradient(m: slice, known: list[Tensor], below_all: Tensor, pulls: Tensor) -> Tensor:
            total = torch.zeros_like(natural[m])
            for d, (weight, below, _) in enumerate(_axes(blocks, m, known)):
                if below is None:
                    break
                moved = weight.mul_(below.sub_(below_all[m, d, :, :, None])).mul_(pulls[m, d, :, :, None])
                total -= moved.sum(2)
            return total

        for of_samples, group in groupby(_tiles(blocks, num_samples, _TEMPORARIES), key=lambda tile: tile[0]):
            ranges = [m for _, m in group]
            known = [x[:, :, of_samples] for x in spread]
            sums = torch.cat(list(in_order((partial(summed, m, known) for m in ranges), threads)))
            total = sums.new_zeros(B, *sums.shape[1:]).index_add_(0, blocks.owner, sums)
            size = total[:, : D + 1]
            below_all = total[:, D + 1 : 2 * D + 1] / size[:, :D]
            at = own[:, :, of_samples].movedim(-1, 1)
            density = (size[:, 1:] / size[:, :D] * (at.square() / -2).exp() / math.sqrt(2 * math.pi)).clamp_min(1e-12)
            wanted = (grad * own_deviation)[:, :, of_samples].movedim(-1, 1)
            pull: list[Tensor] = [wanted[:, d] for d in range(D)]
            for d in reversed(range(D)):
                pull[d] = pull[d] / density[:, d]
                for e in range(d):
                    column = 2 * D + 1 + 2 * pairs.index((d, e))
                    turn = (total[:, column + 1] - total[:, column] * below_all[:, d]) / size[:, d]
                    pull[e] = pull[e] - turn * pull[d]
            pulls = _spread(blocks, torch.stack([p / size[:, d] for d, p in enumerate(pull)], 1))
            below_all = _spread(blocks, below_all)
            tasks = (partial(gradient, m, known, below_all, pulls) for m in ranges)
            for m, part in zip(ranges, in_order(tasks, threads), strict=True):
                grad_logits[m] += part
        return _uncut(grad_logits.transpose(1, 2), blocks, len(logits))


def _axes(blocks: _Blocks, m: slice, known: list[Tensor]) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """Go through the axes of a tile, with arrays [m, K, S, P]; in the end there are weights alone.

    They are the points' weights once the axes before are known, their distribution functions along this one, and the
    slopes of their logarithmic densities.
    """
    sample, own, own_deviation, own_logit = (x[m] for x in known)
    pos, deviation = blocks.pos[m], blocks.variance[m]
    score = blocks.logits[m][:, :, None] - own_logit[..., None]
    for d in range(pos.shape[-1]):
        weight = score.clamp(max=_MOST).exp_()
        relative = deviation[:, None, None, :, min(d, deviation.shape[-1] - 1)] / own_deviation[..., d, None]
        offset = sample[..., d, None] - pos[:, None, None, :, d]
        offset = (offset / own_deviation[..., d, None] / relative).clamp_(-_FAR, _FAR)
        below = (offset * math.sqrt(0.5)).erf_().add_(1).mul_(0.5)
        score = score - offset.square() / 2 + own[..., d, None].square() / 2 - relative.log()
        yield weight, below, offset.neg_() / relative
    yield score.clamp(max=_MOST).exp_(), None, None


def _path_fake(logits, pos, deviation, samples, chosen, ptr, cloud_size):  # type: ignore[no-untyped-def]
    return torch.empty_like(samples)


def _path_backward_fake(grad, logits, pos, deviation, samples, chosen, ptr, cloud_size):  # type: ignore[no-untyped-def]
    return torch.empty_like(logits)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.cloud_size = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    # backward() may be called inside the caller's autocast region.
    with full_precision(grad):
        return path_backward(grad.contiguous(), *ctx.saved_tensors, ctx.cloud_size), *[None] * 6


_LIBRARY.define(
    "choose_perturbed(Tensor logits, Tensor ptr, Tensor seed, Tensor temperature, int num_samples, int columns, "
    "int cloud_size) -> Tensor"
)
_LIBRARY.define(
    "path(Tensor logits, Tensor pos, Tensor deviation, Tensor samples, Tensor chosen, Tensor ptr, int cloud_size) "
    "-> Tensor"
)
_LIBRARY.define(
    "path_backward(Tensor grad, Tensor logits, Tensor pos, Tensor deviation, Tensor samples, Tensor chosen, "
    "Tensor ptr, int cloud_size) -> Tensor"
)
_LIBRARY.impl("choose_perturbed", _choose_perturbed, "CompositeExplicitAutograd")
_LIBRARY.impl("path", _path, "CompositeExplicitAutograd")
_LIBRARY.impl("path_backward", _path_backward, "CompositeExplicitAutograd")
torch.library.register_fake("pcsa::choose_perturbed", _choose_fake, lib=_LIBRARY)
torch.library.register_fake("pcsa::path", _path_fake, lib=_LIBRARY)
torch.library.register_fake("pcsa::path_backward", _path_backward_fake, lib=_LIBRARY)
torch.library.register_autograd("pcsa::path", _backward, setup_context=_setup_context, lib=_LIBRARY)
torch.library.register_autograd("pcsa::path_backward", _twice, lib=_LIBRARY)
choose_perturbed = torch.ops.pcsa.choose_perturbed.default
for _name in ("choose_perturbed", "path", "path_backward"):
    map_one_by_one(_name, _LIBRARY)
path = transformable("sampling_argmax", torch.ops.pcsa.path.default, _setup_context, _backward)
path_backward = transformable("sampling_argmax", torch.ops.pcsa.path_backward.default, keep_nothing, _twice)
