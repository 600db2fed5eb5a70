"""``make gpu``: on a machine with a card, everything that without one is counted, compiled or estimated.

The tests that need a card, the cases of ``pcsa bench`` on it, and whole trainings: in float32 and bfloat16 as CUDA
graphs, and in float32 without them. Each part is a process with a budget: one that fails, or would need longer, is
said to, and the others go on. Nothing is fetched.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from pcsa.scripts.bench.report import Check

Part = Literal[
    "operator", "limits", "neighbors", "pointnet2", "skeleton", "step", "train-graph", "train-32", "train-bf16", "tests"
]
PARTS: tuple[Part, ...] = get_args(Part)
# Seconds that a part may take. Tests come last and have what is left: each of them builds kernels of its own.
BUDGETS: dict[str, int] = {
    "operator": 40, "limits": 15, "neighbors": 30, "pointnet2": 45, "skeleton": 40, "step": 30,
    "train-graph": 45, "train-32": 60, "train-bf16": 85, "tests": 480,
}  # fmt: skip
# What the parts import that an installation of the library alone does not bring.
_NEEDED = ("lightning", "torch_geometric", "torchmetrics", "tyro", "scipy", "trimesh", "h5py", "pytest", "xdist")


@dataclass(frozen=True)
class GpuConfig:
    """Measure on a CUDA device what was only counted or estimated without one. Takes at most eight minutes."""

    parts: tuple[Part, ...] = PARTS
    """What to do: tests, cases of `pcsa bench`, trainings."""
    out: Path = Path("gpu.json")
    """File of everything that was measured; beside it, with the ending .md, the table to paste."""
    budget: float = 480.0
    """Seconds of all parts together."""
    repeats: int = 5
    """Turns of each timing."""
    steps: int = 800
    """Optimizer steps of a training."""
    num_workers: int = 4
    """Processes that load beside a training."""
    root: Path | None = None
    """Folder in KeypointNet's layout to train on, its beds if it has some; default the folder `keypointnet` in
    $PCSA_TEST_DATA, else procedural chairs."""
    device: str = "cuda"
    """Device; `cpu` tries the command out."""
    shrink: int = 1
    """Divide every number of points of the cases by this, to try the command out; targets do not apply then."""

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"`device` (={self.device!r}) must be cpu or cuda")
        for name in ("budget", "repeats", "steps", "shrink"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` (={getattr(self, name)}) must be above 0")
        if not self.out.absolute().parent.is_dir():
            raise ValueError(f"`out` (={str(self.out)!r}) must lie in a folder that exists")

    @property
    def selected(self) -> tuple[Part, ...]:
        """Parts to run; a CPU has no CUDA graphs."""
        return tuple(part for part in self.parts if self.device == "cuda" or part != "train-graph")


@dataclass(frozen=True)
class Done:
    """How a part ended."""

    part: str
    state: str
    """``done``, or why not."""
    seconds: float
    found: Any = None


@dataclass(frozen=True)
class Measured:
    """Everything that is written."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    parts: list[Done] = field(default_factory=list)


def main(argv: list[str]) -> int:
    """Measure, print the table, write both files; exit status 1 if a part failed or was stopped, 2 without a card."""
    lacking = missing("cpu" if "cpu" in argv else "cuda")
    if lacking is not None:
        print(f"make gpu: {lacking}", file=sys.stderr)
        return 2
    import tyro

    # The interpreter of kernels is for tests on a CPU: forgotten there, it would keep them from the card.
    if os.environ.pop("TRITON_INTERPRET", None):
        print("make gpu: TRITON_INTERPRET was set in the environment, and is not used", file=sys.stderr)
    config = tyro.cli(GpuConfig, args=argv, prog="python -m pcsa.scripts.gpu")
    measured = measure(config)
    table = format_table(measured)
    print(table)
    config.out.write_text(json.dumps(dataclasses.asdict(measured), indent=1) + "\n")
    config.out.with_suffix(".md").write_text(table + "\n")
    print(f"\nwritten: {config.out}, {config.out.with_suffix('.md')}")
    return 1 if any(done.state.startswith(("failed", "stopped")) for done in measured.parts) else 0


def missing(device: str) -> str | None:
    """Say in one line what keeps the command from running here; None where nothing does."""
    lacking = [name for name in ("torch", *_NEEDED) if importlib.util.find_spec(name) is None]
    if lacking:
        install = "pip install -c constraints.txt -e '.[train,dev]'"
        return f"{', '.join(lacking)} cannot be imported; install what is pinned: {install}"
    if device != "cuda":
        return None
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA: install one with it (on Linux, `pip install torch`)"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA device: is there a card, and does `nvidia-smi` show it?"
    return None


