"""``pcsa evaluate --robustness``: score a network on clouds that are broken in many ways, in a table and a plot."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from pcsa._core.progress import progress, progress_bars
from pcsa.datasets.files import replacing
from pcsa.scripts.partial import Partial, determining
from pcsa.scripts.runs import averaged_with
from pcsa.tasks.common.calibrations import weights_digest
from pcsa.tasks.common.checkpoint import write_json
from pcsa.tasks.common.claim import claimed
from pcsa.tasks.common.clouds import CloudTask
from pcsa.tasks.common.robustness import measure, settings_of, summary
from pcsa.tasks.common.run import open_ensemble
from pcsa.tasks.common.sources import folder_beside, name_of
from pcsa.tasks.common.task import Run
from pcsa.tasks.common.turned_clouds import CloudEvaluateOptions
from pcsa.viz.robustness import plot_robustness


def robustness(
    run: Run[Any, Any], options: CloudEvaluateOptions, kind: str, without: tuple[str, ...]
) -> dict[str, Any]:
    """Score a run, write table and plot, and return what is written, as JSON types.

    What an earlier call found before it was cut off is taken from ``<out>.partial``.

    Args:
        run: The run.
        options: Those of ``pcsa evaluate``.
        kind: What the names of files say of the weights.
        without: Options that change no score.

    Raises:
        ValueError: If a temperature is to be fitted on broken ones, or if another
            checkpoint or other options made ``<out>.partial``.
    """
    task = run.task
    if getattr(options, "fit_temperature", False):
        raise ValueError("`fit_temperature` (=True) must not be set with `robustness`: broken clouds are no others")
    assert isinstance(task, CloudTask)  # of which these options are
    run = open_ensemble(run, options.ensemble, test_time=options.test_time, trust=options.trust_backbone)
    split = task.scored_split(run.config, options.split)
    file = options.out or folder_beside(options.checkpoint) / f"robustness-{split}{kind}.json"
    with torch.inference_mode(), progress_bars(options.progress), claimed(file):
        bench, about, dataset = task.robustness_bench(run, options, split)
        settings = settings_of(options.robustness_kinds, dataset, options.rotate_seed)
        made_with = {**determining(options, without), "device": run.device.type, "split": split, "of": "robustness"}
        with closing(Partial(file, made_with, ("evaluate", "scores"), overwrite=options.overwrite)) as records:
            known = {(line["kind"], str(line["level"])): line["found"] for line in records.lines}
            found = []
            for setting in progress(settings, "breaking clouds"):
                key = (setting.kind, str(setting.level))
                if key not in known:
                    known[key] = measure(bench, setting)
                    records.add({"kind": setting.kind, "level": setting.level, "found": known[key]})
                found.append(known[key])
            own = run.members[0] if run.members else run
            result = {
                "checkpoint": name_of(options.checkpoint),
                "weights": weights_digest(own.model.state_dict()),
                "task": task.name,
                "split": split,
                "read_out": options.read_out,
                **averaged_with(options),
                **about,
                **summary(bench, settings, found),
                "file": str(file),
            }
            result["table"] = str(file.with_suffix(".csv"))
            result["plot"] = str(file.with_suffix(f".{options.picture_format}"))
            write_json(file, result)
            _write_table(Path(result["table"]), result)
            figure = plot_robustness({task.name: result})
            with replacing(Path(result["plot"])) as temporary:
                figure.savefig(temporary, format=options.picture_format, dpi=160)
            records.finish()
    return result


def _write_table(path: Path, result: Mapping[str, Any]) -> None:
    rows = [_flat(row) for row in result["rows"]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _flat(row: Mapping[str, Any], of: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in row.items():
        out |= _flat(value, f"{of}{name}_") if isinstance(value, Mapping) else {f"{of}{name}": value}
    return out
