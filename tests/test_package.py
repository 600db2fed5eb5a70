"""What is installed, and what importing it costs."""

import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import pcsa

ROOT = Path(__file__).parent.parent
HEAVY = (
    "lightning",
    "open3d",
    "torch_geometric",
    "scipy",
    "torchmetrics",
    "matplotlib",
    "trimesh",
    "tyro",
    "plotly",
    "PIL",
    "monai",
    "kornia",
    "pycocotools",
    "triton",
)


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_modules_is_packaged(pyproject):
    # A sub-package that pyproject.toml does not list is silently missing from the wheel.
    setuptools = pyproject["tool"]["setuptools"]
    folders = {"pcsa": "pcsa", "models": "pcsa.models", "datasets": "pcsa.datasets", "scripts": "pcsa.scripts"}
    found = set()
    for folder, package in folders.items():
        for file in (ROOT / folder).rglob("*.py"):
            inside = file.parent.relative_to(ROOT / folder)
            if folder != "pcsa" or not {"models", "datasets", "scripts"} & set(inside.parts):
                found.add(".".join([package, *inside.parts]))
    assert found == set(setuptools["packages"])
    assert {package: folder for folder, package in folders.items()} == setuptools["package-dir"]


def test_every_other_file_is_packaged(pyproject):
    folders = {"pcsa": "pcsa", "pcsa.models": "models", "pcsa.datasets": "datasets", "pcsa.scripts": "scripts"}
    found = {
        file
        for folder in folders.values()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
        if folder != "pcsa" or not {"models", "datasets", "scripts"} & set(file.relative_to(ROOT / folder).parts)
    }
    listed = set()
    for package, patterns in pyproject["tool"]["setuptools"]["package-data"].items():
        top = next(top for top in sorted(folders, key=len, reverse=True) if f"{package}.".startswith(f"{top}."))
        folder = ROOT / folders[top] / Path(*package.removeprefix(top).strip(".").split("."))
        for pattern in patterns:
            listed |= set(folder.glob(pattern))
    assert found == listed


@pytest.mark.parametrize("name", ["models", "datasets", "scripts"])
def test_an_uninstalled_checkout_resolves_the_mapped_packages(name):
    link = ROOT / "pcsa" / name
    assert link.is_symlink()
    assert link.resolve() == (ROOT / name).resolve()


MODULES = {module.name for module in pkgutil.iter_modules(pcsa.__path__)}
COMPILER = ("torch._dynamo", "torch._inductor", "sympy")
OPERATORS = (
    "bandwidth",
    "distribution",
    "grid",
    "localization",
    "losses",
    "neighbors",
    "sampling",
    "schedules",
    "skeleton",
)


def imported_by(code, names):
    """Which of the modules named are imported after running some code in a process of its own."""
    code = f"import sys\n{code}\nprint(*[m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_the_package_imports_no_torch():
    assert imported_by("import pcsa", ("torch", "numpy", *HEAVY)) == []


def test_neither_heavy_packages_nor_the_compiler_are_imported():
    # A trained network is opened by what trains it.
    names = {*dir(pcsa)} - MODULES - {"load"} | {*OPERATORS, "viz"}
    code = f"import torch, numpy, pcsa; [getattr(pcsa, name) for name in {names}]"
    assert imported_by(code, (*HEAVY, *COMPILER)) == []


def test_the_networks_do_not_import_the_compiler():
    assert imported_by("import torch, pcsa.models", COMPILER) == []


def test_names_are_reached_from_the_package():
    assert {name for name in MODULES if not name.startswith("_")} < set(dir(pcsa))
    for name in OPERATORS:
        assert getattr(pcsa, name) is sys.modules[f"pcsa.{name}"]
    assert pcsa.localize is pcsa.localization.localize
    assert "localize" in vars(pcsa)  # looked up once
    with pytest.raises(AttributeError, match="module 'pcsa' has no attribute 'localise'"):
        _ = pcsa.localise


@pytest.mark.parametrize("first", ["losses", "metrics"])
def test_metrics_are_reached_beside_losses(first):
    # In a process of its own, where nothing else has imported them.
    code = f"import pcsa; pcsa.{first}; from pcsa import losses; pcsa.losses.sample_error, pcsa.metrics.pck"
    assert imported_by(code, ("pcsa.metrics", "pcsa.losses", *HEAVY)) == ["pcsa.metrics", "pcsa.losses"]


def test_a_compiled_function_reaches_names_through_the_package(monkeypatch):
    def draw(logits):
        return pcsa.sampling_argmax(logits, torch.arange(6.0).view(3, 2), 0.1, num_samples=4).sum()

    monkeypatch.delitem(vars(pcsa), "sampling_argmax", raising=False)  # the first look-up is the compiler's
    assert torch.compile(draw, backend="eager", fullgraph=True)(torch.zeros(3, 1)).isfinite()


def test_version(pyproject):
    assert pcsa.__version__ == pyproject["project"]["version"]


def test_extras(pyproject):
    assert set(pyproject["project"]["optional-dependencies"]) == {
        "train",
        "viz",
        "cluster",
        "export",
        "dev",
        "soak",
        "docs",
        "all",
    }
