"""Which runs a study has on the data that are here, and what is left out of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from pcsa.datasets.keypointnet.layout import annotation_file, cloud_files, models_of_split
from pcsa.datasets.procedural import CATEGORIES
from pcsa.localization import ReadOut
from pcsa.scripts.reproduce.combined import CombinedRun
from pcsa.scripts.reproduce.digests import ROOT
from pcsa.scripts.reproduce.runs import Planned, PlannedRun
from pcsa.scripts.reproduce.study import Study
from pcsa.scripts.train import parse_training
from pcsa.tasks import get_task
from pcsa.tasks.common.clouds import CloudConfig
from pcsa.tasks.common.config import TrainConfig
from pcsa.tasks.common.read_outs import own_radii, parse_read_out
from pcsa.tasks.common.task import Task

PlannedT = TypeVar("PlannedT", bound=Planned)


@dataclass(frozen=True)
class Selection:
    """Which part of a study is wanted; what is None or empty is all of it."""

    root: Path | None = None
    categories: Sequence[str] = ()
    methods: Sequence[str] = ()
    folds: Sequence[int] = ()
    seeds: Sequence[int] = ()
    read_outs: Sequence[str] = ()
    split: Literal["val", "test"] | None = None
    partial: bool = False
    """Take a category of which some clouds are missing."""
    options: Sequence[str] = ()
    """Options of ``pcsa train`` over those of the methods."""


class Plan(NamedTuple):
    """What is to be made."""

    runs: list[Planned]
    left_out: list[str]
    """The categories that are not here, each with what is missing."""
    incomplete: list[str]
    """The combined ones that have no row, for the seeds are too few."""


def plan(study: Study, wanted: Selection, out: Path) -> Plan:
    """The runs of a study, in folders below ``out``.

    Raises:
        ValueError: If something is wanted that the study does not have, or an option does not fit.
    """
    _check_known("methods", wanted.methods, study.names)
    for name in (*wanted.read_outs, *study.read_outs):
        parse_read_out(name)
        if own_radii([name]) and not hasattr(get_task(study.task).evaluate_options, "ball_radii"):
            raise ValueError(f"`read_outs` (={name!r}) must have no radius of its own for {study.task}")
    if wanted.folds and not study.folds:
        raise ValueError(f"`folds` (={list(wanted.folds)}) must not be given: {study.name} has no folds")
    _check_known("folds", wanted.folds, range(study.folds))
    split = wanted.split or study.split
    if study.folds and split == "test":
        raise ValueError("`split` (='test') must be 'val' with folds: they are scored on what they hold out")
    left_out, here = [], []
    for category in wanted.categories or study.categories:
        reason = lacking(wanted.root, category, _splits(study, split), wanted.partial)
        if reason:
            left_out.append(f"{category}: {reason}")
        else:
            here.append(category)
    chosen = wanted.methods or study.names
    methods = [name for name in chosen if name in study.methods]
    combined = {name: study.combined[name] for name in chosen if name in study.combined}
    trained = {
        method: parse_training(_quiet([*study.arguments(method), *wanted.options]), "reproduce")
        for method in dict.fromkeys([*methods, *(c.of for c in combined.values())])
    }
    seeds = list(dict.fromkeys(wanted.seeds or range(study.seeds)))
    folds: Sequence[int | None] = wanted.folds or (range(study.folds) if study.folds else [None])

    @functools.cache
    def run(method: str, category: str, fold: int | None, seed: int) -> PlannedRun:
        return _run(study, wanted, trained[method], method, category, fold, seed, split, out)

    runs: list[Planned] = []
    # By seed first: an early look at the results has all methods.
    for count, seed in enumerate(seeds, 1):
        for fold, category in product(folds, here):
            runs += [run(method, category, fold, seed) for method in methods]
        for name, combination in combined.items():
            of = combination.seeds(seed // combination.networks)
            # Behind the last of its networks.
            if set(of) <= set(seeds[:count]):
                for fold, category in product(folds, here):
                    members = tuple(run(combination.of, category, fold, s) for s in of)
                    runs.append(_combined(name, seed // combination.networks, members, combination.test_time, out))
    made = {planned.method for planned in runs}
    incomplete = [
        f"{name}: its networks have the seeds {', '.join(map(str, combination.seeds(0)))}, or as many that follow"
        for name, combination in combined.items()
        if here and name not in made
    ]
    return Plan(runs, left_out, incomplete)


def _quiet(arguments: Sequence[str]) -> list[str]:
    """Arguments over what changes no number: no progress bar, and a checkpoint to go on from not in every epoch.

    What is told to end writes one anyway.
    """
    task, preset, *rest = arguments
    return [task, preset, "--trainer.no-progress", "--trainer.save-every", "10", *rest]


def _check_known(name: str, values: Sequence[Any], known: Any) -> None:
    for value in values:
        if value not in known:
            raise ValueError(f"`{name}` (={value!r}) must be out of {', '.join(map(repr, known))}")


def _splits(study: Study, split: str) -> tuple[str, ...]:
    if study.folds:
        return ("train",) if study.fold_of == "train" else ("train", "val")
    return ("train", split)


def _run(
    study: Study,
    wanted: Selection,
    training: tuple[Task[Any, Any], TrainConfig],
    method: str,
    category: str,
    fold: int | None,
    seed: int,
    split: Literal["val", "test"],
    out: Path,
) -> PlannedRun:
    arguments = [*study.arguments(method), *wanted.options, "--data.category", category, "--seed", str(seed)]
    if fold is not None:
        arguments += ["--data.fold", str(fold), "--data.num-folds", str(study.folds), "--data.fold-of", study.fold_of]
    if wanted.root is not None:
        arguments += ["--data.root", ROOT]
    task, config = training
    if not isinstance(config, CloudConfig):
        raise ValueError(f"`task` (={task.name!r}) must be one on clouds: a study goes over their categories")
    data = replace(config.data, root=wanted.root, category=category, fold=fold)
    if fold is not None:
        data = replace(data, num_folds=study.folds, fold_of=study.fold_of)
    read_outs = tuple(wanted.read_outs or study.read_outs or get_args(ReadOut))
    config = replace(config, data=data, seed=seed)
    run = PlannedRun(method, category, fold, seed, split, read_outs, task.name, tuple(arguments), config)
    return run.moved(out / category / _folder(run))


def _combined(name: str, number: int, members: tuple[PlannedRun, ...], test_time: int, out: Path) -> CombinedRun:
    first = members[0]
    run = CombinedRun(
        name, first.category, first.fold, number, first.split, first.read_outs, members, test_time, first.out
    )
    return run.moved(out / run.category / _folder(run))


def _folder(run: Planned) -> str:
    part = "" if run.fold is None else f"-f{run.fold}"
    return f"{slug(run.method)}{part}-s{run.seed}-{run.key}"


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def lacking(root: Path | None, category: str, splits: Sequence[str], partial: bool) -> str:
    """What a root lacks of a category, in words; nothing if all clouds of these splits are there.

    With ``partial`` it is enough that each split has some.
    """
    if root is None:
        return "" if category in CATEGORIES else "no procedural shapes of it"
    try:
        file, class_id = annotation_file(root, category)
    except FileNotFoundError:
        return "no annotations"
    from pcsa.datasets.keypointnet.annotations import class_ids_of

    class_id = class_id or min(class_ids_of(file), default="")
    clouds = cloud_files(root / "pcds" / class_id).keys()
    for split in splits:
        listed = root / "splits" / f"{split}.txt"
        names = models_of_split(listed, class_id) if listed.exists() else []
        found = len(clouds & set(names))
        if not found or (found < len(names) and not partial):
            return f"{found} of the {len(names)} clouds of {split}"
    return ""


def relocated(planned: PlannedT, out: Path, folder: str) -> PlannedT:
    """The run in the folder in which an earlier call has made it, if that is there."""
    before = out / planned.category / folder
    return planned.moved(before) if any((before / name).exists() for name in ("last.ckpt", "row.json")) else planned
