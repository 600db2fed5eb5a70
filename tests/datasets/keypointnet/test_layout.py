import codecs
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa.datasets.keypointnet import CLASS_IDS, KeypointNet, check_root
from pcsa.datasets.keypointnet.layout import cloud_files, misaligned_models, models_of_split
from pcsa.datasets.pcd import read_pcd, write_pcd

BED, KNIFE = CLASS_IDS["bed"], CLASS_IDS["knife"]


@pytest.mark.parametrize("encode", [str.encode, lambda text: codecs.BOM_UTF8 + text.encode()])
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_lines_of_a_split(tmp_path: Path, encode: Callable, line_break: str) -> None:
    lines = ["0-aa", "", " 0-left hand scan 2 ", "0-B.C_d", "00-zz", "1-yy", "0-häuser"]
    (tmp_path / "train.txt").write_bytes(encode(line_break.join(lines)))
    assert models_of_split(tmp_path / "train.txt", "0") == ["aa", "left hand scan 2", "B.C_d", "häuser"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_a_split_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "train.txt").write_text("0-häuser\n", encoding=encoding)
    assert models_of_split(tmp_path / "train.txt", "0") == ["häuser"]


def test_hidden_files_are_no_clouds(tmp_path: Path) -> None:
    for name in ("b.c.pcd", "A.PCD", "left hand.pcd", "._b.pcd", ".x.pcd", "b.pcd.bak", "b.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.pcd").mkdir()
    assert list(cloud_files(tmp_path)) == ["A", "b.c", "left hand"]
    assert cloud_files(tmp_path / "absent") == {}


def rename(root: Path, old: str, new: str, edit: Callable) -> None:
    (root / "pcds" / BED / f"{old}.pcd").rename(root / "pcds" / BED / f"{new}.pcd")
    edit(root, lambda records: [r.update(model_id=new) for r in records if r["model_id"] == old])
    for path in (root / "splits").iterdir():
        path.write_text(path.read_text().replace(f"-{old}\n", f"-{new}\n"))


def test_names_with_spaces_dots_and_capitals(root: Path, edit: Callable) -> None:
    rename(root, "aa", "Left hand. Scan 2", edit)
    rename(root, "bb", "B.B", edit)
    assert KeypointNet(root, "bed", "train").model_ids == ["Left hand. Scan 2", "B.B"]
    assert not [p for p in check_root(root) if "hand" in str(p)]


def test_annotations_with_a_byte_order_mark_and_hidden_ones(root: Path) -> None:
    path = root / "annotations" / "bed.json"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    (path.parent / "._bed.json").write_bytes(b"\x00\x05\x16\x07")
    assert len(KeypointNet(root, "bed", "train")) == 2
    assert not [p for p in check_root(root) if p.path.startswith("annotations/._")]
    with pytest.raises(ValueError, match=r"`category` \(='\._bed'\)"):
        KeypointNet(root, "._bed", "train")


def all_in_one(root: Path) -> Path:
    """The beds and a cap in one file of all categories."""
    records = json.loads((root / "annotations" / "bed.json").read_text())
    cap = json.loads(json.dumps(records[2]).replace(BED, CLASS_IDS["cap"]).replace('"cc"', '"hat"'))
    (root / "annotations" / "all.json").write_text(json.dumps([cap, *records]))
    (root / "pcds" / CLASS_IDS["cap"]).mkdir()
    source = root / "pcds" / BED / "cc.pcd"
    (root / "pcds" / CLASS_IDS["cap"] / "hat.pcd").write_bytes(source.read_bytes())
    with (root / "splits" / "train.txt").open("a") as file:
        file.write(f"{CLASS_IDS['cap']}-hat\n")
    return root / "annotations"


