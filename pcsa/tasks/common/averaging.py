"""An average of the weights of a training, which is what it validates and keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from pcsa.tasks.common.config import OptimizerConfig

if TYPE_CHECKING:
    import lightning as L


def newest_share(o: OptimizerConfig, steps: int, step: int) -> float:
    """The share of the newest weights in the average after ``step`` steps, of ``steps`` in all.

    Before the average begins it is 1. Then it falls as 1/n, the mean of n steps (`"Averaging Weights Leads to Wider
    Optima and Better Generalization" <https://arxiv.org/abs/1803.05407>`_), or, for an exponential average, as
    9/(8 + n) down to ``1 - o.averaging_decay``, so that little is left of the weights that the training began with.
    """
    start = {"ema": 0.0, "swa": 0.75}[o.averaging] if o.averaging_start is None else o.averaging_start
    # Of a short training, one step at least is in.
    count = step - min(math.floor(start * steps), steps - 1)
    if count <= 1:
        return 1.0
    return 1 / count if o.averaging == "swa" else max(1 - o.averaging_decay, 9 / (8 + count))


class AveragedWeights(WeightAveraging):
    """Lightning's average of the weights, by a configuration.

    Validation sees the average, and a checkpoint holds it in ``state_dict``; beside it, ``current_model_state`` has
    the weights that the training goes on from. Until the average begins, it is the newest weights.

    The running statistics of batch normalization are averaged with the weights. They are statistics of the networks
    whose weights are averaged, not of the average: estimating them anew takes a pass over the training items before
    each checkpoint and each validation, or leaves checkpoints in between that are of no use.

    Args:
        o: The optimizer's configuration.
        steps: Steps of the whole training.
    """

    def __init__(self, o: OptimizerConfig, steps: int) -> None:
        super().__init__(multi_avg_fn=self._move)
        self.o, self.steps = o, steps

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make the average where the network will be."""
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # The number of steps stays on the CPU, where reading it waits for nothing.
            self._average_model.module.to(trainer.strategy.root_device)

    def _move(self, average: Sequence[Tensor], newest: Sequence[Tensor], _: Tensor | int) -> None:
        assert self._average_model is not None
        share = newest_share(self.o, self.steps, int(self._average_model.n_averaged) + 1)
        if share == 1 or not average[0].is_floating_point():  # numbers of batches have no mean
            torch._foreach_copy_(list(average), list(newest))
        else:
            torch._foreach_lerp_(list(average), list(newest), share)
