"""Install the wheel beside the oldest and the newest of what it needs, try it there, and print tables in Markdown.

    python tests/compatibility/table.py [--work FOLDER] [--rows NAME…] [--out FILE.md]

Needs the Pythons of the rows (on the path, or from pyenv), the module `build`, and pip's index. Environments and
results stay in the work folder: a row that is done is not done again, so that a call that was stopped goes on.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPERATOR = ("test_sampling.py", "test_bandwidth.py", "losses/test_samples.py", "neighbors/test_nearest.py")
TASKS = ("supervised", "unsupervised", "pose2d", "pose3d", "oct", "landmarks")
NAMED = ("torch", "torch-geometric", "numpy", "lightning", "huggingface_hub", "triton")
# Packages that are imported by another name.
MODULES = {
    "torch-geometric": "torch_geometric",
    "pillow": "PIL",
    "python-neo-lzf": "lzf",
    "pyyaml": "yaml",
    "open3d-cpu": "open3d",
}
EXTRAS = ("train", "viz", "export")


@dataclass(frozen=True)
class Row:
    """One environment.

    Args:
        name: Its folder.
        python: Its Python.
        extras: Extras of the package, joined by commas.
        pins: What pip installs beside the wheel.
        lowest: Whether the lower bounds of pyproject.toml are installed.
        locked: Whether the versions of constraints.txt are.
        base: Row whose environment is changed for this one, rather than made anew.
        about: What the row is about.
    """

    name: str
    python: str
    about: str
    extras: str = ""
    pins: tuple[str, ...] = ()
    lowest: bool = False
    locked: bool = False
    base: str = ""


ROWS = (
    Row("locked", "3.11", "constraints.txt", "train,viz,export", locked=True),
    Row("oldest", "3.11", "every lower bound", "train,export", lowest=True),
    Row("oldest-torch", "3.11", "oldest torch, newest PyG", "train,export", ("torch-geometric>=2.8.1",), base="oldest"),
    Row(
        "card", "3.12", "torch 2.11 with Triton 3.6", "train,export", ("torch==2.11.0", "torch-geometric==2.8.0.post1")
    ),
    Row("newest", "3.13", "the newest of all", "train,export"),
    Row("oldest-pyg", "3.13", "newest torch, oldest PyG", "train,export", ("torch-geometric==2.6.0",), base="newest"),
    Row("none", "3.11", "no extra", "", locked=True),
    Row("viz", "3.11", "the extra viz alone", "viz", locked=True),
)


def name_of(requirement: str) -> str:
    """The package of a requirement."""
    return re.match(r"[\w.-]+", requirement)[0]


def optional(extra: str) -> list[str]:
    """The packages of an extra that are for this machine."""
    found = [r for r in PROJECT["optional-dependencies"][extra] if ";" not in r or "==" in r.split(";")[1]]
    return [name_of(requirement) for requirement in found]


def lower_bounds(*extras: str) -> list[str]:
    """What pyproject.toml asks for, each at the oldest version that it allows."""
    asked = [*PROJECT["dependencies"], *(r for extra in extras for r in PROJECT["optional-dependencies"][extra])]
    return [requirement.split(";")[0].strip().replace(">=", "==") for requirement in asked]


def python_of(version: str) -> str:
    """Find an interpreter: the newest of pyenv's, or what is on the path."""
    if shutil.which("pyenv"):
        root = Path(subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip())
        found = sorted(root.glob(f"versions/{version}.*/bin/python"), key=lambda p: int(p.parts[-3].split(".")[2]))
        if found:
            return str(found[-1])
    return shutil.which(f"python{version}") or sys.exit(f"there is no Python {version} here")


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command on one thread, in a folder, and keep what it says in `last.log` there."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["env", "-u", "PYTHONPATH", "OMP_NUM_THREADS=1", f"PCSA_CACHE_DIR={folder / 'cache'}", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    (folder / "last.log").write_text(f"{arguments}\n{done.stdout}\n{done.stderr}")
    return done