def measure(config: GpuConfig) -> Measured:
    """Run every part within what is left of the budget."""
    import torch

    from pcsa.scripts.bench.measure import describe_machine, log

    device = torch.device(config.device)
    machine = {**describe_machine(device, 1), **_card(device)}
    settings = {k: v if isinstance(v, int | float | str) else str(v) for k, v in vars(config).items() if k != "parts"}
    measured = Measured(machine, settings)
    end = time.monotonic() + config.budget
    with tempfile.TemporaryDirectory() as folder:
        for part in config.selected:
            done = _run(part, config, Path(folder), min(BUDGETS[part], end - time.monotonic()))
            log(f"{part}: {done.state}, {done.seconds:.0f} s")
            measured.parts.append(done)
    return measured


def _card(device: Any) -> dict[str, Any]:
    """What else of the machine the figures depend on."""
    import torch

    from pcsa._core.triton.launch import obstacle

    about: dict[str, Any] = {"cuda": torch.version.cuda, "triton": obstacle(device) or "runs"}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about["capability"] = f"{properties.major}.{properties.minor}"
        about["memory_bytes"] = properties.total_memory
    if importlib.util.find_spec("triton") is not None:
        about["triton_version"] = importlib.metadata.version("triton")
    about["torch_cluster"] = importlib.util.find_spec("torch_cluster") is not None
    return about


def _run(part: Part, config: GpuConfig, folder: Path, budget: float) -> Done:
    """Run a part in processes of its own, and end them when its time is up."""
    start = time.monotonic()
    if budget <= 0:
        return Done(part, "left out: the time was up", 0.0)
    arguments, result = _command(part, config, folder)
    if not arguments:
        return Done(part, "left out: there is no folder tests here", 0.0)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    # In a session of its own: what a part started ends with it.
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=budget)
    except subprocess.TimeoutExpired:
        _end(process)
        output, errors = process.communicate()
        return Done(part, f"stopped after {budget:.0f} s", time.monotonic() - start, (output + errors)[-2000:])
    seconds = time.monotonic() - start
    if process.returncode:
        last = [text.strip().splitlines()[-1] for text in (errors, output) if text.strip()] or [""]
        return Done(part, f"failed ({process.returncode}): {last[0][:200]}", seconds, (output + errors)[-4000:])
    return Done(part, "done", seconds, result(output))


