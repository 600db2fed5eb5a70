"""The checkpoint that a training is resumed from: when it is written, and that it is always a complete one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pcsa.datasets.faults import reading
from pcsa.tasks.common.checkpoint import read_checkpoint, write_checkpoint
from pcsa.tasks.common.stopping import check_weights

# What Lightning puts into a checkpoint and takes out of it.
_TO_RESUME = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step")


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``<out>/last.ckpt`` at the ends of epochs: of the first whose turn it is, then no more often than is told.

    An epoch of a few shapes may take less time than a checkpoint.

    Args:
        out: Folder of the run.
        epochs: Epochs between two checkpoints.
        seconds: Seconds between them at least.
    """

    def __init__(self, out: Path, epochs: int, seconds: float) -> None:
        super().__init__(
            dirpath=out,
            filename="last",
            every_n_epochs=epochs,
            # Lightning's default is to save only after a validation.
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.seconds = seconds
        self._next = 0.0

    @property
    def state_key(self) -> str:
        """That of Lightning's class, which wrote the checkpoints of earlier versions."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write it if it is time."""
        # The processes of a training write together: the first one's clock decides.
        if not trainer.strategy.broadcast(time.monotonic() >= self._next):
            return
        before = self._last_global_step_saved
        super().on_train_epoch_end(trainer, pl_module)
        if self._last_global_step_saved != before:
            self._next = time.monotonic() + self.seconds


class WholeCheckpoints(TorchCheckpointIO):
    """Replaces a checkpoint by a complete one.

    Lightning writes to the system's temporary folder and moves the file; from another file system that is a copy,
    and a run killed during it would lose the checkpoint that it has.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        check_weights(checkpoint["state_dict"], checkpoint["global_step"], Path(path))
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint to resume from as all others are read: nothing in it is run, and its checksum is right."""
        checkpoint = read_checkpoint(Path(path))
        with reading(path, "a checkpoint to resume from"):
            lacking = [name for name in _TO_RESUME if name not in checkpoint]
            if lacking:
                raise ValueError(f"must have `{lacking[0]}` to be resumed")
        return checkpoint
