"""A category is replaced as a whole, whatever cuts it off, and nothing outside of the root is touched."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.custom import write_labeled
from pcsa.datasets.keypointnet import KeypointNet, changes, check_root


def fish(seed: int, count: int) -> list:
    clouds = [np.random.default_rng([seed, i]).random((50, 3)) for i in range(count)]
    return [(points, points[[0, 7]], ["nose", "tail"]) for points in clouds]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_labeled(tmp_path / "root", "bird", fish(1, 4))
    write_labeled(tmp_path / "root", "fish", fish(2, 6))
    return tmp_path / "root"


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def replaced(root: Path) -> None:
    write_labeled(root, "fish", fish(3, 3), seed=1, overwrite=True)


class Killed(BaseException):
    """As a kill, it lets nothing be tidied up."""


@pytest.mark.parametrize("number", range(12))
def test_a_change_that_is_cut_off_is_ended_by_who_reads_or_writes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = contents(root)
    count = 0
    replace = os.replace

    def cut_off(source, target, **more):
        nonlocal count
        count += 1
        if count == number + 1:
            raise Killed
        return replace(source, target, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_off)
        try:
            replaced(root)
            assert number >= 8  # a plan, three clouds, three splits, annotations
        except Killed:
            assert number < 8
    whole = tmp_path / "whole"
    write_labeled(whole, "bird", fish(1, 4))
    write_labeled(whole, "fish", fish(2, 6))
    replaced(whole)
    KeypointNet(root, "bird", "train", strict=True)
    assert contents(root) == (before if number == 0 else contents(whole))
    assert check_root(root) == []
    replaced(root)
    assert contents(root) == contents(whole)


def test_a_change_that_is_not_at_its_end_is_a_problem_of_the_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(changes, "finish_changes", lambda root: None)
        replaced(root)
    problems = [str(problem) for problem in check_root(root)]
    assert problems == [
        ".pending-fish: a change of the category was cut off: reading it by KeypointNet ends the change"
    ]
    assert len(KeypointNet(root, "fish", "train")) == 1
    assert check_root(root) == []


def test_a_damaged_change_is_named(root: Path) -> None:
    (root / ".pending-fish").mkdir()
    plan = {"category": "fish", "class_id": "fish", "records": [], "splits": {}, "stale": []}
    wrong = [{"category": "bird"}, {"class_id": ".."}, {"splits": {"../../x": []}}, {"stale": None}]
    for text in ("no json", "{}", *(json.dumps(plan | part) for part in wrong)):
        (root / ".pending-fish" / "change.json").write_text(text)
        with pytest.raises(ValueError, match=r"change\.json`: "):
            KeypointNet(root, "fish", "train")


@pytest.mark.parametrize("link", ["pcds", "pcds/fish", "splits", "annotations", ".pending-fish/clouds"])
def test_whoever_reads_changes_nothing_where_a_link_leads_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(changes, "finish_changes", lambda root: None)
        replaced(root)
    (root / link).rename(tmp_path / "elsewhere")
    (root / link).symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"leads out of the root, whose change `\.pending-fish` only its writer ends"):
        KeypointNet(root, "fish", "train")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["../../x", "../x", "/tmp/x", "a/../../../x", "..", ".", ""])
def test_ids_of_former_annotations_do_not_leave_the_root(root: Path, tmp_path: Path, name: str) -> None:
    outside = [tmp_path / "x.pcd", root / "x.pcd", root / "pcds" / "x.pcd", root / "pcds" / "bird" / "000000.pcd"]
    for path in outside:
        path.write_bytes(b"somebody's")
    annotations = root / "annotations" / "fish.json"
    records = json.loads(annotations.read_text())
    records[0]["model_id"] = name
    annotations.write_text(json.dumps(records))
    before = {path: path.read_bytes() for path in outside}
    replaced(root)
    assert {path: path.read_bytes() for path in outside} == before
    assert not changes.is_plain("a/b")
    assert not changes.is_plain("a\0b")
    assert changes.is_plain("1a.b c")


def test_a_full_disk_leaves_the_category_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(root)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device; its fish is as it was") as error:
            replaced(root)
    assert error.value.filename == str(root)
    assert contents(root) == before
    assert not list(root.glob(".*"))
