"""``pcsa evaluate``: score a trained network on what it was not trained on."""

from __future__ import annotations

from typing import Any

import torch
from tqdm import tqdm

from pcsa.scripts.runs import check_pages, parse_options
from pcsa.tasks.common.checkpoint import write_json
from pcsa.tasks.common.task import EvaluateOptions, Run


def main(argv: list[str]) -> int:
    """Parse options, evaluate, print the table."""
    options, run = parse_options(argv, "evaluate", EvaluateOptions, lambda task: task.evaluate_options)
    result = evaluate(run, options)
    print(run.task.table(result))
    print("\nwritten: " + ", ".join(result[key] for key in ("file", "picture", "page") if key in result))
    return 0


def evaluate(run: Run[Any, Any], options: EvaluateOptions) -> dict[str, Any]:
    """Score a run, write what the options ask for, and return all that is printed and written, as JSON types."""
    task = run.task
    check_pages(task, "page", options.page)
    evaluation = task.evaluation(run, options)
    loader = evaluation.loader(evaluation.items, batch_size=options.batch_size, num_workers=options.num_workers)
    with torch.inference_mode():
        # With `None` the bar is shown where standard error is a terminal.
        for batch in tqdm(loader, leave=False, disable=None if options.progress else True):
            evaluation.update(batch)
    result = {
        "checkpoint": str(options.checkpoint),
        "task": task.name,
        "split": evaluation.split,
        "read_out": options.read_out,
        **evaluation.header,
        **evaluation.scores(),
    }
    file = options.out or options.checkpoint.parent / f"metrics-{evaluation.split}.json"
    result["file"] = str(file)
    write_json(file, result)
    if options.pictures:
        picture = file.with_name(f"predictions-{evaluation.split}.png")
        task.save_panels(picture, evaluation.pictures[: options.pictures])
        result["picture"] = str(picture)
    if options.page:
        page = file.with_name(f"predictions-{evaluation.split}.html")
        title = f"{getattr(run.labels, 'category', task.name)}, {evaluation.split}"
        task.save_page(page, evaluation.pictures[: options.page], title)
        result["page"] = str(page)
    return result
