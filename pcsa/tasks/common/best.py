"""The best checkpoint of a training by its validations, beside the last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights with the best score in ``<out>/best.ckpt``; of equal scores, the first.

    The last epoch is validated even if its turn has not come: else the weights that the training ends with would
    never be held against the others.

    Args:
        out: Folder of the run.
        monitor: Name of the score in the log.
        mode: Whether the lowest or the highest is the best.
    """

    def __init__(self, out: Path, monitor: str, mode: Literal["min", "max"]) -> None:
        super().__init__(
            dirpath=out,
            filename="best",
            monitor=monitor,
            mode=mode,
            # After the validation, hence before the checkpoint to resume from, which knows the best score so far.
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Have the last epoch validated."""
        if trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score so far, also where the folder of the run has been moved."""
        here = str(Path(str(self.dirpath)) / "best.ckpt")
        paths = {name: here for name in ("best_model_path", "kth_best_model_path") if state_dict[name]}
        scores = list(state_dict["best_k_models"].values())
        known = {here: scores[0]} if scores else {}
        super().load_state_dict({**state_dict, **paths, "best_k_models": known, "dirpath": self.dirpath})


def mode_of(name: str, watched: Mapping[str, Literal["min", "max"]]) -> Literal["min", "max"]:
    """Whether the lowest or the highest of a score is the best.

    Raises:
        ValueError: If the validation has no such score.
    """
    if not watched:
        raise ValueError(f"`trainer.best` (={name!r}) must not be given without a validation that has scores")
    if name not in watched:
        raise ValueError(f"`trainer.best` (={name!r}) must be a score of the validation: {', '.join(watched)}")
    return watched[name]
