"""Which runs a study has on the data that are here, and what is left out of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pcsa.datasets.keypointnet.layout import annotation_file, cloud_files, models_of_split
from pcsa.datasets.procedural import CATEGORIES
from pcsa.localization import ReadOut
from pcsa.scripts.reproduce.runs import ROOT, PlannedRun, in_folder
from pcsa.scripts.reproduce.study import Study
from pcsa.scripts.train import parse_training
from pcsa.tasks.common.clouds import CloudConfig
from pcsa.tasks.common.config import TrainConfig
from pcsa.tasks.common.task import Task


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

    runs: list[PlannedRun]
    left_out: list[str]
    """The categories that are not here, each with what is missing."""


def plan(study: Study, wanted: Selection, out: Path) -> Plan:
    """The runs of a study, in folders below ``out``.

    Raises:
        ValueError: If something is wanted that the study does not have, or an option does not fit.
    """
    _check_known("methods", wanted.methods, study.methods)
    _check_known("read_outs", wanted.read_outs, get_args(ReadOut))
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
    trained = {
        method: parse_training([*study.arguments(method), *wanted.options, "--trainer.no-progress"], "reproduce")
        for method in wanted.methods or study.methods
    }
    folds: Sequence[int | None] = wanted.folds or (range(study.folds) if study.folds else [None])
    runs = [
        _run(study, wanted, trained[method], method, category, fold, seed, split, out)
        # By seed first: an early look at the results has all methods.
        for seed in wanted.seeds or range(study.seeds)
        for fold in folds
        for category in here
        for method in trained
    ]
    return Plan(runs, left_out)


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
    part = "" if fold is None else f"-f{fold}"
    return in_folder(run, out / category / f"{slug(method)}{part}-s{seed}-{run.key}")


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


def relocated(planned: PlannedRun, out: Path, folder: str) -> PlannedRun:
    """The run in the folder in which an earlier call has made it, if that is there."""
    before = out / planned.category / folder
    return in_folder(planned, before) if (before / "last.ckpt").exists() else planned
