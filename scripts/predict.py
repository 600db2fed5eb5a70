"""``pcsa predict``: find keypoints in files of your own, in their own units."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pcsa.datasets.files import files_of, picture_names
from pcsa.scripts.runs import check_pages, parse_options
from pcsa.tasks.common.checkpoint import write_json
from pcsa.tasks.common.task import Picture, PredictOptions, Run


def main(argv: list[str]) -> int:
    """Parse options, predict, write."""
    options, run = parse_options(argv, "predict", PredictOptions, lambda task: task.predict_options)
    result = predict(run, options)
    print(f"{len(result['items'])} predictions of {len(result['names'])}: {options.out}")
    for written in (options.png, options.html):
        if written:
            print(f"written: {written}")
    return 0


def predict(run: Run[Any, Any], options: PredictOptions) -> dict[str, Any]:
    """Predict for every input and write the result to ``options.out``."""
    task = run.task
    check_pages(task, "html", options.html)
    predictor = task.predictor(run, options)
    files = files_of(options.inputs, predictor.suffixes)
    names = iter(picture_names(predictor.expected(files)))
    items: list[dict[str, Any]] = []
    kept: list[Picture] = []

    def pictures() -> Iterator[tuple[Path, Picture]]:
        for file in tqdm(files, leave=False, disable=None if options.progress else True):
            for prediction in predictor.predict(file):
                items.append({"input": str(file), **prediction.fields})
                if prediction.picture and (options.png or options.html):
                    picture = prediction.picture()
                    if options.html:
                        kept.append(picture)
                    yield (options.png or Path()) / next(names), picture

    # Each picture is drawn once it is predicted: a thousand clouds with their maps need not lie in memory.
    if options.png:
        task.save_pictures(pictures())
    else:
        deque(pictures(), maxlen=0)
    if options.html:
        task.save_page(options.html, kept, f"{getattr(run.labels, 'category', task.name)}: {len(kept)} inputs")
    header = {
        "checkpoint": str(options.checkpoint),
        "task": task.name,
        **predictor.header,
        "names": list(run.labels.names),
        "read_out": options.read_out,
    }
    if options.out.suffix == ".json":
        write_json(options.out, {**header, "items": items})
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in header.items()}
        np.savez(options.out, **arrays, **_arrays(items))
    return {**header, "items": items}


def _arrays(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Make an array of each field, with a row per item; NaN fills up shorter rows."""
    arrays = {}
    for name in items[0] if items else ():
        values = [np.asarray(item[name]) for item in items]
        if len({value.shape for value in values}) > 1:
            shape = np.max([value.shape for value in values], axis=0)
            filled = np.full((len(values), *shape), np.nan)
            for row, value in zip(filled, values, strict=True):
                row[tuple(slice(n) for n in value.shape)] = value
            arrays[name] = filled
        else:
            arrays[name] = np.stack(values)
    return arrays
