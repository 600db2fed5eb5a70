"""What ends a training before its time: a signal, or numbers that are none."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from torch import Tensor

from pcsa.tasks.common.endings import DivergedError, Stopped


class StopAtSignal(L.Callback):
    """On SIGINT or SIGTERM, finish the step, write the last checkpoint, and raise :class:`Stopped`.

    A signal during a validation waits for its end, and one in the last step lets the training end as it would have.
    Signals that somebody else takes already are theirs.

    Args:
        checkpoint: Where the last checkpoint lies.
        steps: Steps of the whole training.
    """

    def __init__(self, checkpoint: Path, steps: int) -> None:
        self.checkpoint, self.steps = checkpoint, steps
        self.received = self.ended_by = 0
        free = (signal.SIG_DFL, signal.default_int_handler)
        self.free = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) in free]
        self.group: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals. Lightning has just taken them, and gives back what it found when the training ends."""
        for number in self.free:
            try:
                signal.signal(number, self._receive)
            except ValueError:  # not in the main thread, which alone hears of signals
                break
        if trainer.world_size > 1:
            # One that does not wait for an accelerator.
            self.group = torch.distributed.new_group(backend="gloo")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            # Somebody is in a hurry.
            raise KeyboardInterrupt
        self.received = number
        name = signal.Signals(number).name
        print(f"{name}: writing a checkpoint after this step; once more ends at once", file=sys.stderr, flush=True)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop after a step, but for the last of an epoch: what belongs to an epoch's end comes first."""
        if not trainer.is_last_batch and (number := self._heard(trainer)):
            trainer.save_checkpoint(self.checkpoint)
            raise Stopped(number, self.checkpoint, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint after an epoch's last step and its validation."""
        self.ended_by = self._heard(trainer)
        if self.ended_by:
            trainer.save_checkpoint(self.checkpoint)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop when the log, too, has what belongs to the epoch."""
        if self.ended_by:
            raise Stopped(self.ended_by, self.checkpoint, trainer.global_step)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop where a validation would score what is no number."""
        check_weights(pl_module.state_dict(), trainer.global_step, self.checkpoint)

    def _heard(self, trainer: L.Trainer) -> int:
        """The signal that ends the run, in this process or another; 0 for none, or if the run is over anyway."""
        number = self.received
        if self.group is not None:
            # Not every process of a run is sent what ends it.
            found = torch.tensor(number)
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, group=self.group)
            number = int(found)
        return number if trainer.global_step < self.steps else 0


def check_loss(loss: Tensor, step: int, checkpoint: Path) -> None:
    """Raise :class:`DivergedError` if the loss of a step is not finite; what is on an accelerator is not waited for."""
    if loss.device.type == "cpu" and not bool(loss.isfinite().all()):
        raise DivergedError(f"the loss of step {step + 1} is {loss.item():g}{_advice(checkpoint)}")


def check_weights(weights: Mapping[str, Any], step: int, checkpoint: Path) -> None:
    """Raise :class:`DivergedError` if not all weights after a step are finite."""
    floats = {name: x for name, x in weights.items() if isinstance(x, Tensor) and x.is_floating_point()}
    broken = [name for name, x in floats.items() if not bool(x.isfinite().all())]
    if broken:
        raise DivergedError(
            f"{len(broken)} of the network's {len(floats)} tensors are not finite after step {step}, "
            f"`{broken[0]}` among them{_advice(checkpoint)}"
        )


def _advice(checkpoint: Path) -> str:
    kept = f"`{checkpoint}` stays as it was" if checkpoint.exists() else "no checkpoint has been written yet"
    return f": {kept}. Lower `optimizer.lr`, set `optimizer.clip`, or train in float32"
