"""``pcsa reproduce``: make the tables of a study, run after run, and go on where that was cut off."""

from __future__ import annotations

import inspect
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pcsa.datasets.files import replacing
from pcsa.scripts.reproduce.combined import CombinedRun, Network, all_needs, in_order
from pcsa.scripts.reproduce.curves import shot_curves
from pcsa.scripts.reproduce.digests import ROOT, row_key
from pcsa.scripts.reproduce.plan import Plan, PlannedT, Selection, plan, relocated
from pcsa.scripts.reproduce.results import Results, finished_rows
from pcsa.scripts.reproduce.runs import Planned, Work
from pcsa.scripts.reproduce.study import Study, open_study, study_names
from pcsa.scripts.reproduce.tables import Made, as_csv, cells, markdown
from pcsa.scripts.reproduce.workers import Executor, Workers, visible_gpus
from pcsa.tasks.common.backbone import check_trust
from pcsa.viz.plots import plot_shots

_UNSAID = (
    "--root", "--results", "--runs", "--workers", "--threads", "--executor", "--parameters", "--device", "--show",
    "--trust-backbone",
)  # fmt: skip
_EXAMPLES = """\
Examples:
  pcsa reproduce table6 --root data/keypointnet            every run of Table 6, on all accelerators of this machine
  pcsa reproduce objectives --root data/keypointnet --categories bed --seeds 0 --workers 2
  pcsa reproduce training --root data/keypointnet --device cuda --workers 12 --threads 1
  pcsa reproduce table6 --root data/keypointnet --executor slurm --workers 64 --parameters gpus_per_node=1"""


@dataclass(frozen=True)
class ReproduceConfig:
    """Train and score every run of a study that has no results yet, and write its tables.

    A run is one method on one category with one fold and one seed. Each leaves a row in the results, which are text to
    be committed. A call that was cut off is repeated: finished runs are not made again, the others go on from their
    checkpoints. Options that narrow the study, and those of the training after `--`, make runs of their own: nothing
    that is finished is lost.

    After `--` follow options of `pcsa train` for all methods, such as `-- --optimizer.batch-size 16`.
    """

    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]
    """Name of a study, or a .toml file with one."""
    root: Path | None = None
    """Folder in KeypointNet's release layout; without it procedural shapes."""
    methods: tuple[str, ...] = ()
    """Methods and combined ones, by their names in the study; default all."""
    categories: tuple[str, ...] = ()
    """Categories; default those of the study that the root has."""
    folds: tuple[int, ...] = ()
    """Folds to hold out, by number; default all, where the study has folds."""
    num_folds: int | None = None
    """Number of folds, 0 for the splits of the dataset; default that of the study."""
    fold_of: Literal["train", "train+val"] | None = None
    """Splits that are dealt out to folds: train to choose a method, train+val for a final figure; default that of the
    study."""
    seeds: tuple[int, ...] = ()
    """Seeds; default as many as the study has: 0, 1, …"""
    read_outs: tuple[str, ...] = ()
    """Ways to read a map, each of which is scored; default those of the study."""
    split: Literal["val", "test"] | None = None
    """Clouds to score, where the study has no folds; default that of the study."""
    steps: int | None = None
    """Optimizer steps of each training; default those of the methods."""
    partial: bool = False
    """Take categories of which some clouds are missing, too."""
    workers: int | None = None
    """Runs at once; default one for each accelerator, or one."""
    threads: int | None = None
    """Threads of each run; default the processors of this machine, divided by the runs at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of trainings and scores; auto takes CUDA where there is one. Several runs may share an accelerator."""
    executor: Executor = "local"
    """Where runs are made: processes on this machine that stay, jobs of a Slurm cluster, the same jobs on this machine
    (submitit), or this very process (debug)."""
    parameters: tuple[str, ...] = ()
    """Parameters of submitit, such as slurm_partition=gpu gpus_per_node=1 cpus_per_task=8 timeout_min=600."""
    results: Path | None = None
    """Folder of the results and tables; default results/<study>."""
    runs: Path | None = None
    """Folder of the checkpoints and logs; default runs/reproduce/<study>."""
    show: bool = False
    """Make no run: say what is done and what is not, and write the tables of what is done."""
    trust_backbone: bool = False
    """Import the networks outside of pcsa that the file of a study names, and run their code; without it, such a study
    is refused."""

    def __post_init__(self) -> None:
        for name, number in (("workers", self.workers), ("threads", self.threads), ("steps", self.steps)):
            if number is not None and number < 1:
                raise ValueError(f"`{name}` (={number}) must be at least 1")
        for seed in self.seeds:
            if seed < 0:
                raise ValueError(f"`seeds` (={seed}) must be at least 0")