def test_the_file_of_all_categories_repeats_the_others(root: Path) -> None:
    before = check_root(root)
    folder = all_in_one(root)
    assert check_root(root) == before  # and the cap, which only it has, is checked and in order
    assert KeypointNet(root, "cap", "train").model_ids == ["hat"]
    with pytest.raises(ValueError, match=r"all\.json`: more than one class id: 02818832, 02954340"):
        KeypointNet(root, "all", "train")
    with pytest.raises(ValueError, match=r"all\.json`: has no annotation with `class_id` \(='03797390'\)"):
        KeypointNet(root, "mug", "train")
    beds = KeypointNet(root, "bed", "train")
    (folder / "bed.json").unlink()
    alone = KeypointNet(root, "bed", "train")
    assert alone.semantic_ids == beds.semantic_ids
    assert all(torch.equal(a.keypoints, b.keypoints) for a, b in zip(alone, beds, strict=True))
    problems = check_root(root)
    assert len(problems) == len(before)
    assert {p.path for p in problems} == {p.path.replace("bed.json", "all.json") for p in before}


def test_faults_of_the_file_of_all_categories_are_told_once(root: Path) -> None:
    path = all_in_one(root) / "all.json"
    records = json.loads(path.read_text())
    records[0]["keypoints"][0]["pcd_info"]["point_index"] = 5
    records[1]["keypoints"][0]["pcd_info"]["point_index"] = 99  # a bed, which bed.json has right
    path.write_text(json.dumps(records))
    told = [str(p) for p in check_root(root) if p.path == "annotations/all.json"]
    assert len(told) == 1
    assert "model hat: `xyz` of keypoint 2 is not that of point 5" in told[0]


KNIVES = ["1" * 32, "2" * 32, "3" * 32]


@pytest.fixture
def knives(root: Path, points_of: Callable) -> Path:
    """Three knives with a keypoint each, in no list of misaligned ones yet."""
    folder = root / "pcds" / KNIFE
    folder.mkdir()
    records = []
    for model_id in KNIVES:
        points = points_of(model_id)
        write_pcd(folder / f"{model_id}.pcd", points)
        keypoint = {"xyz": points[3].tolist(), "semantic_id": 0, "pcd_info": {"point_index": 3}}
        records.append({"class_id": KNIFE, "model_id": model_id, "keypoints": [keypoint]})
    (root / "annotations" / "knife.json").write_text(json.dumps(records))
    (root / "splits" / "train.txt").write_text("".join(f"{KNIFE}-{name}\n" for name in KNIVES))
    return root


def test_misaligned_knives_are_turned(knives: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = [data.clone() for data in KeypointNet(knives, "knife", "train")]
    assert [p.path for p in check_root(knives) if "knife" in p.path] == ["knife_misaligned.txt"]
    (knives / "knife_misaligned.txt").write_text(f"{KNIVES[0]}\n{KNIFE}-{KNIVES[2]}\n{'4' * 32}\n")
    with caplog.at_level(logging.WARNING):
        dataset = KeypointNet(knives, "knife", "train")
    assert "knife_misaligned.txt`: x changes its sign in 2 clouds of the 3" in caplog.text
    assert dataset.flipped == (KNIVES[0], KNIVES[2])
    for i, sign in enumerate((-1, 1, -1)):
        for key in ("pos", "keypoints"):
            assert torch.equal(dataset[i][key], before[i][key] * torch.tensor([sign, 1.0, 1.0]))
        assert torch.equal(dataset[i].keypoints[0], dataset[i].pos[dataset[i].keypoint_index[0]])
    assert not [p for p in check_root(knives) if "knife" in p.path]
    assert KeypointNet(knives, "bed", "all").flipped == ()
    np.testing.assert_array_equal(
        read_pcd(knives / "pcds" / KNIFE / f"{KNIVES[0]}.pcd").points.astype(np.float32), before[0].pos
    )


@pytest.mark.parametrize("line", ["{id}", "{knife}-{id}", "{knife}/{id}.pcd", "pcds\\{knife}\\{id}.pcd", "  {id}\r"])
def test_lines_of_the_list_of_knives(tmp_path: Path, line: str) -> None:
    (tmp_path / "knife_misaligned.txt").write_text(line.format(id=KNIVES[0], knife=KNIFE) + "\n\n", newline="")
    assert misaligned_models(tmp_path, KNIFE) == {KNIVES[0]}
    assert misaligned_models(tmp_path, BED) == set()
