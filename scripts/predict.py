"""``pcsa predict``: find keypoints in files of your own, in their own units."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pcsa._core.progress import progress, progress_bar, progress_bars
from pcsa.datasets.faults import reading, said
from pcsa.datasets.files import Found, find_files, picture_name, replacing
from pcsa.scripts.journal import Entry, Journal
from pcsa.scripts.landmark_output import landmark_outputs, write_outputs
from pcsa.scripts.partial import determining
from pcsa.scripts.runs import SHOWN, averaged_with, check_pages, parse_options, print_failed
from pcsa.tasks.common.claim import claimed
from pcsa.tasks.common.run import open_ensemble
from pcsa.tasks.common.sources import name_of
from pcsa.tasks.common.task import Picture, PredictOptions, Predictor, Run


class Predicted(NamedTuple):
    """What a call of ``pcsa predict`` did."""

    document: dict[str, Any]
    """What the file holds."""
    failed: dict[str, str]
    """Why nothing could be found in an input, by its full path."""
    already: int
    """Number of inputs of which the file had the predictions already."""
    found: Found
    """The inputs."""


def main(argv: list[str]) -> int:
    """Parse options, predict, write; exit status 3 if some inputs failed."""
    options, run = parse_options(argv, "predict", PredictOptions, lambda task: task.predict_options)
    try:
        document, failed, already, found = predict(run, options)
    except KeyboardInterrupt:
        print(f"\npcsa predict: interrupted; the same call goes on from {options.out}.partial", file=sys.stderr)
        return 130
    print(f"{len(document['items'])} predictions of {len(document['names'])}: {options.out}")
    if already:
        print(f"{already} of {len(found.files)} inputs were there already")
    if str(found):
        print(found)
    print_unlike(document["items"], {str(file) for file in found.files})
    for written in (options.png, options.html):
        if written:
            print(f"written: {written}")
    return print_failed(list(failed.values()), f"of {len(found.files)} inputs", options.out)


def print_unlike(items: Sequence[Mapping[str, Any]], inputs: Collection[str]) -> None:
    """Say which inputs are unlike what the network was trained on, the least alike first."""
    unlike = [item for item in items if item["input"] in inputs and item.get("novelty", 0) > 1]
    if not unlike:
        return
    print(
        f"{len(unlike)} of {len(inputs)} inputs are unlike the training clouds (novelty above 1): believe them little"
    )
    unlike.sort(key=lambda item: -item["novelty"])
    for item in unlike[:SHOWN]:
        print(f"  {item['input']}: {item['unlike']}")
    if len(unlike) > SHOWN:
        print(f"  and {len(unlike) - SHOWN} more, by their `novelty`")


def predict(run: Run[Any, Any], options: PredictOptions) -> Predicted:
    """Predict for every input that ``options.out`` has nothing of, and write all there.

    Raises:
        ValueError: If an option does not fit, if ``options.out`` is made with another checkpoint or other options, if
            the only input fails, or with ``options.strict`` any does.
    """
    task, png = run.task, options.png
    check_pages(task, "html", options.html)
    run = open_ensemble(run, options.ensemble, test_time=options.test_time, trust=options.trust_backbone)
    predictor = task.predictor(run, options)
    found = _inputs(predictor, options)
    marks = landmark_outputs(options, found)
    header = {
        "checkpoint": name_of(options.checkpoint),
        "task": task.name,
        **predictor.header,
        "names": list(predictor.header.get("names", run.labels.names)),
        "read_out": options.read_out,
        **averaged_with(options),
        **({} if options.radius is None else {"radius": options.radius}),
    }
    failed: dict[str, str] = {}
    drawing = False
    with (
        progress_bars(options.progress),
        claimed(options.out),
        closing(Journal(options.out, made_with(options), overwrite=options.overwrite)) as journal,
    ):
        names = _picture_names(found, journal, f".{options.picture_format}") if png else {}
        queue = deque(file for file in found.files if not _is_known(journal, file, png, names.get(file)))
        already = len(found.files) - len(queue)
        bar = progress_bar("predicting", len(found.files), done=already)

        def fail(error: Exception) -> None:
            if options.strict or len(found.files) == 1:
                raise error
            path = str(queue.popleft())
            failed[path] = journal.failed[path] = said(error)
            # What an earlier call found was in another content of it.
            journal.entries.pop(path, None)
            bar.update()

        def pictures() -> Iterator[tuple[Path, Picture]]:
            nonlocal drawing
            while queue:
                file = queue[0]
                try:
                    entry, drawn = _find(predictor, file, names.get(file))
                except (ValueError, OSError) as error:
                    fail(error)
                    continue
                for name, picture in zip(entry.pictures or (), drawn, strict=True):
                    assert png is not None
                    drawing = True
                    # Whoever draws has drawn a picture when asking for the next.
                    with replacing(png / name) as temporary:
                        yield temporary, picture
                    drawing = False
                journal.add(str(file), entry)
                queue.popleft()
                bar.update()

        with bar:
            while queue:
                try:
                    if png:
                        task.save_pictures(pictures())
                    else:
                        deque(pictures(), maxlen=0)
                except Exception as error:
                    if not drawing or isinstance(error, OSError):
                        raise
                    drawing = False
                    fail(ValueError(f"`{queue[0]}`: its picture cannot be drawn ({type(error).__name__}: {error})"))
        if marks is not None:
            items = ({"input": path, **item} for path, entry in journal.entries.items() for item in entry.items)
            write_outputs(marks, items, header["names"], options)
        document = journal.finish(header, [str(file) for file in found.files], write=marks is None)
        if options.html:
            _save_page(run, options.html, predictor, found, journal)
    return Predicted(document, failed, already, found)


def made_with(options: PredictOptions) -> dict[str, Any]:
    """What determines predictions beside the inputs, as JSON types; files by their content."""
    common = {field.name for field in fields(PredictOptions)}
    common -= {"checkpoint", "read_out", "radius", "ensemble", "test_time"}
    common |= {"frame", "units"}  # of files of landmarks, and not of the positions in them
    return determining(options, common)


def _inputs(predictor: Predictor, options: PredictOptions) -> Found:
    """Find the inputs of which there will be predictions."""
    apart = [options.out]
    if options.png:
        folders = [path for path in options.inputs if path.is_dir() and path.resolve() == options.png.resolve()]
        if folders and ".png" in predictor.suffixes:
            raise ValueError(f"`png` (={options.png}) must be another folder than the inputs': they would be mixed")
        if not folders:
            apart.append(options.png)
    found = find_files(options.inputs, predictor.suffixes, recursive=options.recursive, apart=apart)
    return replace(found, files=list(dict.fromkeys(predictor.expected(found.files))))


def _picture_names(found: Found, journal: Journal, suffix: str) -> dict[Path, str]:
    """Name the picture of each input, unlike those of inputs that an earlier call was given."""
    inputs = {str(file) for file in found.files}
    taken = {name for path, entry in journal.entries.items() if path not in inputs for name in entry.pictures or ()}
    return {file: picture_name(file, found.base, taken, suffix) for file in found.files}


def _is_known(journal: Journal, file: Path, png: Path | None, name: str | None) -> bool:
    """Whether the predictions of an input are there, with the pictures that are asked for."""
    entry = journal.entries.get(str(file))
    try:
        stat = file.stat()
    except OSError:
        return False
    if entry is None or (entry.size, entry.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
        return False
    if png is None:
        return True
    drawn = entry.pictures
    return drawn is not None and drawn[:1] in ([], [name]) and all((png / picture).exists() for picture in drawn)


def _find(predictor: Predictor, file: Path, name: str | None) -> tuple[Entry, list[Picture]]:
    """Read an input and find keypoints in it; its pictures are made where they have a name."""
    with reading(file, f"an input ({', '.join(predictor.suffixes)})"), torch.inference_mode():
        # Before it is read: what changes meanwhile is read again by the next call.
        stat = file.stat()
        predictions = list(predictor.predict(file))
        drawn = [p.picture() for p in predictions if p.picture is not None] if name else []
        try:
            items = json.loads(json.dumps([p.fields for p in predictions], allow_nan=False))
        except ValueError:
            raise ValueError("the prediction has numbers that are not finite") from None
    pictures = None
    if name is not None:
        # The formats of pictures have three letters.
        pictures = [name if i == 0 else f"{name[:-4]}-{i + 1}{name[-4:]}" for i in range(len(drawn))]
    return Entry(stat.st_size, stat.st_mtime_ns, pictures, items), drawn


def _save_page(run: Run[Any, Any], path: Path, predictor: Predictor, found: Found, journal: Journal) -> None:
    """Put the inputs on a page, each predicted again: a thousand clouds with their maps need not lie in memory."""
    files = [file for file in found.files if str(file) in journal.entries and journal.entries[str(file)].items]

    def pictures() -> Iterator[Picture]:
        for file in progress(files, "writing the page"):
            with torch.inference_mode():
                drawn = [item.picture() for item in predictor.predict(file) if item.picture]
            # Files of one name lie in several folders.
            name = file.relative_to(found.base).as_posix()
            yield from (replace(picture, title=name) for picture in drawn)

    if files:
        title = f"{getattr(run.labels, 'category', run.task.name)}: {len(files)} inputs"
        run.task.save_page(path, pictures(), title)
