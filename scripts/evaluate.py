"""``pcsa evaluate``: score a trained network on what it was not trained on."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from pcsa._core.progress import progress, progress_bars
from pcsa.datasets.files import replacing
from pcsa.scripts.guarded import Failure, guarded_batches
from pcsa.scripts.partial import determining
from pcsa.scripts.records import Found, Records
from pcsa.scripts.robustness import robustness
from pcsa.scripts.runs import averaged_with, check_pages, parse_options, print_failed
from pcsa.tasks.common.calibrations import store_calibration, weights_digest
from pcsa.tasks.common.checkpoint import write_json
from pcsa.tasks.common.claim import claimed
from pcsa.tasks.common.robustness import robustness_table
from pcsa.tasks.common.run import open_ensemble
from pcsa.tasks.common.sources import folder_beside, name_of
from pcsa.tasks.common.task import EvaluateOptions, Evaluation, Run
from pcsa.tasks.common.turned_clouds import CloudEvaluateOptions

# Options that change no score.
_WITHOUT_EFFECT = (
    "pictures", "picture_format", "page", "batch_size", "num_workers", "progress", "device", "out", "overwrite",
    "strict", "allow_seen", "trust_backbone",
)  # fmt: skip

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Parse options, evaluate, print the table; exit status 3 if some items failed."""
    options, run = parse_options(argv, "evaluate", EvaluateOptions, lambda task: task.evaluate_options)
    if isinstance(options, CloudEvaluateOptions) and options.robustness:
        broken = robustness(run, options, kind_of(options), _WITHOUT_EFFECT)
        print(robustness_table(broken))
        print("\nwritten: " + ", ".join(broken[key] for key in ("file", "table", "plot")))
        return 0
    try:
        result = evaluate(run, options)
    except KeyboardInterrupt as stop:
        print(f"\npcsa evaluate: interrupted{'; the same call goes on from ' * bool(stop.args)}{stop}", file=sys.stderr)
        return 130
    print(run.task.table(result))
    failed = [f"item {fault['item']}: {fault['reason']}" for fault in result["failed"]]
    if failed:
        print(f"\n{len(failed)} more items could not be read: these are the scores of the rest")
    print("\nwritten: " + ", ".join(result[key] for key in ("file", "picture", "page") if key in result))
    return print_failed(failed, "items", Path(result["file"]))


def evaluate(run: Run[Any, Any], options: EvaluateOptions) -> dict[str, Any]:
    """Score a run, write what the options ask for, and return all that is printed and written, as JSON types.

    What an earlier call found before it was cut off is taken from ``<out>.partial``.

    Raises:
        ValueError: If no item can be read; with ``options.strict``, or where the scores take all items, if one cannot;
            if another checkpoint or other options made ``<out>.partial``.
        KeyboardInterrupt: If it is interrupted; its text is the file from which the next call goes on.
    """
    task = run.task
    check_pages(task, "page", options.page)
    _check_stored(options)
    run = open_ensemble(run, options.ensemble, test_time=options.test_time, trust=options.trust_backbone)
    evaluation = task.evaluation(run, options)
    kind = kind_of(options)
    file = options.out or folder_beside(options.checkpoint) / f"metrics-{evaluation.split}{kind}.json"
    made_with = {**determining(options, _WITHOUT_EFFECT), "device": run.device.type, "split": evaluation.split}
    with (
        progress_bars(options.progress),
        claimed(file),
        closing(Records(file, made_with, evaluation, options.batch_size, overwrite=options.overwrite)) as records,
    ):
        try:
            failed = _score(evaluation, options, records)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(records.path) from None
        own = run.members[0] if run.members else run
        result = {
            "checkpoint": name_of(options.checkpoint),
            "weights": weights_digest(own.model.state_dict()),
            "task": task.name,
            "split": evaluation.split,
            "read_out": options.read_out,
            **averaged_with(options),
            **evaluation.header,
            **evaluation.scores(),
            "failed": [{"item": fault.index, "reason": fault.reason} for fault in failed],
            "file": str(file),
        }
        if "num_items" in result:
            # The scores are those of the rest.
            result["num_items"] -= len(failed)
        write_json(file, result)
        records.finish()
        if evaluation.fitted is not None:
            store_calibration(options.checkpoint, evaluation.fitted, run.way, weights_digest(own.model.state_dict()))
            log.info(
                "temperature of the confidences%s: %.3g, in %s from now on; evaluate another split, for on %s they are "
                "optimistic now",
                "" if run.way is None else f" of {run.way}",
                evaluation.fitted.temperature,
                options.checkpoint,
                evaluation.fitted.split,
            )
        pictures = evaluation.pictures
        if options.pictures and pictures:
            result["picture"] = str(file.with_name(f"predictions-{evaluation.split}{kind}.{options.picture_format}"))
            with replacing(Path(result["picture"])) as temporary:
                task.save_panels(temporary, pictures[: options.pictures])
        if options.page and pictures:
            result["page"] = str(file.with_name(f"predictions-{evaluation.split}{kind}.html"))
            title = f"{getattr(run.labels, 'category', task.name)}, {evaluation.split}"
            task.save_page(Path(result["page"]), pictures[: options.page], title)
    return result