def pip(python: str, folder: Path, *arguments: str) -> None:
    """Let pip do something in an environment, or end with what it says."""
    done = run([python, "-m", "pip", "--quiet", *arguments], folder)
    if done.returncode:
        sys.exit(f"pip {' '.join(arguments)}: {done.stderr[-2000:]}")


def environment(row: Row, wheel: Path, work: Path) -> str:
    """Make the environment of a row, unless it is there, and return its Python."""
    folder = work / (row.base or row.name)
    python = str(folder / "bin" / "python")
    ready = folder / "ready"
    if not ready.exists():
        base = next(r for r in ROWS if r.name == (row.base or row.name))
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python_of(base.python), "-m", "venv", str(folder)], check=True)
        extras = base.extras.split(",") if base.extras else []
        asked = [f"{wheel}[{base.extras}]" if extras else str(wheel), "pytest", "hypothesis", *base.pins]
        if base.lowest:
            asked += lower_bounds(*extras)
        if base.locked:
            asked += ["--constraint", str(ROOT / "constraints.txt")]
        pip(python, folder, "install", "--no-compile", *asked)
        ready.touch()
    if row.base:
        pip(python, folder, "install", *row.pins)
    return python


def versions(python: str, folder: Path) -> dict[str, str]:
    """The versions of what an environment has."""
    done = run([python, "-m", "pip", "list", "--format", "json"], folder)
    found = {p["name"].lower().replace("_", "-"): p["version"] for p in json.loads(done.stdout)}
    return {name: found.get(name.lower().replace("_", "-"), "none") for name in NAMED}


def imports(python: str, folder: Path, missing: list[str]) -> str:
    """Import every module; some packages may be missing."""
    names = [MODULES.get(name, name) for name in missing]
    done = run([python, "-P", str(ROOT / "tests" / "import_everything.py"), str(ROOT), *names], folder)
    # What packages print as they are imported comes before.
    said = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    return said.replace(" modules import from the wheel", "") if not done.returncode else failed(done)


def operator(python: str, folder: Path) -> str:
    """Run the tests of the operator on the installed package."""
    tests = [str(ROOT / "tests" / name) for name in OPERATOR]
    options = ["-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-m", "not slow and not cuda"]
    done = run([python, "-P", "-m", "pytest", *options, *tests], folder)
    return re.sub(r" in .*", "", done.stdout.strip().splitlines()[-1]) if not done.returncode else failed(done)


