"""``pcsa evaluate``: score a trained network on what it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from pcsa.datasets.files import replacing
from pcsa.scripts.guarded import Failure, guarded_batches
from pcsa.scripts.runs import averaged_with, check_pages, parse_options, print_failed
from pcsa.tasks.common.checkpoint import write_json
from pcsa.tasks.common.claim import claimed
from pcsa.tasks.common.run import open_ensemble
from pcsa.tasks.common.task import EvaluateOptions, Evaluation, Run


def main(argv: list[str]) -> int:
    """Parse options, evaluate, print the table; exit status 3 if some items failed."""
    options, run = parse_options(argv, "evaluate", EvaluateOptions, lambda task: task.evaluate_options)
    result = evaluate(run, options)
    print(run.task.table(result))
    failed = [f"item {fault['item']}: {fault['reason']}" for fault in result["failed"]]
    if failed:
        print(f"\n{len(failed)} more items could not be read: these are the scores of the rest")
    print("\nwritten: " + ", ".join(result[key] for key in ("file", "picture", "page") if key in result))
    return print_failed(failed, "items", Path(result["file"]))


def evaluate(run: Run[Any, Any], options: EvaluateOptions) -> dict[str, Any]:
    """Score a run, write what the options ask for, and return all that is printed and written, as JSON types.

    Raises:
        ValueError: If no item can be read; with ``options.strict``, or where the scores take all items, if one cannot.
    """
    task = run.task
    check_pages(task, "page", options.page)
    run = open_ensemble(run, options.ensemble, test_time=options.test_time)
    evaluation = task.evaluation(run, options)
    kind = kind_of(options)
    file = options.out or options.checkpoint.parent / f"metrics-{evaluation.split}{kind}.json"
    with claimed(file):
        failed = _score(evaluation, options)
        result = {
            "checkpoint": str(options.checkpoint),
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
        pictures = evaluation.pictures
        if options.pictures and pictures:
            result["picture"] = str(file.with_name(f"predictions-{evaluation.split}{kind}.png"))
            with replacing(Path(result["picture"])) as temporary:
                task.save_panels(temporary, pictures[: options.pictures])
        if options.page and pictures:
            result["page"] = str(file.with_name(f"predictions-{evaluation.split}{kind}.html"))
            title = f"{getattr(run.labels, 'category', task.name)}, {evaluation.split}"
            task.save_page(Path(result["page"]), pictures[: options.page], title)
    return result


def kind_of(options: EvaluateOptions) -> str:
    """What the names of files say of other weights than those of the last checkpoint alone."""
    kinds = ["-best"] if options.checkpoint.name == "best.ckpt" else []
    if options.ensemble:
        kinds.append(f"-mean-of-{1 + len(options.ensemble)}")
    if options.test_time > 1:
        kinds.append(f"-{options.test_time}-variations")
    return "".join(kinds)


def _score(evaluation: Evaluation, options: EvaluateOptions) -> list[Failure]:
    """Find the keypoints of all items, and return those that cannot be read."""
    items: Any = evaluation.items
    failed: list[Failure] = []
    batches = guarded_batches(evaluation.loader, items, options.batch_size, options.num_workers)
    # With `None` the bar is shown where standard error is a terminal.
    quiet = None if options.progress else True
    with torch.inference_mode():
        for batch, faults in tqdm(batches, total=-(-len(items) // options.batch_size), leave=False, disable=quiet):
            failed += faults
            if failed and (options.strict or evaluation.takes_all or len(failed) == len(items)):
                raise ValueError(str(failed[0]))
            if batch is not None:
                evaluation.update(batch)
    return failed