def _check_stored(options: EvaluateOptions) -> None:
    """Refuse to fit what would be written into a copy of somebody else's model."""
    name = name_of(options.checkpoint)
    if getattr(options, "fit_temperature", False) and name != str(options.checkpoint):
        raise ValueError(
            f"`fit_temperature` (=True) must not be set for `{name}`, of which only a copy is here: "
            "`pcsa share NAME --out FOLDER` makes a folder that a temperature can be written to"
        )


def kind_of(options: EvaluateOptions) -> str:
    """What the names of files say of other weights than those of the last checkpoint alone, and of other clouds."""
    kinds = ["-best"] if options.checkpoint.name == "best.ckpt" else []
    if options.ensemble:
        kinds.append(f"-mean-of-{1 + len(options.ensemble)}")
    if options.test_time > 1:
        kinds.append(f"-{options.test_time}-variations")
    if category := getattr(options, "category", None):
        kinds.append(f"-{category}")
    thin = getattr(options, "thin", None)
    if thin is not None and thin != type(thin)():
        kinds.append("-" + re.sub(r"[^a-z0-9.]+", "-", str(thin)))
    if (rotate := getattr(options, "rotate", "none")) != "none":
        kinds.append(f"-rotated-{rotate}")
    return "".join(kinds)


def _score(evaluation: Evaluation, options: EvaluateOptions, records: Records) -> list[Failure]:
    """Find the keypoints of all items that no earlier call found, and return those that cannot be read."""
    items: Any = evaluation.items
    failed: list[Failure] = []
    known: dict[int, Found] = {}
    rest: list[range] = []
    drawn = 0
    for batch in records.batches:
        found = records.known(batch)
        # A picture needs the maps of the network.
        if found is None or evaluation.draws(batch, drawn):
            rest.append(batch)
        if found is not None:
            known[batch.start] = found
            drawn += len(batch) - len(found.failed)
    already = len(items) - sum(map(len, rest))
    if already:
        log.info("%d of %d items were found by an earlier call", already, len(items))
    loaded = guarded_batches(evaluation.loader, items, rest, options.num_workers)
    again = {batch.start for batch in rest}
    with torch.inference_mode():
        for batch in progress(records.batches, "evaluating"):
            found = known.get(batch.start)
            if found is None or batch.start in again:
                content, faults = next(loaded)
                found = Found(None if content is None else evaluation.find(content), faults)
                if batch.start not in known:
                    records.add(batch, found)
            failed += found.failed
            if failed and (options.strict or evaluation.takes_all or len(failed) == len(items)):
                raise ValueError(str(failed[0]))
            if found.record is not None:
                evaluation.take(found.record)
    return failed
