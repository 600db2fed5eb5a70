"""The scripts of examples/ and the Python of README and guides run, and find what they look for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
SNIPPETS = {
    page.stem: re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    for page in PAGES
    # Their commands come between: tests/scripts/test_page_of_a_detector.py, test_page_of_the_course.py.
    if page.stem not in ("use-a-detector", "course")
}


def run(name, *options):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [("own_network", 0.3), ("heatmap", 0.3)])
def test_training_lowers_the_error(name, share):
    before, after = re.search(r"([\d.]+)(?: pixels)? before, ([\d.]+) after", run(name)).groups()
    assert float(after) < share * float(before)


@pytest.mark.slow
def test_own_clouds_from_labels_to_predictions():
    # Guessing the center would be 60 to 100 mm off.
    distances = re.findall(r"(\d+) mm from the label", run("own_clouds"))
    assert len(distances) == 3
    assert max(map(int, distances)) < 50


@pytest.mark.slow
def test_measured_lengths_stand_in_for_labels():
    printed = run("measured_lengths", "--seeds", "2")
    error = {name: float(peak) for name, peak in re.findall(r"^(\S.*?) +[\d.]+ +([\d.]+) ", printed, re.MULTILINE)}
    alone = error.pop("labels alone")
    assert len(error) == 6
    assert max(error.values()) < 0.5 * alone


def test_no_example_is_forgotten():
    names = {"backbones", "course_project", "own_network", "heatmap", "own_clouds", "measured_lengths", "landmark_sets"}
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == names


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.viz) if p == "pictures" else p for p, blocks in SNIPPETS.items() if blocks],
)
def test_snippets_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, block in enumerate(SNIPPETS[page]):
        exec(compile(block, f"{page}.md, block {number}", "exec"), names)
