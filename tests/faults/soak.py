"""Faults without end: every kind of fault in everything that writes, and a table of what was lost.

``make soak`` runs it long, ``.ci/run`` in its short form. It ends with status 1 if anything was lost.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness import FAULTS, Harness, LostError, Outcome, can_mount
from scenarios import calls, trainings

# What can happen to any process at one of its points, and the chance of each: kills find most.
_WEIGHTS = {"kill": 6, "terminate": 2, "interrupt": 2, "full": 3, "broken": 2, "read-only": 1}
_WEIGHTS |= {"clock-forward": 1, "clock-back": 1}


def main(arguments=None):
    """Let faults happen until the time or their number is up, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="20 faults, some of every kind, and 3 minutes of memory")
    parser.add_argument("--faults", type=int, default=200, help="number of faults (default: 200)")
    parser.add_argument("--minutes", type=float, default=120, help="minutes of the training whose memory is watched")
    parser.add_argument("--budget", type=float, help="minutes after which no other fault is begun")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--only", nargs="*", default=(), help="scenarios, such as 'landmarks' or 'label'")
    parser.add_argument("--verbose", action="store_true", help="say what became of each fault")
    parser.add_argument("--two", action="store_true", help="trainings in two processes")
    options = parser.parse_args(arguments)
    if options.short:
        options.faults, options.minutes = min(options.faults, 20), min(options.minutes, 3)
    begin = time.monotonic()
    stop = None if options.budget is None else begin + 60 * options.budget
    folder = Path(tempfile.mkdtemp(prefix="pcsa-soak-"))
    # Somebody else must be able to come as far as the folder that is closed to them.
    folder.chmod(0o755)
    outcomes = []
    # Meanwhile, on a core of its own.
    script = str(Path(__file__).with_name("memory.py"))
    memory = subprocess.Popen([sys.executable, script, "--minutes", str(options.minutes)]) if options.minutes else None
    try:
        if options.faults:
            outcomes = soak(folder, options, stop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(outcomes))
    lost = [outcome for outcome in outcomes if outcome.lost]
    for outcome in lost:
        print(f"LOST {outcome.scenario}: {outcome.fault} {outcome.where}\n     {outcome.lost}")
    print(
        f"{len(outcomes)} faults in {(time.monotonic() - begin) / 60:.1f} minutes, {len(lost)} with a loss", flush=True
    )
    grew = memory is not None and memory.wait() != 0
    return int(bool(lost) or grew)


def soak(folder, options, stop):
    """Let faults happen, and return what became of each."""
    harness = Harness(folder)
    try:
        scenarios = prepare(harness, options)
        outcomes = []
        for name, fault in faults(harness, scenarios, options):
            if stop is not None and time.monotonic() > stop:
                break
            try:
                if fault["do"] == "race":
                    outcome = harness.race(scenarios[name])
                else:
                    outcome = harness.try_fault(scenarios[name], fault)
            except LostError as lost:
                outcome = Outcome(name, fault, lost=str(lost))
            except Exception:
                outcome = Outcome(name, fault, lost=f"the harness itself: {traceback.format_exc()[-1500:]}")
            outcomes.append(outcome)
            if options.verbose or outcome.lost:
                said = "LOST" if outcome.lost else "kept" if outcome.happened else "came too late"
                print(f"{len(outcomes):4} {outcome.scenario}: {fault} {outcome.where}: {said}", file=sys.stderr)
        return outcomes
    finally:
        harness.close()


def prepare(harness, options):
    """Make what the scenarios read, and return them by their names."""
    import numpy as np

    from pcsa.datasets.keypointnet import KeypointNet
    from pcsa.datasets.procedural import generate

    root = generate(harness.folder / "chairs", "chair", 12, num_points=256, split=(0.7, 0.15, 0.15))
    inputs = harness.folder / "inputs"
    inputs.mkdir()
    for number, data in enumerate(KeypointNet(root, "chair", "train")):
        np.save(inputs / f"{number}.npy", data.pos.numpy())
    two = "--trainer.devices 2 --trainer.strategy ddp" if options.two else ""
    scenarios = trainings(root, two)
    if not options.two:
        folder = harness.new_folder(scenarios["supervised"])
        harness.victims.start(scenarios["supervised"].words, folder).end()
        scenarios |= calls(folder / "run" / "last.ckpt", inputs, root)
    return {name: scenarios[name] for name in options.only} if options.only else scenarios


