from collections.abc import Callable
from pathlib import Path

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
        (f"pcds/{BED}/bb.pcd", "1 points are not finite"),
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