def main(argv: list[str]) -> int:
    """Parse options, make the runs, write and print the tables; exit status 3 if some runs failed."""
    cut = argv.index("--") if "--" in argv else len(argv)
    config = tyro.cli(ReproduceConfig, args=argv[:cut], prog="pcsa reproduce", description=_description())
    options = argv[cut + 1 :]
    check_options(options)
    return reproduce(config, _study(config), options, _said(argv))


def _description() -> str:
    studies = "\n".join(f"  {name:12}{open_study(name).title}" for name in study_names())
    return f"{inspect.cleandoc(ReproduceConfig.__doc__ or '')}\n\nStudies:\n{studies}\n\n{_EXAMPLES}"


def _study(config: ReproduceConfig) -> Study:
    """The study, with the folds that are asked for."""
    study = open_study(config.study)
    folds = study.folds if config.num_folds is None else config.num_folds
    if config.fold_of is not None and not folds:
        raise ValueError(f"`fold_of` (={config.fold_of!r}) must come with `num_folds`: {study.name} has no folds")
    split = study.split if not folds or study.folds else "val"
    return replace(study, folds=folds, fold_of=config.fold_of or study.fold_of, split=split)


def check_options(options: Sequence[str]) -> None:
    """Refuse options of the training that each run has its own value of."""
    own = {"seed": "seeds", "out": "runs", "resume": "runs", "no-resume": "runs", "optimizer.steps": "steps"}
    own |= {"data.root": "root", "data.category": "categories", "data.fold": "folds"}
    own |= {"data.num-folds": "folds", "data.fold-of": "folds"}
    for option in options:
        name = option.split("=")[0].replace("_", "-")
        if name.removeprefix("--") in own and name.startswith("--"):
            raise ValueError(
                f"`{option.split('=')[0]}` after -- must not be given: `pcsa reproduce` sets it for each run, see its "
                f"own `{own[name.removeprefix('--')]}`"
            )


def reproduce(config: ReproduceConfig, study: Study, options: Sequence[str], command: str) -> int:
    """Make what is missing of a study, and return the exit status."""
    folder = config.results or Path("results") / study.name
    out = config.runs or Path("runs") / "reproduce" / study.name
    planned = plan(study, _selection(config, options), out)
    # What follows `--` is the caller's own word; what the file of a study says may be anybody's.
    trust = config.trust_backbone or any(option.startswith("--model.backbone") for option in options)
    for training in (training for made in planned.runs for training in made.runs):
        check_trust(config.study, training.config, trust)
    results = Results(folder)
    for row in finished_rows(out):
        # Of a call that was cut off.
        if row_key(row) not in results.rows:
            results.add(row)
    missing = [_placed(run, results, out) for run in planned.runs if results.row(run) is None]
    jobs = in_order(missing)
    workers = _workers(config, len(jobs)) if jobs and not config.show else None
    if workers is not None:
        workers.check(out)
    _say(f"{study.name}: {len(planned.runs) - len(missing)} of {len(planned.runs)} runs are finished")
    for reason in (*planned.left_out, *planned.incomplete):
        _say(f"left out: {reason}")
    for job in jobs:
        if isinstance(job, Network):
            _say(_why(job, missing, results))
    failed: list[str] = []
    try:
        if workers is not None:
            failed = _make(jobs, results, workers)
    finally:
        # Of what is finished, too, where the rest is cut off.
        page, written = _write(study, planned, results, command)
    print(page)
    print(f"written: {', '.join(str(path) for path in written)}")
    if failed:
        print(f"failed: {len(failed)} of {len(jobs)} runs", file=sys.stderr)
        for reason in failed:
            print(f"  {reason}", file=sys.stderr)
    return 3 if failed else 0


