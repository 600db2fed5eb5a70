"""``pcsa report``: compare runs on one page and in pictures."""

from __future__ import annotations

import base64
import csv
import html
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from pcsa.tasks import get_task
from pcsa.viz import plots
from pcsa.viz.scene import Array

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportConfig:
    """Compare runs: one page and its pictures, from what `pcsa train` and `pcsa evaluate` wrote."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or metrics files."""
    out: Path = Path("report")
    """Folder of report.html and the PNGs."""
    split: Literal["val", "test"] = "val"
    """Split whose metrics-<split>.json is read in folders."""


@dataclass(frozen=True)
class Run:
    """Metrics, configuration and log of a run; empty where a file is missing."""

    name: str
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    log: dict[str, tuple[Array, Array]] = field(default_factory=dict)


def main(argv: list[str]) -> int:
    """Parse options, write the page, say where."""
    page = report(tyro.cli(ReportConfig, args=argv, prog="pcsa report"))
    print(f"written: {page}")
    return 0


def report(config: ReportConfig) -> Path:
    """Write the page and its pictures, and return the path of the page."""
    if not config.runs:
        raise ValueError("`runs` must name at least one folder or metrics file")
    runs = [read_run(path, name, config.split) for path, name in zip(config.runs, _names(config.runs), strict=True)]
    metrics = {run.name: run.metrics for run in runs}
    figures = {
        "pck": ("Share of keypoints within a distance", plots.plot_pck(metrics)),
        "miou": ("Mean intersection over union of keypoints", plots.plot_miou(metrics)),
        "reliability": ("Is a confident prediction right?", plots.plot_reliability(metrics)),
    }
    for category in dict.fromkeys(c for m in metrics.values() for c in m.get("per_keypoint", {})):
        figures[f"keypoints-{category}"] = (
            f"Error of each keypoint: {category}",
            plots.plot_keypoints(metrics, category),
        )
    figures["training"] = ("Training", plots.plot_training({run.name: run.log for run in runs}))
    config.out.mkdir(parents=True, exist_ok=True)
    sections = []
    for name, (title, figure) in figures.items():
        if figure is not None:
            file = config.out / f"{name}.png"
            figure.savefig(file, dpi=160)
            source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
            text, width = html.escape(title), int(figure.get_figwidth() * 96)
            sections.append(f'<h2>{text}</h2>\n<img alt="{text}" width="{width}" src="{source}">')
    rows = [_row(run) for run in runs]
    heads = list(dict.fromkeys(key for row in rows for key in row))
    table = [_cells("th", heads), *(_cells("td", [row.get(head, "–") for head in heads]) for row in rows)]
    template = Template(resources.files("pcsa.viz").joinpath("report.html").read_text(encoding="utf-8"))
    page = config.out / "report.html"
    text = template.substitute(split=config.split, table="".join(table), body="\n".join(sections))
    page.write_text(text, encoding="utf-8")
    return page


def _cells(tag: str, texts: Sequence[str]) -> str:
    """Make one row of the table."""
    return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>\n"


def read_run(path: Path, name: str, split: str) -> Run:
    """Read the metrics, configuration and log in the folder of a run, or a file of metrics alone.

    Raises:
        FileNotFoundError: If there is neither metrics nor log.
        ValueError: If a file cannot be read.
    """
    if path.is_file():
        return Run(name, metrics=_read_json(path))
    if not path.is_dir():
        raise FileNotFoundError(f"`{path}` is neither a run's folder nor a metrics file")
    file = path / f"metrics-{split}.json"
    metrics, config = (_read_json(f) if f.exists() else {} for f in (file, path / "config.json"))
    run = Run(name, metrics, config, read_log(path / "log"))
    if not run.metrics and not run.log:
        raise FileNotFoundError(f"`{path}` has neither {file.name} (pcsa evaluate) nor a CSV log")
    if not run.metrics:
        _log.warning("%s has no %s: pcsa evaluate writes it", path, file.name)
    return run


def read_log(folder: Path) -> dict[str, tuple[Array, Array]]:
    """Read steps and values of each quantity from the CSV logs of a run; the parts of a resumed run are joined."""
    found: dict[str, dict[float, float]] = {}
    parts = {f.parent.name.removeprefix("version_"): f for f in folder.glob("version_*/metrics.csv")}
    for part in sorted((part for part in parts if part.isdigit()), key=int):
        file = parts[part]
        try:
            with file.open(newline="") as lines:
                for row in csv.DictReader(lines):
                    for key, value in row.items():
                        if value and key not in ("step", "epoch"):
                            found.setdefault(key, {})[float(row["step"])] = float(value)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"`{file}` cannot be read as a log: {error}") from None
    return {key: (np.array(sorted(v)), np.array([v[step] for step in sorted(v)])) for key, v in found.items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`{path}` cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"`{path}` must hold an object, holds a {type(value).__name__}")
    return value


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the last parts of the paths, as many as tell them apart."""
    parts = [p.resolve().parts for p in paths]
    for count in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-count:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"`runs` (={[str(p) for p in paths]}) must be different")


def _row(run: Run) -> dict[str, str]:
    metrics = run.metrics
    row = {"run": run.name}
    for title, key in (("task", "task"), ("category", "category"), ("items", "num_items")):
        if isinstance(metrics.get(key), str | int):
            row[title] = str(metrics[key])
    objective = run.config.get("config", {}).get("objective")
    if objective is not None:
        row["objective"] = str(objective.get("method") or objective.get("read_out", ""))
    if "task" in metrics:
        for title, value in get_task(metrics["task"]).columns:
            shown = value(metrics)
            row[title] = "–" if shown is None or math.isnan(shown) else f"{shown:.3g}"
    return row
