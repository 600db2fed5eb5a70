"""``pcsa report``: write one page, and pictures, that compare runs."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from pcsa.datasets.faults import reading
from pcsa.datasets.files import replacing
from pcsa.tasks import get_task, task_names
from pcsa.tasks.common.claim import claimed
from pcsa.viz import plots
from pcsa.viz.files import PictureFormat
from pcsa.viz.robustness import plot_robustness
from pcsa.viz.scene import Array

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportConfig:
    """Compare runs on one page, from what `pcsa train` and `pcsa evaluate` wrote."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or metrics files."""
    out: Path = Path("report")
    """Folder for report.html and the pictures."""
    split: Literal["val", "test"] = "val"
    """Split of the metrics in the folders: metrics-<split>.json."""
    picture_format: PictureFormat = "png"
    """Format of the pictures beside the page: svg and pdf are for papers."""


@dataclass(frozen=True)
class LoggedRun:
    """What the files of a run say; fields of missing files are empty."""

    name: str
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    log: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    broken: dict[str, Any] = field(default_factory=dict)
    """Scores of broken clouds."""


def main(argv: list[str]) -> int:
    """Parse options, write, say where."""
    page = report(tyro.cli(ReportConfig, args=argv, prog="pcsa report"))
    print(f"written: {page}")
    return 0


def report(config: ReportConfig) -> Path:
    """Write the page and its pictures, and return the path of the page."""
    if not config.runs:
        raise ValueError("`runs` must name at least one folder or metrics file")
    runs = [read_run(path, name, config.split) for path, name in zip(config.runs, _names(config.runs), strict=True)]
    try:
        figures = _figures(runs)
    except _MALFORMED as error:
        # Which of them it is, they tell one by one.
        for path, run in zip(config.runs, runs, strict=True):
            try:
                _figures([run])
            except _MALFORMED as cause:
                raise ValueError(f"`{path}`: its metrics cannot be drawn: {_said(cause)}") from None
        raise ValueError(f"`runs` cannot be drawn together: {_said(error)}") from None
    rows, details = [], []
    for path, run in zip(config.runs, runs, strict=True):
        with reading(path, "a run"):
            rows.append(_row(run))
            details += _details(run)
    config.out.mkdir(parents=True, exist_ok=True)
    with claimed(config.out):
        return _write(config, figures, rows, details)


def _write(
    config: ReportConfig,
    figures: dict[str, tuple[str, Any]],
    rows: Sequence[dict[str, str]],
    details: Sequence[dict[str, str]],
) -> Path:
    """Write the pictures and the page, and return the path of the page."""
    sections = []
    for name, (title, figure) in figures.items():
        if figure is not None:
            safe = re.sub(r"[^\w.+-]", "_", name)[:100]
            file = config.out / f"{safe}.{config.picture_format}"
            with replacing(file) as temporary:
                figure.savefig(temporary, format=config.picture_format, dpi=160)
            pixels = io.BytesIO()
            figure.savefig(pixels, format="png", dpi=160)
            source = f"data:image/png;base64,{base64.b64encode(pixels.getvalue()).decode()}"
            text, width = html.escape(title), int(figure.get_figwidth() * 96)
            sections.append(f'<h2>{text}</h2>\n<img alt="{text}" width="{width}" src="{source}">')
    # The same head means something else in another task.
    tables = "\n".join(
        _table([row for row in part if row.get("task") == task])
        for part in (rows, details)
        for task in dict.fromkeys(row.get("task") for row in part)
    )
    template = Template(resources.files("pcsa.viz").joinpath("report.html").read_text(encoding="utf-8"))
    page = config.out / "report.html"
    text = template.substitute(split=config.split, tables=tables, body="\n".join(sections))
    with replacing(page) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    return page


_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)