def _end(process: subprocess.Popen[str]) -> None:
    if hasattr(os, "killpg"):
        import signal

        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _command(part: Part, config: GpuConfig, folder: Path) -> tuple[list[str], Any]:
    """Arguments of Python for a part, and what turns its output into what is kept."""
    from pcsa.scripts.bench.measure import available_cores

    if part == "tests":
        files = cuda_tests(Path("tests"))
        # Most of their time the CPU builds kernels.
        processes = str(max(1, min(12, available_cores() * 3 // 4)))
        options = ["-q", "-m", "cuda", "-n", processes, "--dist", "worksteal", "--no-header"]
        return (["-m", "pytest", *options, *files] if files else []), lambda output: output.strip().splitlines()[-1]
    if part.startswith("train-"):
        root, category = _clouds(config)
        asked = {
            "out": str(folder / part), "device": config.device, "steps": config.steps,
            "num_workers": config.num_workers, "precision": "bf16-mixed" if part == "train-bf16" else "32-true",
            "cuda_graph": part != "train-32",
            "root": None if root is None else str(root), "category": category,
        }  # fmt: skip
        arguments = ["-m", "pcsa.scripts.bench.full_training", json.dumps(asked)]
        return arguments, lambda output: json.loads(output.strip().splitlines()[-1])
    file = folder / f"{part}.json"
    arguments = ["-m", "pcsa.scripts.cli", "bench", part, "--device", config.device, "--out", str(file)]
    arguments += ["--repeats", str(config.repeats), "--shrink", str(config.shrink), "--quick"]
    if config.root is not None:
        arguments += ["--root", str(config.root)]
    return arguments, lambda _: json.loads(file.read_text())


def cuda_tests(folder: Path) -> list[str]:
    """Files with tests that need a card: to look through all others for such takes as long as to run them."""
    marked = [p for p in sorted(folder.rglob("*.py")) if "mark.cuda" in p.read_text(encoding="utf-8")]
    files = {str(p) for p in marked if p.name != "conftest.py"}
    for shared in (p for p in marked if p.name == "conftest.py"):
        files |= {str(p) for p in shared.parent.rglob("test_*.py") if "device" in p.read_text(encoding="utf-8")}
    return sorted(files)


def _clouds(config: GpuConfig) -> tuple[Path | None, str]:
    """Root and category to train on; None for procedural shapes."""
    root, real = config.root, os.environ.get("PCSA_TEST_DATA")
    if root is None and real:
        root = Path(real) / "keypointnet"
    names = sorted(p.stem for p in (root / "annotations").glob("*.json")) if root is not None else []
    return (root, "bed" if "bed" in names else names[0]) if names else (None, "chair")


def figures(measured: Measured) -> list[Check]:
    """What the parts found, each with its target if it has one."""
    found = {done.part: done.found for done in measured.parts if done.state == "done"}
    shrunk = measured.settings["shrink"] > 1 or measured.settings["device"] == "cpu"
    out = _of_cases(found) + _of_trainings(found, measured.settings["steps"])
    return [dataclasses.replace(check, target=None) for check in out] if shrunk else out


def _of_cases(found: dict[str, Any]) -> list[Check]:
    from pcsa.scripts.bench.report import Check

    out: list[Check] = []

    def add(what: str, unit: str, spread: dict[str, Any] | None, target: float | None = None) -> None:
        if spread is not None and spread["median"] is not None:
            out.append(Check(what, unit, spread["median"], spread["low"], spread["high"], target))

    def number(what: str, unit: str, value: float | None, target: float | None = None) -> None:
        add(what, unit, {"median": value, "low": value, "high": value}, target)

    operator = _named(found.get("operator"))
    add("operator, S=30: time / literal Eq. 11-12", "×", operator.get("time / literal, S=30"))
    replayed = operator.get("time / literal, both CUDA graphs, S=30")
    add("operator, S=30: time / literal Eq. 11-12, both CUDA graphs", "×", replayed, 0.05)
    add("operator, S=30: memory / literal Eq. 11-12", "×", operator.get("memory / literal, S=30"), 0.02)
    limits = _named(found.get("limits"))
    drawn = limits.get("operator, CUDA graph", limits.get("operator"))
    if drawn is not None:
        random = 2 * limits["uniform_"]["median"]
        number("operator: time / random numbers written, both passes", "×", drawn["median"] / random, 2.0)
    neighbors = _named(found.get("neighbors"))
    for name in [key.removesuffix(": default") for key in neighbors if key.endswith(": default")]:
        ours, other = neighbors[f"{name}: default"], neighbors.get(f"{name}: torch_cluster")
        add(name, "s", ours)
        add(f"{name}: time / dense code", "×", neighbors.get(f"{name}: time / usual"))
        if other is not None:
            target = 1.0 if name.startswith("farthest") else None
            number(f"{name}: time / torch-cluster", "×", ours["median"] / other["median"], target)
    pointnet2 = _named(found.get("pointnet2"))
    for key in ("time / dense", "time / dense, searches done before", "memory / dense"):
        add(f"PointNet++: {key}", "×", pointnet2.get(f"single scale: {key}"), 1 / 3 if key == "time / dense" else None)
    skeleton = found.get("skeleton")
    for check in skeleton["results"][0]["checks"] if skeleton else []:
        add(f"Skeleton Merger: {check['what']}", check["unit"], check, check["target"])
    step = _named(found.get("step"))
    add("training step, waiting after each part, searches in it", "s", step.get("searches in the step"))
    add("training step, waiting after each part, searches done before", "s", step.get("searches done before"))
    return out


_TRAININGS = {
    "train-graph": "float32, CUDA graphs",
    "train-32": "float32, launched one by one",
    "train-bf16": "bfloat16, CUDA graphs",
}


def _of_trainings(found: dict[str, Any], steps: int) -> list[Check]:
    from pcsa.scripts.bench.report import deterministic, seconds

    out: list[Check] = []
    for part, name in _TRAININGS.items():
        if (training := found.get(part)) is None:
            continue
        promised = part == "train-graph"
        target = steps * 10.0 / 800 if promised else None
        out.append(seconds(f"training, {name}: {steps} steps", [training["seconds"]], target))
        if training["step"] is not None:
            limit = 0.004 if promised else None
            out.append(seconds(f"training, {name}: one step", [training["step"]], limit))
        out.append(deterministic(f"training, {name}: PCK@0.01 on {training['split']}", training["pck"], "%"))
        if training["peak_bytes"] is not None:
            out.append(deterministic(f"training, {name}: peak memory", training["peak_bytes"] / 1e6, "MB"))
    return out


def _named(report: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Every row and every check of a report of ``pcsa bench`` by its name."""
    results = report["results"] if report else []
    return {entry["what"]: entry for result in results for entry in (*result["rows"], *result["checks"])}


def format_table(measured: Measured) -> str:
    """Write what was measured, and how the parts ended, as Markdown."""
    from pcsa.scripts.bench.report import target_cells, value_of
    from pcsa.tasks.common.tables import markdown_table

    m = measured.machine
    card = "".join(f", {key} {m[key]}" for key in ("capability", "cuda", "triton_version") if m.get(key))
    parts = [f"{m['device']}{card}; Triton: {m['triton']}; {m['cpu']}, {m['cores']} cores; torch {m['torch']}, "
             f"pcsa {m['pcsa']}; {m['date']}."]  # fmt: skip
    if measured.settings["shrink"] > 1:
        parts.append(f"Numbers of points divided by {measured.settings['shrink']}.")
    rows = [[check.what, value_of(check), *target_cells(check)] for check in figures(measured)]
    if rows:
        parts.append(markdown_table(["what", "measured", "target", "met"], rows))
    ends = [[d.part, d.state, f"{d.seconds:.0f} s", d.found if d.part == "tests" and d.state == "done" else ""]
            for d in measured.parts]  # fmt: skip
    parts.append(markdown_table(["part", "ended", "took", ""], ends))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
