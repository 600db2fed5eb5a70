"""What is installed, and what importing it costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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
    found = {
        (".".join(file.parent.relative_to(ROOT).parts), file.name)
        for file in (ROOT / "pcsa").rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
        if not {"models", "datasets", "scripts"} & set(file.relative_to(ROOT).parts)
    }
    listed = pyproject["tool"]["setuptools"]["package-data"]
    assert found == {(package, name) for package, names in listed.items() for name in names}


@pytest.mark.parametrize("name", ["models", "datasets", "scripts"])
def test_an_uninstalled_checkout_resolves_the_mapped_packages(name):
    link = ROOT / "pcsa" / name
    assert link.is_symlink()
    assert link.resolve() == (ROOT / name).resolve()


def test_import_brings_in_nothing_heavy():
    code = f"import pcsa, sys; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_what_draws_brings_in_nothing_heavy():
    code = f"import sys, pcsa.viz; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_version(pyproject):
    assert pcsa.__version__ == pyproject["project"]["version"]


def test_extras(pyproject):
    assert set(pyproject["project"]["optional-dependencies"]) == {"train", "viz", "cluster", "dev", "docs", "all"}
