import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.custom import write_labeled
from pcsa.datasets.keypointnet import CLASS_IDS, KeypointNet, check_root
from pcsa.datasets.pcd import write_pcd

BED = CLASS_IDS["bed"]


def test_check_of_a_whole_root(root: Path, points_of: Callable) -> None:
    write_pcd(root / "pcds" / BED / "dd.pcd", points_of("dd"))
    (root / "splits" / "train.txt").write_text(f"{BED}-aa\n0000-xx\n{BED}-bb\n")
    assert check_root(root) == []
    KeypointNet(root, "bed", "all", strict=True)
    assert check_root(root) == []  # the processed file is no problem


def test_check_lists_everything(root: Path, tmp_path: Path, points_of: Callable, edit: Callable) -> None:
    edit(
        root,
        lambda records: (
            records[0]["keypoints"][0]["pcd_info"].update(point_index=99),
            records[2]["keypoints"][0].update(semantic_id=9),
        ),
    )
    (root / "annotations" / "cap.json").write_text("nonsense")
    write_pcd(root / "pcds" / BED / "ff.pcd", points_of("ff"))
    (root / "pcds" / "1234").mkdir()
    path = root / "pcds" / BED / "bb.pcd"
    path.write_text(path.read_text().replace(path.read_text().split("\n")[11], "0 nan 0"))
    (root / "splits" / "val.txt").write_text(f"{BED}-bb\n{BED}-bb\n")
    (root / "splits" / "test.txt").unlink()
    found = [str(problem) for problem in check_root(root)]
    expected = [
        ("annotations/bed.json", "model aa: `point_index` 99"),
        ("annotations/bed.json", "model cc: semantic id 9 occurs 2 times"),
        ("annotations/bed.json", "1 annotated clouds are not in"),
        (f"pcds/{BED}/bb.pcd", "points are not finite"),
        ("annotations/cap.json", "JSON"),
        (f"pcds/{BED}/ff.pcd", "without annotation"),
        ("pcds/1234", "no annotations"),
        ("splits/train.txt", "1 clouds of class"),
        ("splits/val.txt", "named 2 times"),
        ("splits/val.txt", "split 'train' too"),
        ("splits/test.txt", "missing"),
        ("splits", "1 clouds of class 02818832 are in no split"),
    ]
    for where, what in expected:
        assert sum(line.startswith(f"{where}: ") and what in line for line in found) == 1, (
            where,
            what,
            found,
        )
    assert len(found) == len(expected), found

    assert [p.message for p in check_root(tmp_path / "absent")] == ["no such folder"]
    (tmp_path / "empty").mkdir()
    assert [p.path for p in check_root(tmp_path / "empty")] == ["annotations", "pcds", "splits"]


def test_lines_copies_and_names(root: Path, points_of: Callable) -> None:
    points = points_of("aa")
    points[5:8] = 0  # invalid pixels
    write_pcd(root / "pcds" / BED / "aa.pcd", points)
    with (root / "splits" / "train.txt").open("a") as file:
        file.write(f"\nbed aa\n{BED}-\n-aa\n{BED}-cc\n")
    (root / "pcds" / BED / "._aa.pcd").write_text("")
    odd = os.fsencode(root / "pcds" / BED) + b"/h\xe4nd.pcd"
    with open(odd, "w") as file:
        file.write("")
    found = [str(problem) for problem in check_root(root)]
    expected = [
        (f"pcds/{BED}/aa.pcd", "2 of "),
        ("splits/train.txt", "line 6: `bed aa` must be <class id>-<model id>"),
        ("splits/train.txt", f"line 7: `{BED}-` must be"),
        ("splits/train.txt", "line 8: `-aa` must be"),
        ("splits/val.txt", f"`{BED}-cc` is in split 'train' too"),
        (f"pcds/{BED}/h\\xe4nd.pcd", "a cloud without annotation"),
    ]
    for where, what in expected:
        assert sum(line.startswith(f"{where}: ") and what in line for line in found) == 1, (where, what, found)
    assert not [line for line in found if "._aa" in line]
    "\n".join(found).encode("utf-8")  # can be printed


def test_a_root_of_two_clouds_without_validation(tmp_path: Path) -> None:
    points = np.random.default_rng(0).random((2, 30, 3))
    write_labeled(tmp_path, "fish", [(cloud, cloud[:1], ["nose"]) for cloud in points])
    assert check_root(tmp_path) == []
    assert len(KeypointNet(tmp_path, "fish", "train")) == 2
    with pytest.raises(FileNotFoundError, match="split 'val' names no cloud of fish"):
        KeypointNet(tmp_path, "fish", "val")
