"""How certain a mean over shapes, and a difference between two methods on the same shapes, is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa._core.checks import check_count
from pcsa.metrics.per_shape import TensorOrArray


class Interval(NamedTuple):
    """A mean and the interval around it, from :func:`paired_bootstrap`.

    Attributes:
        mean: The mean difference.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float


def paired_bootstrap(
    first: Sequence[TensorOrArray] | TensorOrArray,
    second: Sequence[TensorOrArray] | TensorOrArray,
    *,
    confidence: float = 0.95,
    num_resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    r"""How much two methods differ on the same shapes: ``first`` minus ``second``, with a percentile interval.

    The shapes are drawn anew with replacement, each with its scores under both methods, by
    :func:`scipy.stats.bootstrap`. So the interval says what other shapes of the same kind would give; that other seeds
    of the training would give something else is in it only as far as the scores are means over several. Where there are
    several groups (the categories of a table), each is resampled by itself, and the mean is that over groups.

    Args:
        first: Score of each shape, or one array of scores for each group.
        second: The same shapes in the same order under the method to compare with.
        confidence: Share of the resamples that the interval holds, above 0 and below 1.
        num_resamples: Number of resamples.
        seed: Fixes the resamples.

    Returns:
        :class:`Interval`, in the unit of the scores. A group of one shape is always drawn as it is.

    Shapes:
        - **first**, **second:** :math:`(n)`, or for each group :math:`(n_g)`

    Raises:
        ValueError: If the two differ in size, a group is empty, a score is not finite, or a number breaks its rule.

    Example:
        >>> first, second = np.array([0.6, 0.8, 0.7, 0.9]), np.array([0.5, 0.6, 0.7, 0.6])
        >>> mean, low, high = paired_bootstrap(first, second)
        >>> f"{mean:.2f}, from {low:.2f} to {high:.2f}"
        '0.15, from 0.05 to 0.25'

    """
    from scipy.stats import bootstrap

    check_count("num_resamples", num_resamples)
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` (={confidence}) must be above 0 and below 1")
    differences = _differences(first, second)
    rng = np.random.default_rng(seed)
    means = np.zeros(num_resamples)
    for values in differences:
        if len(values) == 1:
            means += values[0]
            continue
        # In parts, so that all resamples of a large set need not lie in memory.
        batch = max(1, 2**20 // len(values))
        found = bootstrap(
            (values,), np.mean, n_resamples=num_resamples, batch=batch, method="percentile", vectorized=True, rng=rng
        )
        means += found.bootstrap_distribution
    tail = (1 - confidence) / 2
    low, high = np.quantile(means / len(differences), [tail, 1 - tail]).tolist()
    return Interval(float(np.mean([values.mean() for values in differences])), low, high)


def _differences(first: object, second: object) -> list[NDArray[np.float64]]:
    groups = [_groups("first", first), _groups("second", second)]
    sizes = [[len(values) for values in listed] for listed in groups]
    if sizes[0] != sizes[1]:
        raise ValueError(f"`second` (scores of {sizes[1]} shapes) must have those of `first`: {sizes[0]}")
    if not all(sizes[0]):
        raise ValueError(f"`first` (scores of {sizes[0]} shapes) must have at least one shape in each group")
    return [a - b for a, b in zip(*groups, strict=True)]


def _groups(name: str, scores: object) -> list[NDArray[np.float64]]:
    listed = list(scores)  # type: ignore[call-overload]
    if not listed or np.ndim(listed[0]) == 0:
        listed = [listed]
    arrays = [np.asarray(values, dtype=np.float64) for values in listed]
    for values in arrays:
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(f"`{name}` must be finite scores [n], or a list of such for several groups")
    return arrays