def commands(python: str, folder: Path, *tasks: str) -> list[dict[str, object]]:
    """Train, evaluate, predict, share and export with the installed commands."""
    for name in ("data", "runs", "shared", "predictions.json", "detector.onnx"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).unlink(missing_ok=True)
    done = run([python, "-P", str(Path(__file__).with_name("commands.py")), *tasks], folder)
    ended = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return ended or [{"words": "commands", "status": 1, "crash": failed(done), "said": ""}]


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that a failed command said."""
    return f"**failed**: {(done.stdout + done.stderr).strip().splitlines()[-1]}"


def summary(ended: list[dict[str, object]]) -> str:
    """What came of commands: how many worked, and what the first said that did not."""
    wrong = [c for c in ended if c["status"] or c["crash"]]
    if not wrong:
        return f"{len(ended)} of {len(ended)} commands"
    first = wrong[0]
    words = " ".join(str(first["words"]).split()[:2])
    said = f"**{first['crash']}**" if first["crash"] else first["said"]
    return f"{len(ended) - len(wrong)} of {len(ended)}; `{words}`: {said}"


def missing_of(row: Row) -> list[str]:
    """The packages of the extras that a row does not have."""
    have = {name for extra in row.extras.split(",") if extra for name in optional(extra)}
    return sorted({name for extra in EXTRAS for name in optional(extra)} - have)


def do_row(row: Row, wheel: Path, work: Path) -> dict[str, object]:
    """Try one environment."""
    python, folder = environment(row, wheel, work), work / f"{row.name}-tried"
    trains = "train" in row.extras
    ended = commands(python, folder, *TASKS) if trains else commands(python, folder, "supervised")
    return {
        "about": row.about,
        "python": run([python, "-V"], folder).stdout.split()[-1],
        **versions(python, folder),
        "imports": imports(python, folder, missing_of(row)),
        "operator": operator(python, folder),
        "commands": summary(ended),
    }


def do_without(package: str, wheel: Path, work: Path) -> dict[str, object]:
    """Try the locked environment without one package, and put it back."""
    python, folder = environment(ROWS[0], wheel, work), work / "without"
    done = run([python, "-m", "pip", "list", "--format", "freeze"], folder)
    norm = package.lower().replace("_", "-")
    pin = next(line for line in done.stdout.splitlines() if line.split("==")[0].lower().replace("_", "-") == norm)
    pip(python, folder, "uninstall", "-y", package)
    try:
        # A missing package may be what another one needs: count what imports, whatever is missing.
        return {
            "imports": imports(python, folder, [package]),
            "commands": summary(commands(python, folder, "supervised")),
        }
    finally:
        pip(python, folder, "install", "--no-deps", pin)


def cell(value: object) -> str:
    """A value as a cell of a table."""
    return str(value).replace("|", "\\|")


# What a command says where a package is missing ends like this; the page says it once.
_ADVICE = "; pip install 'pcsa[train]' brings what the commands need"


def table(heads: list[str], rows: list[list[object]]) -> list[str]:
    """Lines of a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *([cell(value).replace(_ADVICE, "") for value in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def tables(results: dict[str, dict[str, object]]) -> str:
    """The tables in Markdown: versions, what came of them, and what a missing package takes away."""
    rows = [found for row in ROWS if (found := results.get(row.name))]
    found_by = ["imports", "operator", "commands"]
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, found in results.items():
        if name.startswith("without "):
            alike.setdefault((found["imports"], found["commands"]), []).append(name.removeprefix("without "))
    lines = [
        *table(["environment", "Python", *NAMED], [[row[key] for key in ("about", "python", *NAMED)] for row in rows]),
        "",
        *table(
            ["environment", "modules that import", "tests of the operator", "train, evaluate, predict, share, export"],
            [[row[key] for key in ("about", *found_by)] for row in rows],
        ),
        "",
        *table(
            ["without", "modules that import", "train, evaluate, predict, share, export"],
            [[", ".join(names), *found] for found, names in alike.items()],
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Do the rows that are asked for and not done yet, and write the tables."""
    every = [row.name for row in ROWS] + [f"without-{name}" for extra in EXTRAS for name in optional(extra)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / ".compatibility", help="folder of environments and results")
    parser.add_argument("--rows", nargs="*", default=every, help="default all")
    parser.add_argument("--out", type=Path, help="page whose tables, after its line `<!-- tables -->`, are replaced")
    options = parser.parse_args()
    if options.out and not options.out.is_file():
        parser.error(f"--out (={options.out}) must be a page that is there")
    work = options.work.resolve()
    if not (wheels := list(work.glob("dist/pcsa-*.whl"))):
        done = run([sys.executable, "-m", "build", "--wheel", "--outdir", str(work / "dist"), str(ROOT)], work)
        shutil.rmtree(ROOT / "build", ignore_errors=True)
        wheels = list(work.glob("dist/pcsa-*.whl")) or sys.exit(done.stderr[-2000:])
    file = work / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in dict.fromkeys(options.rows):
        package = name.removeprefix("without-")
        key = name if package == name else f"without {package}"
        if key not in results:
            print(f"{key} …", file=sys.stderr, flush=True)
            row = next((r for r in ROWS if r.name == name), None)
            found = do_row(row, wheels[0], work) if row else do_without(package, wheels[0], work)
            # Another call may have done other rows in the meantime.
            results = {**(json.loads(file.read_text()) if file.exists() else {}), key: found}
            file.write_text(json.dumps(results, indent=1))
    text = tables(results)
    print(text)
    if options.out:
        before = options.out.read_text().split("<!-- tables -->")[0]
        options.out.write_text(f"{before}<!-- tables -->\n\n{text}")
    sys.exit("**" in text)


if __name__ == "__main__":
    main()
