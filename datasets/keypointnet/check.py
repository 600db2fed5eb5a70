"""What is missing or broken in a root."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from pcsa._core.progress import progress
from pcsa.datasets.faults import Problem, some
from pcsa.datasets.grouping import groups_apart
from pcsa.datasets.keypointnet.annotations import Record, cloud_faults, read_records
from pcsa.datasets.keypointnet.categories import CLASS_IDS
from pcsa.datasets.keypointnet.changes import pending_changes
from pcsa.datasets.keypointnet.label_facts import LabelFacts
from pcsa.datasets.keypointnet.layout import (
    ALL,
    MISALIGNED,
    annotation_files,
    cloud_files,
    misaligned_models,
)
from pcsa.datasets.lines import text_lines
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.point_cloud import count_copies
from pcsa.datasets.splits import SPLITS

Models = Mapping[str, set[str]]  # class id to model ids


def check_root(root: str | os.PathLike[str], facts: list[str] | None = None) -> list[Problem]:
    """List everything that is missing or broken in a root of KeypointNet's layout.

    The check reads every annotation file, every cloud and every split file of the root. Clouds that are named and
    absent make one problem per category and split. ``annotations/all.json`` counts for the categories without a file
    of their own.

    Args:
        root: The folder.
        facts: Gets a line for every annotation file: how far neighbors are from each other, how many annotated points
            stand alone, how well left and right annotations agree, see :func:`mirror_pairs`, and how alike the shapes
            stand, see :func:`standings`.

    Returns:
        The problems. Where there are none, :class:`KeypointNet` loads every category strictly. Points of a cloud that
        are copies of each other, and knives whose x axis is flipped and that no ``knife_misaligned.txt`` names, are
        listed too, although they load.

    """
    root = Path(root)
    if not root.is_dir():
        return [Problem(str(root), "no such folder")]
    problems = [
        Problem(folder, "missing") for folder in ("annotations", "pcds", "splits") if not (root / folder).is_dir()
    ]
    problems += [
        Problem(pending.name, "a change of the category was cut off: reading it by KeypointNet ends the change")
        for pending in pending_changes(root)
    ]
    folders = sorted(path for path in root.glob("pcds/*") if path.is_dir() and not path.name.startswith("."))
    clouds = {path.name: cloud_files(path) for path in folders}
    annotated: dict[str, set[str]] = {}
    groups: dict[str, str] = {}
    files = annotation_files(root)
    # The file of all categories last: it repeats what they have, or stands in for them.
    for stem in sorted(files, key=lambda stem: (stem == ALL, stem)):
        labels = None if facts is None else LabelFacts()
        problems.extend(_check_annotations(files[stem], clouds, annotated, groups, labels))
        if facts is not None and labels:
            facts.append(_printable(f"{stem}: {labels}"))
    if not files and (root / "annotations").is_dir():
        problems.append(Problem("annotations", "no annotation file (<category>.json)"))
    models = {class_id: set(found) for class_id, found in clouds.items()}
    problems.extend(_check_clouds(models, annotated))
    problems.extend(_check_splits(root / "splits", models, annotated, groups))
    problems.extend(_check_knives(root, models))
    return [Problem(_printable(path), _printable(message)) for path, message in problems]


def _check_annotations(
    path: Path,
    clouds: Mapping[str, Mapping[str, os.DirEntry[str]]],
    annotated: dict[str, set[str]],
    groups: dict[str, str],
    labels: LabelFacts | None,
) -> Iterator[Problem]:
    """Yield the problems of an annotation file and of its clouds; add its models to ``annotated`` and ``groups``."""
    where = f"annotations/{path.name}"
    try:
        records, faults = read_records(path)
    except (ValueError, OSError) as error:
        yield Problem(where, _without_path(error, path))
        return
    if path.stem == ALL and len({record.class_id for record in records}) > 1:
        # One file of all categories: several classes in it are no fault.
        faults = [fault for fault in faults if not fault.startswith("more than one class id")]
        own = set(annotated)
        records = [record for record in records if record.class_id not in own]
    yield from (Problem(where, fault) for fault in faults)
    absent: dict[str, list[str]] = {}
    for record in progress(records, f"checking {path.stem}"):
        annotated.setdefault(record.class_id, set()).add(record.model_id)
        if record.group is not None:
            groups[f"{record.class_id}-{record.model_id}"] = record.group
        entry = clouds.get(record.class_id, {}).get(record.model_id)
        if entry is None:
            absent.setdefault(record.class_id, []).append(record.model_id)
        else:
            yield from _check_cloud(where, record, entry, labels)
    for class_id, models in absent.items():
        yield Problem(where, f"{len(models)} annotated clouds are not in pcds/{class_id}: {some(models)}")


def _check_cloud(where: str, record: Record, entry: os.DirEntry[str], labels: LabelFacts | None) -> Iterator[Problem]:
    path = f"pcds/{record.class_id}/{entry.name}"
    try:
        points = read_pcd(entry).points
    except (ValueError, OSError) as error:
        yield Problem(path, _without_path(error, entry))
        return
    if copies := count_copies(points):
        yield Problem(path, f"{copies} of {len(points)} points are copies of others")
    faults = list(cloud_faults(record, points))
    yield from (Problem(where, f"model {record.model_id}: {fault}") for fault in faults)
    if labels is not None and not faults:
        labels.add(points, record)


def _check_clouds(clouds: Models, annotated: Models) -> Iterator[Problem]:
    for class_id, models in clouds.items():
        if class_id not in annotated:
            yield Problem(f"pcds/{class_id}", f"{len(models)} clouds and no annotations of the class")
            continue
        for model_id in sorted(models - annotated[class_id]):
            yield Problem(f"pcds/{class_id}/{model_id}.pcd", "a cloud without annotation")


def _check_splits(folder: Path, clouds: Models, annotated: Models, groups: Mapping[str, str]) -> Iterator[Problem]:
    whole = {class_id: models & clouds.get(class_id, set()) for class_id, models in annotated.items()}
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path, where = folder / f"{split}.txt", f"splits/{split}.txt"
        if not path.is_file():
            if folder.is_dir():
                yield Problem(where, "missing")
            continue
        try:
            lines = text_lines(path)
        except ValueError as error:
            yield Problem(where, _without_path(error, path))
            continue
        absent: Counter[str] = Counter()
        count = Counter(line for _, line in lines)
        first = {line: number for number, line in reversed(lines)}
        for line in count:
            class_id, dash, model_id = line.partition("-")
            if not (class_id and dash and model_id):
                yield Problem(where, f"line {first[line]}: `{line}` must be <class id>-<model id>")
                continue
            if count[line] > 1:
                yield Problem(where, f"`{line}` is named {count[line]} times")
            if line in split_of:
                yield Problem(where, f"`{line}` is in split {split_of[line]!r} too")
            split_of[line] = split
            # Classes that the root does not hold at all are no fault: the release's splits name all of them.
            known = class_id in annotated or class_id in clouds
            absent[class_id] += known and model_id not in whole.get(class_id, set())
        for class_id, missing in sorted((+absent).items()):
            yield Problem(where, f"{missing} clouds of class {class_id} are named and not there")
    apart = groups_apart(
        (f"{line.split('-')[0]}-{groups[line]}", split_of[line]) for line in split_of if line in groups
    )
    for group, names in apart.items():
        class_id, _, group = group.partition("-")
        yield Problem("splits", f"clouds of group {group!r} of class {class_id} are in {' and '.join(names)}")
    for class_id, models in whole.items():
        stray = [model_id for model_id in models if f"{class_id}-{model_id}" not in split_of]
        if split_of and stray:
            yield Problem("splits", f"{len(stray)} clouds of class {class_id} are in no split")


def _check_knives(root: Path, clouds: Models) -> Iterator[Problem]:
    class_id = CLASS_IDS["knife"]
    knives = clouds.get(class_id, set())
    # Other people's knives, and the procedural ones, whose names begin with "pcsa" in hex, are not ShapeNet's.
    if not any(re.fullmatch("(?!70637361)[0-9a-f]{28,32}", name) for name in knives):
        return
    if not (root / MISALIGNED).is_file():
        yield Problem(MISALIGNED, "missing: some of the release's knives have a flipped x axis, and it names them")
        return
    try:
        misaligned_models(root, class_id)
    except ValueError as error:
        yield Problem(MISALIGNED, _without_path(error, root / MISALIGNED))


def _without_path(error: Exception, path: str | os.PathLike[str]) -> str:
    """Return the message of an error without the file's name, which stands before it already."""
    return str(error).removeprefix(f"`{os.fspath(path)}`: ")


def _printable(text: str) -> str:
    # Names of files that are not in UTF-8 cannot be printed as they are.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
