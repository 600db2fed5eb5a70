"""The layer contract: which module may import which. It has no exceptions."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the ground up. A module imports from its own layer and from those before it.
LAYERS = (
    ("_core", "exported"),
    ("neighbors",),
    (
        "bandwidth",
        "certainty",
        "sampling",
        "localization",
        "schedules",
        "skeleton",
        "grid",
        "losses",
        "metrics",
        "distribution",
    ),
    ("models", "datasets"),
    ("tasks",),
    ("scripts",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# Beside the layers: it draws what the operator's layer computes, and tasks and scripts draw with it.
MAY_IMPORT_VIZ = ("viz", "tasks", "scripts")
VIZ_IMPORTS_BELOW = LEVEL["models"]


def module_files():
    """Every module's name and file, at its real place: the symlinks in pcsa/ lead to the same files."""
    for folder, package in (("pcsa", "pcsa"), *((name, f"pcsa.{name}") for name in ("models", "datasets", "scripts"))):
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "pcsa" and parts[0] in ("models", "datasets", "scripts"):
                continue
            yield ".".join([package, *(part for part in parts if part != "__init__")]), file


FILES = dict(module_files())


def imports_of(name):
    """The modules of the package that a module imports anywhere in its text, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import in line {node.lineno}"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in named:
            if target.split(".")[0] != "pcsa":
                continue
            while target not in FILES:  # a name inside of a module
                target = target.rpartition(".")[0]
            found.add(target)
    return found - {name}


IMPORTS = {name: imports_of(name) for name in FILES}


def part_of(name):
    """The folder or file directly under pcsa that a module belongs to; the package itself is above all."""
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_point_down(name):
    wrong = []
    for target in IMPORTS[name]:
        here, there = part_of(name), part_of(target)
        if not here or (not there and target == "pcsa"):
            # `import pcsa` and what the package itself shows: the operator's layer, seen from above it.
            fine = not here or here == "viz" or LEVEL[here] >= LEVEL["models"]
        elif there == "viz":
            fine = here in MAY_IMPORT_VIZ
        elif here == "viz":
            fine = LEVEL[there] < VIZ_IMPORTS_BELOW
        else:
            fine = LEVEL[there] <= LEVEL[here]
        if not fine:
            wrong.append(target)
    assert not wrong


@pytest.mark.parametrize("unit", ["file", "folder"])
def test_there_is_no_circle(unit):
    graph = {}
    for name, targets in IMPORTS.items():
        if not part_of(name):
            continue  # pcsa/__init__.py names what the package shows
        for target in targets:
            if part_of(target):
                ends = (name, target) if unit == "file" else (part_of(name), part_of(target))
                if ends[0] != ends[1]:
                    graph.setdefault(ends[0], set()).add(ends[1])
    if unit == "file":
        # A package's __init__ names what its files define, and its files may name the package's subject matter
        # only through the files themselves.
        packages = {name for name, file in FILES.items() if file.name == "__init__.py"}
        inside = [(n, t) for n, ts in graph.items() for t in ts if t in packages and n.startswith(f"{t}.")]
        assert not inside
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", sorted(FILES))
def test_private_modules_stay_in_their_folder(name):
    # pcsa._core is what all of the package stands on; any other private module is its own folder's.
    wrong = []
    for target in IMPORTS[name]:
        parts = target.split(".")
        for depth, part in enumerate(parts):
            folder = ".".join(parts[:depth])
            if part.startswith("_") and part != "_core" and not f"{name}.".startswith(f"{folder}."):
                wrong.append(target)
    assert not wrong
