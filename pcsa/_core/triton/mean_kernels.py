# mypy: ignore-errors
"""Mean of what a mask keeps, mean binary cross-entropy, and their gradients, as fused kernels."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["total"])
def mean_kernel(x, mask, mean, count, total, SIZE: tl.constexpr):
    """Sum of what the mask keeps over how many they are, at least 1; one program, so the same bits every time."""
    like = x.dtype.element_ty
    sums, kept = tl.zeros([SIZE], like), tl.zeros([SIZE], tl.int32)
    for start in range(0, total, SIZE):
        place = start + tl.arange(0, SIZE)
        inside = place < total
        if mask is not None:
            inside = inside & (tl.load(mask + place, mask=inside, other=0) != 0)
        sums += tl.load(x + place, mask=inside, other=0.0)
        kept += inside.to(tl.int32)
    number = tl.maximum(tl.sum(kept, 0), 1).to(like)
    tl.store(count, number)
    tl.store(mean, tl.sum(sums, 0) / number)


@triton.jit(do_not_specialize=["total"])
def mean_gradient_kernel(grad, mask, count, out, total, SIZE: tl.constexpr):
    """Equal shares of the gradient for what the mask keeps."""
    place = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = place < total
    share = tl.load(grad) / tl.load(count)
    if mask is not None:
        share = tl.where(tl.load(mask + place, mask=inside, other=0) != 0, share, 0.0)
    tl.store(out + place, tl.zeros([SIZE], out.dtype.element_ty) + share, mask=inside)


@triton.jit(do_not_specialize=["total"])
def binary_kernel(score, label, mean, total, SIZE: tl.constexpr):
    """Mean binary cross-entropy of scores before the sigmoid; one program."""
    like = score.dtype.element_ty
    sums = tl.zeros([SIZE], like)
    for start in range(0, total, SIZE):
        place = start + tl.arange(0, SIZE)
        x = tl.load(score + place, mask=place < total, other=0.0)
        positive = tl.load(label + place, mask=place < total, other=0) != 0
        # log(1 + e), with the digits of a small e.
        less = tl.exp(-tl.abs(x))
        more = 1.0 + less
        logarithm = tl.where(more == 1.0, less, tl.log(more) * (less / tl.where(more == 1.0, 1.0, more - 1.0)))
        loss = tl.where(x > 0, x, 0.0) - tl.where(positive, x, 0.0) + logarithm
        sums += tl.where(place < total, loss, 0.0)
    tl.store(mean, tl.sum(sums, 0) / tl.cast(total, like))


@triton.jit(do_not_specialize=["total"])
def binary_gradient_kernel(grad, score, label, out, total, SIZE: tl.constexpr):
    """Gradient of it to the scores: sigmoid less label, in equal shares."""
    like = score.dtype.element_ty
    place = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    x = tl.load(score + place, mask=place < total, other=0.0)
    positive = tl.load(label + place, mask=place < total, other=0) != 0
    less = tl.exp(-tl.abs(x))
    # Sigmoid, or less one: the part that has all digits.
    above = tl.where(x > 0, -less, 1.0) / (1.0 + less)
    below = tl.where(x > 0, 1.0, less) / (1.0 + less)
    slope = tl.where(positive, tl.where(x > 0, above, -above), below)
    tl.store(out + place, tl.load(grad) / tl.cast(total, like) * slope, mask=place < total)