def _selection(config: ReproduceConfig, options: Sequence[str]) -> Selection:
    # A number of epochs would count in place of the steps.
    steps = () if config.steps is None else ("--optimizer.steps", str(config.steps), "--optimizer.epochs", "None")
    device = () if config.device == "auto" else ("--trainer.accelerator", config.device)
    return Selection(
        root=config.root,
        categories=config.categories,
        methods=config.methods,
        folds=config.folds,
        seeds=config.seeds,
        read_outs=config.read_outs,
        split=config.split,
        partial=config.partial,
        options=(*steps, *device, *options),
    )


def _placed(run: PlannedT, results: Results, out: Path) -> PlannedT:
    """The run, and what it needs, in the folders where they were made, if only a read-out is missing."""
    if isinstance(run, CombinedRun):
        run = replace(run, members=tuple(_placed(member, results, out) for member in run.members))
    row = results.rows.get(run.key)
    return run if row is None else relocated(run, out, row["run"])


def _why(network: Network, missing: Sequence[Planned], results: Results) -> str:
    """Say why a run is trained of which no row is missing."""
    rows = dict.fromkeys(run.method for run in missing if network.key in all_needs(run))
    finished = "its row is finished, but its checkpoint is not here; " * (network.key in results.rows)
    return f"to be trained alone: {network.run}: {finished}needed for {', '.join(map(repr, rows))}"


def _workers(config: ReproduceConfig, missing: int) -> Workers:
    here = config.executor != "slurm" and config.device != "cpu"
    gpus = visible_gpus() if here else []
    if here and config.device == "cuda" and not gpus:
        raise ValueError("`device` (='cuda') cannot be used: torch finds no accelerator here")
    count = config.workers or max(1, len(gpus))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_once = min(count, missing) if config.executor in ("local", "submitit") else 1
    threads = config.threads or max(1, processors // at_once)
    return Workers(config.executor, count, threads, gpus, _parameters(config.parameters))


def _parameters(given: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for parameter in given:
        name, equals, value = parameter.partition("=")
        if not equals:
            raise ValueError(f"`parameters` (={parameter!r}) must have the form name=value")
        found[name] = int(value) if value.isdecimal() else value
    return found


def _make(jobs: Sequence[Work], results: Results, workers: Workers) -> list[str]:
    """Make runs and keep their rows; return what is to be said of those that failed."""
    failed, start = [], time.perf_counter()
    # Else a call that is ended would leave its processes behind.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for number, (run, row, reason, log) in enumerate(workers.make(jobs), 1):
            if reason:
                failed.append(f"{run}: {reason}" + (f" ({log})" if log else ""))
            if row is not None:
                results.add(row)
            left = (time.perf_counter() - start) / number * (len(jobs) - number)
            outcome = "failed" if reason else "trained" if row is None else f"{row['seconds']:.0f} s"
            _say(f"{number} of {len(jobs)}: {run}: {outcome}; about {left / 60:.0f} minutes left")
    finally:
        signal.signal(signal.SIGTERM, before)
    return failed


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _write(study: Study, planned: Plan, results: Results, command: str) -> tuple[str, list[Path]]:
    made = [Made(run, results.row(run)) for run in planned.runs]
    notes = [f"left out, because it is not here: {reason}" for reason in planned.left_out]
    notes += [f"left out: {reason}" for reason in planned.incomplete]
    page = markdown(study, made, notes, command)
    written = [results.folder / "table.md", results.folder / "table.csv"]
    for path, text in zip(written, (page, as_csv(cells(study, made))), strict=True):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if figure := plot_shots(shot_curves(study, made)):
        written.append(results.folder / "shots.png")
        with replacing(written[-1]) as temporary:
            figure.savefig(temporary, format="png", dpi=160)
    return page, written


def _said(argv: Sequence[str]) -> str:
    """The command as it can be given elsewhere: without folders, and without what does not change a number."""
    cut = argv.index("--") if "--" in argv else len(argv)
    said, skipped = ["pcsa", "reproduce"], False
    for argument in argv[:cut]:
        name = argument.split("=")[0].replace("_", "-")
        if name.startswith("--"):
            skipped = name in _UNSAID
            if name == "--root":
                said += ["--root", ROOT]
        if not skipped:
            said.append(argument)
    return shlex.join([*said, *argv[cut:]])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
