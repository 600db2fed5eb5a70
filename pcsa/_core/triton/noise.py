# mypy: ignore-errors
"""Noise of the fused kernels: a number is a function of the seed and of its place, whoever asks for it.

Philox4x32-10 makes four words of a counter and a key (`"Parallel random numbers: as easy as 1, 2, 3"
<https://doi.org/10.1145/2063384.2063405>`_). The key is the seed; the counter says which point (or cell) of its cloud,
which keypoint, which four samples, and which cloud. So the backward pass draws what the forward pass drew, and the
noise of a cloud depends neither on the clouds beside it nor on padding, tiles or the number of samples.

Noise is float32, for float64 input too: its steps, like those of torch's own, are far below what a sample can show.
"""

import torch
import triton
import triton.language as tl

from pcsa._core.triton.launch import interpreted

if interpreted() or torch.version.hip is not None:

    @triton.jit
    def exp2(x):
        return tl.exp2(x)

    @triton.jit
    def _log2(x):
        return tl.log2(x)

else:
    # One instruction of NVIDIA's each, with errors of 2**-22. Triton's own logarithm is 20 of them, and was half of a
    # kernel; its power is 4.
    from triton.language.extra.cuda import libdevice

    exp2, _log2 = libdevice.exp2, libdevice.fast_log2f

_STEP = tl.constexpr(2.0**-32)
_HALF_STEP = tl.constexpr(2.0**-33)
_BELOW_ONE = tl.constexpr(1 - 2.0**-24)
_LN_2 = tl.constexpr(0.6931471805599453)
_TWO_PI = tl.constexpr(6.283185307179586)

# Interpreted, a constant times an array would be a constant: it comes second.


@triton.jit
def four_words(seed, place, keypoint, group, stream):
    """Four blocks of 32 random bits."""
    return tl.philox(
        seed,
        tl.cast(place, tl.uint32),
        tl.cast(keypoint, tl.uint32),
        tl.cast(group, tl.uint32),
        tl.cast(stream, tl.uint32),
        10,
    )


@triton.jit
def four_log2_exponentials(seed, place, keypoint, group, cloud):
    """Noise of points or cells for the samples 4 * group and the three after it: log2 E with E exponential."""
    a, b, c, d = four_words(seed, place, keypoint, group, 2 * cloud)
    return _log2_exponential(a), _log2_exponential(b), _log2_exponential(c), _log2_exponential(d)


@triton.jit
def _log2_exponential(word):
    # E = -log1p(-v), finest near 0: the few smallest E of a cloud decide a sample.
    v = tl.minimum(word.to(tl.float32) * _STEP + _HALF_STEP, _BELOW_ONE)
    series = v * (1 + v * (1 / 2 + v * (1 / 3 + v * (1 / 4 + v * (1 / 5 + v * (1 / 6))))))
    return _log2(tl.where(v < 0.125, series, _log2(1 - v) * -_LN_2))


@triton.jit
def four_normals(seed, axes, keypoint, sample, cloud):
    """Standard normal noise of the axes 4 * axes and the three after it, for one sample."""
    a, b, c, d = four_words(seed, axes, keypoint, sample, 2 * cloud + 1)
    x, y = _normal_pair(a, b)
    z, w = _normal_pair(c, d)
    return x, y, z, w


@triton.jit
def _normal_pair(first, second):
    # Box and Muller. The angle is a quarter turn, of the highest two bits, and an angle x from -pi / 4 to pi / 4.
    radius = tl.sqrt(tl.log2(first.to(tl.float32) * _STEP + _HALF_STEP) * (-2 * _LN_2))
    x = ((second & 0x3FFFFFFF).to(tl.float32) * _STEP + (_HALF_STEP - 0.125)) * _TWO_PI
    y = x * x
    cosine = radius * (1 + y * (-1 / 2 + y * (1 / 24 + y * (-1 / 720 + y * (1 / 40320)))))
    sine = radius * x * (1 + y * (-1 / 6 + y * (1 / 120 + y * (-1 / 5040 + y * (1 / 362880)))))
    quarter = (second >> 30).to(tl.int32)
    odd = (quarter & 1) == 1
    across = tl.where(odd, sine, cosine)
    up = tl.where(odd, cosine, sine)
    return tl.where((quarter == 1) | (quarter == 2), -across, across), tl.where(quarter >= 2, -up, up)
