"""The log of a training: rows that a kill, a power cut or a full disk does not take."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from pcsa._core.writing import append, explained
from pcsa.datasets.files import replacing


class RowLogger(CSVLogger):
    """Lightning's CSV log with rows that are appended as wholes, and a header that is replaced as one."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What writes the rows."""
        if self._experiment is None:
            os.makedirs(self.root_dir, exist_ok=True)
            self._experiment = RowWriter(log_dir=self.log_dir)
        return self._experiment

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is not written yet; where a training has failed, its error is the one to hear of."""
        try:
            super().finalize(status)
        except OSError:
            if status == "success":
                raise


class RowWriter(ExperimentWriter):
    """Writes the rows of one file."""

    def save(self) -> None:
        """Append the rows that are not written yet; with a new column, write the file anew."""
        if not self.metrics:
            return
        file = Path(self.metrics_file_path)
        known = list(self.metrics_keys)
        if self._record_new_keys():
            rows: list[Mapping[str, Any]] = []
            if known:
                with file.open(newline="", encoding="utf-8") as former:
                    rows = list(csv.DictReader(former))
            try:
                with replacing(file) as temporary:
                    lines = self._lines([*rows, *self.metrics], header=True)
                    temporary.write_text(lines, encoding="utf-8", newline="")
            except BaseException:
                # The file has the former columns.
                self.metrics_keys[:] = known
                raise
        else:
            with file.open("ab", buffering=0) as out:
                append(out, self._lines(self.metrics).encode())
        self.metrics = []

    def _lines(self, rows: list[Any], *, header: bool = False) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=self.metrics_keys)
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def flush_logs(trainer: L.Trainer) -> None:
    """Bring all rows to the disk: a checkpoint that is on it must not be ahead of them."""
    for logger in trainer.loggers:
        if isinstance(logger, RowLogger):
            file = Path(logger.log_dir) / RowWriter.NAME_METRICS_FILE
            if trainer.is_global_zero and file.exists():
                with explained(file, "; its rows are kept"), file.open("rb+") as out:
                    os.fsync(out.fileno())
        elif isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            logger.experiment.flush()
