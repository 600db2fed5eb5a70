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
from pcsa.scripts.reproduce.digests import BEFORE_SPLIT, ROOT
from pcsa.scripts.reproduce.joint import JointRun
from pcsa.scripts.reproduce.runs import Planned, PlannedRun
from pcsa.scripts.reproduce.study import Study
from pcsa.scripts.train import parse_training
from pcsa.tasks import get_task
from pcsa.tasks.common.clouds import CloudConfig
from pcsa.tasks.common.read_outs import FLOORS, floor_options, own_radii, parse_read_out
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
    """What has no row because seeds are too few, or categories are not here."""


def plan(study: Study, wanted: Selection, out: Path) -> Plan:
    """The runs of a study, in folders below ``out``.

    Raises:
        ValueError: If something is wanted that the study does not have, or an option does not fit.
    """
    _check_known("methods", wanted.methods, study.names)
    floor_options(wanted.read_outs or study.read_outs)
    for name in (*wanted.read_outs, *study.read_outs):
        if name in FLOORS:
            if not hasattr(get_task(study.task).evaluate_options, "floors"):
                raise ValueError(f"`read_outs` (={name!r}) must be no floor for {study.task}")
            continue
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
    joint = {name: study.joint[name] for name in chosen if name in study.joint}
    make = _Trainings(study, wanted, split, out)
    lost = {name: make.lacks(name) for name in dict.fromkeys([*methods, *joint, *(c.of for c in combined.values())])}
    methods = [name for name in methods if not lost[name]]
    joint = {name: joint[name] for name in joint if not lost[name]}
    combined = {name: combined[name] for name in combined if not lost[combined[name].of]}
    seeds = list(dict.fromkeys(wanted.seeds or range(study.seeds)))
    folds: Sequence[int | None] = wanted.folds or (range(study.folds) if study.folds else [None])
    runs: list[Planned] = []
    # By seed first: an early look at the results has all methods.
    for count, seed in enumerate(seeds, 1):
        for fold, category in product(folds, here):
            runs += [make.run(method, category, fold, seed) for method in methods]
        for name, fold in product(joint, folds):
            runs += make.parts(name, [c for c in here if c in study.categories], fold, seed)
        for name, combination in combined.items():
            of = combination.seeds(seed // combination.networks)
            # Behind the last of its networks.
            if set(of) <= set(seeds[:count]):
                for fold, category in product(folds, here):
                    members = tuple(make.run(combination.of, category, fold, s) for s in of)
                    runs.append(_combined(name, seed // combination.networks, members, combination.test_time, out))
    made = {planned.method for planned in runs}
    incomplete = [
        f"{name}: its networks have the seeds {', '.join(map(str, combination.seeds(0)))}, or as many that follow"
        for name, combination in combined.items()
        if here and name not in made
    ]
    return Plan(runs, left_out, [*incomplete, *(f"{name}: {reason}" for name, reason in lost.items() if reason)])


class _Trainings:
    """The trainings of a study, each made once, in folders below ``out``."""

    def __init__(self, study: Study, wanted: Selection, split: Literal["val", "test"], out: Path) -> None:
        self.study, self.wanted, self.split, self.out = study, wanted, split, out
        self.parsed = functools.cache(self._parsed)
        self.run = functools.cache(self._run)
        self.before = functools.cache(self._before)

    def lacks(self, method: str) -> str:
        """What is not here of the clouds that a method is trained on beside those of its own category, in words."""
        study, root, partial = self.study, self.wanted.root, self.wanted.partial
        wanted = dict.fromkeys(study.categories, _splits(study, self.split)) if method in study.joint else {}
        _, config = self.parsed(method)
        if (name := str(config.init_from)) in study.pretraining and study.pretraining[name].root:
            wanted[self.parsed(name)[1].data.category] = ("train",)
        for category, splits in wanted.items():
            if reason := lacking(root, category, splits, partial):
                return f"{category} has {reason}"
        return ""

    def _parsed(self, method: str) -> tuple[Task[Any, Any], CloudConfig]:
        task, config = parse_training(_quiet([*self.study.arguments(method), *self.wanted.options]), "reproduce")
        if not isinstance(config, CloudConfig):
            raise ValueError(f"`task` (={task.name!r}) must be one on clouds: a study goes over their categories")
        return task, config

    def _run(self, method: str, category: str, fold: int | None, seed: int) -> PlannedRun:
        """The training of a method, on one category or several with commas between."""
        study, root = self.study, self.wanted.root
        task, config = self.parsed(method)
        arguments = [*study.arguments(method), *self.wanted.options, "--data.category", category, "--seed", str(seed)]
        data = replace(config.data, root=root, category=category, fold=fold)
        if fold is not None:
            folds = ["--data.num-folds", str(study.folds), "--data.fold-of", study.fold_of]
            arguments += ["--data.fold", str(fold), *folds]
            data = replace(data, num_folds=study.folds, fold_of=study.fold_of)
        if root is not None:
            arguments += ["--data.root", ROOT]
        config, before = replace(config, data=data, seed=seed), None
        if (name := str(config.init_from)) in study.pretraining:
            before = self.before(name, seed)
            if before.config.data.root == root and before.category in category.split(","):
                raise ValueError(
                    f"`pretraining` (={name!r}) must be on another category than {category!r}, whose clouds it would "
                    "know when they are held out"
                )
            config, arguments = replace(config, init_from=None), _without(arguments, "--init-from")
        read_outs = tuple(self.wanted.read_outs or study.read_outs or get_args(ReadOut))
        names = (method, category, fold, seed, self.split, read_outs)
        run = PlannedRun(*names, task.name, tuple(arguments), config, before)
        return run.moved(self.out / category.replace(",", "+") / _folder(run))

    def _before(self, name: str, seed: int) -> PlannedRun:
        """A training whose network others begin with."""
        task, config = self.parsed(name)
        root = self.wanted.root if self.study.pretraining[name].root else None
        arguments = [*self.study.arguments(name), *self.wanted.options, "--seed", str(seed)]
        config = replace(config, data=replace(config.data, root=root, fold=None), seed=seed)
        if root is not None:
            arguments += ["--data.root", ROOT]
        category = config.data.category
        run = PlannedRun(name, category, None, seed, BEFORE_SPLIT, (), task.name, tuple(arguments), config)
        return run.moved(self.out / category.replace(",", "+") / _folder(run))

    def parts(self, name: str, here: Sequence[str], fold: int | None, seed: int) -> list[JointRun]:
        """The rows of a network for all categories of the study, in those that are wanted."""
        network = self.run(name, ",".join(self.study.categories), fold, seed)
        about = (fold, seed, self.split, network.read_outs, network)
        runs = [JointRun(name, category, *about, network.out) for category in here]
        return [run.moved(self.out / run.category / _folder(run)) for run in runs]


def _without(arguments: Sequence[str], option: str) -> list[str]:
    """Arguments without an option and its value."""
    found: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and not argument.replace("_", "-").startswith(f"{option}="):
            skip = argument.replace("_", "-") == option
            found += [] if skip else [argument]
        else:
            skip = False
    return found


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
