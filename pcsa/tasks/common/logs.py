"""The log of a training: rows that a kill, a power cut or a full disk does not take, and what is shown elsewhere."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from pcsa._core.writing import append, explained
from pcsa.datasets.files import replacing

_PACKAGES = {"wandb": "Weights & Biases", "trackio": "trackio"}


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


class WandbRuns(WandbLogger):
    """Lightning's logger for Weights & Biases, which ends the run that it began: the next training has its own.

    Within a run of the caller's, such as one of a sweep, it logs into that.
    """

    def __init__(self, **options: Any) -> None:
        import wandb

        super().__init__(**options)
        self._begins = wandb.run is None

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._begins and self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


class TrackioLogger(Logger):
    """Sends numbers to a run of trackio, which keeps them on this machine unless its own variables say otherwise."""

    def __init__(self, project: str, run: str, group: str) -> None:
        super().__init__()
        self._begin = {"project": project, "name": run, "group": group}
        self._experiment: Any = None

    @property
    def name(self) -> str:
        return self._begin["project"]

    @property
    def version(self) -> str:
        return self._begin["name"]

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of trackio."""
        if self._experiment is None:
            import trackio

            # Of the machine there is nothing to know that the run is about.
            self._experiment = trackio.init(**self._begin, auto_log_gpu=False, auto_log_cpu=False)
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any, *arguments: Any, **options: Any) -> None:
        self.experiment.config.update(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is not None:
            self._experiment.finish()


def check_logger(name: str) -> None:
    """Raise a ValueError that says how to install what a logger takes, unless it is there."""
    if name in _PACKAGES and find_spec(name) is None:
        raise ValueError(f"`trainer.logger` (={name!r}) needs {_PACKAGES[name]}: pip install {name}")


def make_loggers(name: str, out: Path) -> list[Logger]:
    """The CSV log in ``<out>/log``, always, and what else shows its numbers.

    A resumed run gets a folder of its own beside the first one's, and a run of its own in the same group elsewhere:
    nothing logged is lost. Projects are called pcsa unless ``WANDB_PROJECT`` or ``TRACKIO_PROJECT`` names another.
    """
    rows = RowLogger(out, name="log")
    if name == "csv":
        return [rows]
    version = rows.version
    if name == "tensorboard":
        return [rows, TensorBoardLogger(out, name="log", version=version)]
    check_logger(name)
    group = out.resolve().name
    run = f"{group}-{version}" if version else group
    project = os.environ.get(f"{name.upper()}_PROJECT", "pcsa")
    if name == "trackio":
        return [rows, TrackioLogger(project, run, group)]
    return [rows, WandbRuns(project=project, name=run, group=group, save_dir=out / "log")]


def describe_run(loggers: list[Logger], about: Mapping[str, Any]) -> None:
    """Tell loggers other than files what is trained, which begins their runs.

    Raises:
        ValueError: If one of them cannot begin.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger | TrackioLogger):
            name = "wandb" if isinstance(logger, WandbLogger) else "trackio"
            try:
                logger.log_hyperparams({**about["config"], "task": about["task"], "pcsa": about["version"]})
            except Exception as error:  # no account, no network: each has errors of its own
                hint = "; WANDB_MODE=offline needs neither account nor network" * (name == "wandb")
                said = " ".join(str(error).split())
                raise ValueError(f"`trainer.logger` (={name!r}) cannot begin a run: {said}{hint}") from error


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
