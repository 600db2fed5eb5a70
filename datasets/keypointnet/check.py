"""What is missing or broken in a root."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from pcsa.datasets.faults import Problem
from pcsa.datasets.keypointnet.annotations import cloud_faults, read_records
from pcsa.datasets.keypointnet.layout import cloud_files, first_of
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.splits import SPLITS

Models = Mapping[str, set[str]]  # class id to model ids


def check_root(root: str | os.PathLike[str]) -> list[Problem]:
    """List everything that is missing or broken in a root of KeypointNet's layout.

    The check reads every annotation file, every cloud and every split file of the root. Clouds that are named and
    absent make one problem per category and split.

    Returns:
        The problems. Where there are none, :class:`KeypointNet` loads every category strictly.

    """
    root = Path(root)
    if not root.is_dir():
        return [Problem(str(root), "no such folder")]
    problems = [
        Problem(folder, "missing") for folder in ("annotations", "pcds", "splits") if not (root / folder).is_dir()
    ]
    annotated: dict[str, set[str]] = {}
    for path in sorted(root.glob("annotations/*.json")):
        problems.extend(_check_annotations(root, path, annotated))
    if not annotated and (root / "annotations").is_dir():
        problems.append(Problem("annotations", "no annotation file (<category>.json)"))
    clouds = {path.name: set(cloud_files(path)) for path in sorted(root.glob("pcds/*")) if path.is_dir()}
    problems.extend(_check_clouds(clouds, annotated))
    problems.extend(_check_splits(root / "splits", clouds, annotated))
    return problems


def _check_annotations(root: Path, path: Path, annotated: dict[str, set[str]]) -> Iterator[Problem]:
    """Yield the problems of an annotation file and of its clouds; add its models to ``annotated``."""
    where = f"annotations/{path.name}"
    try:
        records, faults = read_records(path)
    except ValueError as error:
        yield Problem(where, str(error))
        return
    yield from (Problem(where, fault) for fault in faults)
    absent: dict[str, list[str]] = {}
    for record in records:
        annotated.setdefault(record.class_id, set()).add(record.model_id)
        cloud = root / "pcds" / record.class_id / f"{record.model_id}.pcd"
        if not cloud.is_file():
            absent.setdefault(record.class_id, []).append(record.model_id)
            continue
        try:
            points = read_pcd(cloud).points
        except (ValueError, OSError) as error:
            yield Problem(str(cloud.relative_to(root)), str(error))
            continue
        yield from (Problem(where, f"model {record.model_id}: {fault}") for fault in cloud_faults(record, points))
    for class_id, models in absent.items():
        yield Problem(where, f"{len(models)} annotated clouds are not in pcds/{class_id}: {first_of(models)}")


def _check_clouds(clouds: Models, annotated: Models) -> Iterator[Problem]:
    for class_id, models in clouds.items():
        if class_id not in annotated:
            yield Problem(f"pcds/{class_id}", f"{len(models)} clouds and no annotations of the class")
            continue
        for model_id in sorted(models - annotated[class_id]):
            yield Problem(f"pcds/{class_id}/{model_id}.pcd", "a cloud without annotation")


def _check_splits(folder: Path, clouds: Models, annotated: Models) -> Iterator[Problem]:
    whole = {class_id: models & clouds.get(class_id, set()) for class_id, models in annotated.items()}
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path, where = folder / f"{split}.txt", f"splits/{split}.txt"
        if not path.is_file():
            if folder.is_dir():
                yield Problem(where, "missing")
            continue
        absent: Counter[str] = Counter()
        for line, count in Counter(path.read_text().split()).items():
            class_id, _, model_id = line.partition("-")
            if count > 1:
                yield Problem(where, f"`{line}` is named {count} times")
            if line in split_of:
                yield Problem(where, f"`{line}` is in split {split_of[line]!r} too")
            split_of[line] = split
            # Classes that the root does not hold at all are no fault: the release's splits name all of them.
            known = class_id in annotated or class_id in clouds
            absent[class_id] += known and model_id not in whole.get(class_id, set())
        for class_id, count in sorted((+absent).items()):
            yield Problem(where, f"{count} clouds of class {class_id} are named and not there")
    for class_id, models in whole.items():
        stray = [model_id for model_id in models if f"{class_id}-{model_id}" not in split_of]
        if split_of and stray:
            yield Problem("splits", f"{len(stray)} clouds of class {class_id} are in no split")
