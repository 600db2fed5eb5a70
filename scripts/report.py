"""``pcsa report``: write one page, and pictures, that compare runs."""

from __future__ import annotations

import base64
import csv
import html
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from pcsa.tasks import get_task, task_names
from pcsa.viz.plots import (
    plot_keypoints,
    plot_miou,
    plot_pck,
    plot_reliability,
    plot_training,
)
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


@dataclass(frozen=True)
class Run:
    """What the files of a run say; fields of missing files are empty."""

    name: str
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    log: dict[str, tuple[Array, Array]] = field(default_factory=dict)


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
    metrics = {run.name: run.metrics for run in runs}
    figures = {
        "pck": ("Share of keypoints within a distance", plot_pck(metrics)),
        "miou": ("Mean intersection over union of keypoints", plot_miou(metrics)),
        "reliability": ("Is a confident prediction right?", plot_reliability(metrics)),
    }
    for category in dict.fromkeys(c for m in metrics.values() for c in m.get("per_keypoint", {})):
        figures[f"keypoints-{category}"] = (f"Error of each keypoint: {category}", plot_keypoints(metrics, category))
    figures["training"] = ("Training", plot_training({run.name: run.log for run in runs}))
    config.out.mkdir(parents=True, exist_ok=True)
    sections = []
    for name, (title, figure) in figures.items():
        if figure is None:
            continue
        file = config.out / f"{name}.png"
        figure.savefig(file, dpi=160)
        picture = base64.b64encode(file.read_bytes()).decode()
        sections.append(
            f"<h2>{html.escape(title)}</h2>\n"
            f'<img alt="{html.escape(title)}" width="{int(figure.get_figwidth() * 96)}" '
            f'src="data:image/png;base64,{picture}">'
        )
    page = config.out / "report.html"
    page.write_text(_page(runs, config.split, sections), encoding="utf-8")
    return page


def read_run(path: Path, name: str, split: str) -> Run:
    """Read metrics, configuration and log from a run's folder, or metrics alone from a file.

    Raises:
        FileNotFoundError: If there is neither metrics nor log.
        ValueError: If a file cannot be read.
    """
    if path.is_file():
        return Run(name, metrics=_read_json(path))
    if not path.is_dir():
        raise FileNotFoundError(f"`{path}` is neither a run's folder nor a metrics file")
    file, config = path / f"metrics-{split}.json", path / "config.json"
    run = Run(
        name,
        metrics=_read_json(file) if file.exists() else {},
        config=_read_json(config) if config.exists() else {},
        log=read_log(path / "log"),
    )
    if not run.metrics and not run.log:
        raise FileNotFoundError(f"`{path}` has neither {file.name} (pcsa evaluate) nor a CSV log")
    if not run.metrics:
        _log.warning("%s has no %s: pcsa evaluate writes it", path, file.name)
    return run


def read_log(folder: Path) -> dict[str, tuple[Array, Array]]:
    """Read steps and values of each quantity from the CSV logs of a run, and join the parts of a resumed one."""
    found: dict[str, dict[float, float]] = {}
    files = [f for f in folder.glob("version_*/metrics.csv") if f.parent.name.removeprefix("version_").isdigit()]
    for file in sorted(files, key=lambda f: int(f.parent.name.removeprefix("version_"))):
        try:
            with file.open(newline="") as lines:
                for row in csv.DictReader(lines):
                    for key, value in row.items():
                        if value and key not in ("step", "epoch"):
                            found.setdefault(key, {})[float(row["step"])] = float(value)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"`{file}` cannot be read as a log: {error}") from None
    return {
        key: (np.array(sorted(values)), np.array([values[s] for s in sorted(values)])) for key, values in found.items()
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`{path}` cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"`{path}` must hold an object, holds a {type(value).__name__}")
    return value


def _names(paths: Sequence[Path]) -> list[str]:
    """Name runs by the last parts of their paths, as many as tell them apart."""
    parts = [p.resolve().parts for p in paths]
    for count in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-count:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"`runs` (={[str(p) for p in paths]}) must be different")


def _page(runs: Sequence[Run], split: str, sections: Sequence[str]) -> str:
    rows = [_row(run) for run in runs]
    heads = list(dict.fromkeys(key for row in rows for key in row))
    table = "<tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in heads) + "</tr>\n"
    for row in rows:
        table += "<tr>" + "".join(f"<td>{html.escape(row.get(h, '–'))}</td>" for h in heads) + "</tr>\n"
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>pcsa report</title>
<style>
  body {{ font: 15px system-ui, sans-serif; max-width: 1160px; margin: 2em auto; padding: 0 1em; color: #222; }}
  div {{ overflow-x: auto; }}
  table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
  th, td {{ padding: .3em .55em; font-size: 13px;
    border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
  th:first-child, td:first-child {{ text-align: left; }}
  h2 {{ margin-top: 2em; font-size: 1.15em; }}
  img {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
<h1>Runs compared, {html.escape(split)}</h1>
<div><table>
{table}</table></div>
<p>Distances are in the units of the dataset unless a head names another. PCK is the share of keypoints closer than the
number behind the @, in percent, as a mean over the items; geod. is the same along the surface.</p>
{body}
</body>
</html>
"""


def _row(run: Run) -> dict[str, str]:
    metrics, task = run.metrics, run.metrics.get("task")
    row = {"run": run.name}
    if metrics and task not in task_names():
        _log.warning("%s: its metrics name no task of this version, `pcsa evaluate` writes new ones", run.name)
        return row
    if task is not None:
        row["task"] = task
    for title, found in (("category", metrics.get("category")), ("items", metrics.get("num_items"))):
        if isinstance(found, str | int):
            row[title] = str(found)
    objective = run.config.get("config", {}).get("objective")
    if objective is not None:
        row["objective"] = str(objective.get("method") or objective.get("read_out", ""))
    if task is not None:
        for title, value in get_task(task).columns:
            shown = value(metrics)
            row[title] = "–" if shown is None or math.isnan(shown) else f"{shown:.3g}"
    return row