def faults(harness, scenarios, options):
    """Choose scenarios and moments: first some that must not be missing, then by chance."""
    rng = random.Random(options.seed)
    names = list(scenarios)
    chosen = certain(names, options)
    for number in range(options.faults):
        if number < len(chosen):
            name, fault = chosen[number]
        else:
            # Every scenario as often as any other, whatever it costs.
            name = names[number % len(names)]
            fault = {"do": rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]}
            if fault["do"] in ("kill", "terminate", "interrupt") and rng.random() < 0.4:
                fault |= {"share": rng.random(), "group": rng.random() < 0.3}
        whole = harness.whole(scenarios[name])
        if "share" in fault:
            fault = {**fault, "after": fault.pop("share") * whole.seconds}
        elif fault["do"] in FAULTS and "at" not in fault:
            # One operation is broken, or none finds room: not what has been done already.
            before = fault["do"] == "broken"
            fault = {**fault, "at": some_point(whole.points, fault.pop("like", None), rng, before=before)}
        yield name, fault


def certain(names, options):
    """Faults of every kind, at least one of which has found a loss in the past."""
    train = [name for name in ("landmarks", "oct", "supervised", "unsupervised", "pose2d", "pose3d") if name in names]
    found = []
    if train:
        first, second = train[0], train[min(1, len(train) - 1)]
        found += [
            (first, {"do": "kill", "like": ("write", "during", "last.ckpt")}),
            (second, {"do": "kill", "like": ("rename", "before", "last.ckpt")}),
            (first, {"do": "terminate", "share": 0.7}),
            ("workers" if "workers" in names else second, {"do": "interrupt", "share": 0.7, "group": True}),
            (first, {"do": "full", "like": ("write", "during", "last.ckpt")}),
            (second, {"do": "broken", "like": ("fsync", "before", "last.ckpt")}),
            (first, {"do": "kill", "like": ("write", "during", "metrics")}),
            (second, {"do": "read-only", "like": ("create", "before", "last.ckpt")}),
            (first, {"do": "clock-back", "like": ("rename", "after", "last.ckpt")}),
            (second, {"do": "limit", "bytes": 40_000}),
            (first, {"do": "race"}),
            *((name, {"do": "kill", "share": 0.6}) for name in train[2:]),
        ]
        found += [(second, {"do": "small", "bytes": "64k"})] if can_mount() else []
        found += [(first, {"do": "stranger"})] if os.geteuid() == 0 else []
    for name, like in (
        ("label", ("rename", "before", "txt")),
        ("rows", ("rename", "after", "chair.jsonl")),
        ("predict", ("write", "during", "partial")),
        ("evaluate", ("rename", "after", "scores")),
        ("calibrate", ("write", "during", "last.ckpt")),
        ("generate", ("rename", "after", "txt")),
        ("cache", ("write", "during", "npz")),
    ):
        if name in names:
            found.append((name, {"do": "kill", "like": like}))
    return found


def some_point(points, like, rng, *, before=False):
    """The number of a point: one that is like what is asked for, else any, each kind of point as likely as another."""
    numbered = list(enumerate(points))
    if like is not None:
        operation, when, part = like
        alike = [
            number
            for number, point in numbered
            if (point["operation"], point["when"]) == (operation, when)
            and part.split(".")[0] in point["path"]
            and point["path"].endswith(part.split(".")[-1] if "." in part else "")
        ]
        if alike:
            return rng.choice(alike)
    kinds = {}
    for number, point in numbered:
        if before and point["when"] != "before":
            continue
        kinds.setdefault((point["operation"], point["when"], point["path"]), []).append(number)
    return rng.choice(rng.choice(list(kinds.values())))


def table(outcomes):
    """Faults by what was harmed and by kind: those that happened, and of them those with a loss."""
    kinds = [*FAULTS, "limit", "small", "stranger", "race"]
    kinds = [kind for kind in kinds if any(outcome.fault["do"] == kind for outcome in outcomes)]
    counts, lost = Counter(), Counter()
    for outcome in outcomes:
        if outcome.happened or outcome.lost:
            counts[outcome.scenario, outcome.fault["do"]] += 1
            lost[outcome.scenario, outcome.fault["do"]] += bool(outcome.lost)
    lines = ["| what | " + " | ".join(kinds) + " | all | lost |", "| --- |" + " ---: |" * (len(kinds) + 2)]
    names = list(dict.fromkeys(outcome.scenario for outcome in outcomes))
    for name in names:
        cells = [str(counts[name, kind] or "") for kind in kinds]
        sums = [sum(found[name, kind] for kind in kinds) for found in (counts, lost)]
        lines.append(f"| {name} | " + " | ".join([*cells, *map(str, sums)]) + " |")
    cells = [str(sum(counts[name, kind] for name in names)) for kind in kinds]
    lines.append("| all | " + " | ".join([*cells, str(counts.total()), str(lost.total())]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