def _said(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _figures(runs: Sequence[LoggedRun]) -> dict[str, tuple[str, Any]]:
    """Plot what there is: title and figure, or None, by the name of the picture."""
    metrics = {run.name: run.metrics for run in runs}
    figures = {
        "pck": ("Share of keypoints within a distance", plots.plot_pck(metrics)),
        "miou": ("Mean intersection over union of keypoints", plots.plot_miou(metrics)),
        "reliability": ("Is a confident prediction right?", plots.plot_reliability(metrics)),
    }
    for category in dict.fromkeys(c for m in metrics.values() for c in m.get("per_keypoint", {})):
        title = f"Error of each keypoint: {category}"
        figures[f"keypoints-{category}"] = (title, plots.plot_keypoints(metrics, category))
    broken = {run.name: run.broken for run in runs if run.broken}
    figures["robustness"] = ("Broken clouds", plot_robustness(broken) if broken else None)
    figures["training"] = ("Training", plots.plot_training({run.name: run.log for run in runs}))
    return figures


def read_run(path: Path, name: str, split: str) -> LoggedRun:
    """Read metrics, configuration and log from a run's folder, or metrics alone from a file.

    Raises:
        FileNotFoundError: If there is neither metrics nor log.
        ValueError: If a file cannot be read.
    """
    if path.is_file():
        found = _read_json(path)
        return LoggedRun(name, broken=found) if _is_robustness(found) else LoggedRun(name, metrics=found)
    if not path.is_dir():
        raise FileNotFoundError(f"`{path}` is neither a run's folder nor a metrics file")
    file = path / f"metrics-{split}.json"
    files = (file, path / "config.json", path / f"robustness-{split}.json")
    metrics, config, broken = (_read_json(f) if f.exists() else {} for f in files)
    run = LoggedRun(name, metrics, config, read_log(path / "log"), broken)
    if not run.metrics and not run.log and not run.broken:
        raise FileNotFoundError(f"`{path}` has neither {file.name} (pcsa evaluate) nor a CSV log")
    if not run.metrics:
        _log.warning("%s has no %s: pcsa evaluate writes it", path, file.name)
    return run


def _is_robustness(found: Mapping[str, Any]) -> bool:
    """Whether a file is of ``pcsa evaluate --robustness``."""
    return {"rows", "diagonal", "threshold"} <= found.keys()


def read_log(folder: Path) -> dict[str, tuple[Array, Array]]:
    """Read steps and values of each quantity from the CSV logs of a run, and join the parts of a resumed one."""
    found: dict[str, dict[float, float]] = {}
    parts = {f.parent.name.removeprefix("version_"): f for f in folder.glob("version_*/metrics.csv")}
    for part in sorted((part for part in parts if part.isdigit()), key=int):
        file = parts[part]
        with reading(file, "a log"):
            lines = file.read_bytes().decode("utf-8", errors="replace").splitlines(keepends=True)
            if lines and not lines[-1].endswith(("\r", "\n")):
                _log.warning("`%s`: its last line is cut off, and left out", file)
                lines.pop()
            for number, row in enumerate(csv.DictReader(lines), 2):
                for key, value in row.items():
                    if value and key not in ("step", "epoch"):
                        try:
                            found.setdefault(key, {})[float(row["step"])] = float(value)
                        except (KeyError, TypeError, ValueError):
                            said = f"line {number}: `step` (={row.get('step')!r}) and `{key}` (={value!r})"
                            raise ValueError(f"{said} must be numbers") from None
    return {key: (np.array(sorted(v)), np.array([v[step] for step in sorted(v)])) for key, v in found.items()}


def _read_json(path: Path) -> dict[str, Any]:
    with reading(path, "JSON"):
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"must hold an object, holds a {type(value).__name__}")
    return value


def _names(paths: Sequence[Path]) -> list[str]:
    """Name runs by the last parts of their paths, as many as tell them apart."""
    parts = [p.resolve().parts for p in paths]
    for count in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-count:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"`runs` (={[str(p) for p in paths]}) must be different")


def _table(rows: Sequence[dict[str, str]]) -> str:
    heads = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["".join(f"<th>{html.escape(h)}</th>" for h in heads)]
    lines += ["".join(f"<td>{html.escape(row.get(h, '–'))}</td>" for h in heads) for row in rows]
    return "<div><table>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table></div>"


def _row(run: LoggedRun) -> dict[str, str]:
    metrics, task = run.metrics, (run.metrics or run.config).get("task")
    if task not in task_names():
        if metrics:
            _log.warning("%s: its metrics name no task of this version, `pcsa evaluate` writes new ones", run.name)
        return {"run": run.name}
    row = {"run": run.name, "task": task}
    config = run.config.get("config", {})
    optimizer = config.get("optimizer", {})
    length = "steps" if optimizer.get("epochs") is None else "epochs"
    for title, found in (
        ("category", metrics.get("category")),
        ("items", metrics.get("num_items")),
        (length, optimizer.get(length)),
        ("seed", config.get("seed")),
    ):
        if isinstance(found, str | int):
            row[title] = str(found)
    objective = config.get("objective")
    if objective is not None:
        names = [str(objective.get("method") or objective.get("read_out", ""))]
        row["objective"] = " + ".join([*names, *(f"{weight:g} {name}" for name, weight in objective.get("plus", ()))])
    try:
        columns = get_task(task).columns_of(metrics)
    except _MALFORMED as error:
        raise ValueError(f"its metrics have no thresholds: {_said(error)}") from None
    for title, value in columns:
        try:
            row |= _shown(title, value(metrics))
        except _MALFORMED as error:
            raise ValueError(f"its metrics have no {title}: {_said(error)}") from None
    return row


def _details(run: LoggedRun) -> list[dict[str, str]]:
    """What there is beside the columns, in the way of :func:`_row`: rows of the run, then those that bound it."""
    task = run.metrics.get("task")
    if task not in task_names():
        return []
    try:
        found = get_task(task).details(run.metrics)
        return [
            {"run": run.name, "task": task, "figures of": title}
            | {head: text for name, value in row.items() for head, text in _shown(name, value).items()}
            for part in found
            for title, row in part.items()
        ]
    except _MALFORMED as error:
        raise ValueError(f"its metrics cannot be listed: {_said(error)}") from None


def _shown(title: str, value: float | None) -> dict[str, str]:
    return {title: f"{value:.3g}"} if value is not None and math.isfinite(value) else {}
