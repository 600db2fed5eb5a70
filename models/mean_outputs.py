"""The mean of what several networks, or one asked several times, return for the same clouds."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pcsa._core.points import Points, cloud_log_softmax

Outputs = dict[str, Tensor]


def log_mean(log_prob: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean of probabilities that are given as logarithms."""
    return torch.stack(list(log_prob)).logsumexp(0) - math.log(len(log_prob))


def mean_presence(presence: Sequence[Tensor]) -> Tensor:
    """Logit of the mean of the probabilities that logits stand for."""
    return log_mean([F.logsigmoid(x) for x in presence]) - log_mean([F.logsigmoid(-x) for x in presence])


def mean_of_clouds(found: Sequence[Outputs], points: Callable[[Tensor], Points]) -> Outputs:
    """Mean of what networks return for clouds: of the maps, of the presence, and of the activation.

    Args:
        found: Outputs with ``logits [N, K]``; what else they have but these is left out.
        points: Makes the clouds of logits.
    """
    logits = [outputs["logits"].float() for outputs in found]
    mean = {"logits": log_mean([cloud_log_softmax(x, points(x)) for x in logits])}
    if "presence" in found[0]:
        mean["presence"] = mean_presence([outputs["presence"].float() for outputs in found])
    if "activation" in found[0]:
        mean["activation"] = torch.stack([outputs["activation"].float() for outputs in found]).mean(0)
    return mean
