"""What is validated on must be new, and must have what is trained on."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch_geometric.data import Data

from pcsa.datasets.coco import NAMES
from pcsa.datasets.custom import write_labeled
from pcsa.datasets.pcd import write_pcd
from pcsa.tasks import get_task
from pcsa.tasks.common.held_out import (
    check_clouds_held_out,
    check_held_out,
    check_same_names,
    warn_of_twin_files,
)
from pcsa.tasks.oct import OctConfig, OctData
from pcsa.tasks.pose2d import Pose2dConfig, Pose2dData
from pcsa.tasks.pose3d import Pose3dConfig, Pose3dData


def labeled(count, seed=0):
    """Clouds of 64 points with two keypoints, of size 1."""
    generator = np.random.default_rng(seed)
    clouds = [generator.uniform(-0.3, 0.3, (64, 3)) for _ in range(count)]
    return [(points, points[:2], ("tip", "tail")) for points in clouds]


def test_names_and_order_must_agree():
    check_same_names("`data.root` (='x')", ("a", "b"), ["a", "b"])
    rule = r"`data.root` \(='x'\) must have the same 2 .* 'train' has a, b, 'val' has b, a"
    with pytest.raises(ValueError, match=rule):
        check_same_names("`data.root` (='x')", ("a", "b"), ("b", "a"))


def test_what_is_in_both_is_named_and_counted():
    check_held_out("`x`", "abc", "def")
    with pytest.raises(ValueError, match=r"^`x` must validate on what is not trained on: 2 are both in .*: b, c$"):
        check_held_out("`x`", "abcc", "ccbd")
    with pytest.raises(ValueError, match=r"12 are both .*: 0, 1, 10, 11, 2, 3, 4, 5, …$"):
        check_held_out("`x`", range(12), range(12))


def test_clouds_with_the_same_points_are_counted(caplog):
    class Clouds(list):
        pass

    points = [torch.randn(5, 3) for _ in range(4)]
    train, val = (Clouds(Data(pos=points[i].clone()) for i in rows) for rows in ((0, 1), (1, 2, 3)))
    with caplog.at_level(logging.WARNING):
        check_clouds_held_out("`x`", train, val)
    assert [record.getMessage()[:40] for record in caplog.records] == ["1 clouds to validate on are also among t"]
    caplog.clear()
    check_clouds_held_out("`x`", train, val[1:])
    assert not caplog.records


def test_pictures_with_the_same_content_are_counted(tmp_path, caplog):
    for folder, content in (("a", b"1234"), ("b", b"1234"), ("c", b"1235")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(content)
    a, b, c = (tmp_path / folder / "1.jpg" for folder in "abc")
    warn_of_twin_files([a], [c, tmp_path / "d" / "1.jpg"])
    assert not caplog.records
    warn_of_twin_files([a], [b, b, c])
    assert [record.getMessage()[:30] for record in caplog.records] == ["1 files to validate on are als"]


@pytest.mark.parametrize("name", ["supervised", "unsupervised"])
def test_a_cloud_in_both_splits_is_refused(name, tiny, clouds_root, tmp_path):
    root = shutil.copytree(clouds_root, tmp_path / "root")
    first = (root / "splits" / "train.txt").read_text().splitlines()[0]
    with (root / "splits" / "val.txt").open("a") as file:
        file.write(f"{first}\n")
    config = tiny(name)
    task, config = get_task(name), replace(config, data=replace(config.data, root=root), out=tmp_path / "run")
    with pytest.raises(ValueError, match=rf"`data.root` .* 1 are both in 'train' and in 'val': {first.split('-')[1]}"):
        task.train(config)
    assert not config.out.exists()
    if name == "unsupervised":  # on all clouds, those to validate on are among them, and it says so
        task.training(replace(config, data=replace(config.data, split="all")))


@pytest.mark.parametrize("name", ["supervised", "unsupervised"])
def test_a_copy_under_another_name_is_counted(name, tiny, clouds_root, tmp_path, caplog):
    root = shutil.copytree(clouds_root, tmp_path / "root")
    lines = {split: (root / "splits" / f"{split}.txt").read_text().splitlines() for split in ("train", "val")}
    (folder,) = (root / "pcds").iterdir()
    source, target = (lines[split][0].split("-")[1] for split in ("train", "val"))
    (category,) = (root / "annotations").glob("*.json")
    records = json.loads(category.read_text())
    for record in records:
        if record["model_id"] == target:
            record |= next(r for r in records if r["model_id"] == source) | {"model_id": target}
    category.write_text(json.dumps(records))
    shutil.copy(folder / f"{source}.pcd", folder / f"{target}.pcd")
    config = tiny(name)
    with caplog.at_level(logging.WARNING):
        get_task(name).training(replace(config, data=replace(config.data, root=root)))
    assert "1 clouds to validate on are also among those to train on" in caplog.text


@pytest.mark.parametrize("name", ["supervised", "unsupervised"])
def test_two_clouds_are_trained_and_scored(name, tiny, tmp_path, caplog):
    """One to train on, one to test on, none to validate on: the log says so, and the scores are numbers."""
    from pcsa.scripts.evaluate import main

    write_labeled(tmp_path / "root", "thing", labeled(2), fractions=(0.5, 0.0, 0.5))
    config = tiny(name)
    data = replace(config.data, root=tmp_path / "root", category="thing")
    model = replace(config.model, num_keypoints=6) if name == "unsupervised" else config.model
    changed = replace(
        config,
        data=data,
        model=model,
        optimizer=replace(config.optimizer, steps=2),
        out=tmp_path / "run",
    )
    with caplog.at_level(logging.INFO):
        path = get_task(name).train(changed)
    assert "nothing to validate on" in caplog.text
    assert main([str(path), "--split", "test", "--no-progress", "--device", "cpu"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics-test.json").read_text())
    assert metrics["num_items"] == 1


def coco(root, split, names):
    """A root of COCO with a person in each picture."""
    folder = root / f"{split}2017"
    folder.mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    for name in names:
        # Every name has a picture of its own.
        noise = np.random.default_rng(list(name.encode())).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    images = [{"id": i + 1, "file_name": name, "width": 40, "height": 40} for i, name in enumerate(names)]
    person = {"keypoints": [20, 20, 2] * 17, "num_keypoints": 17, "bbox": [5, 5, 30, 30], "area": 900}
    annotations = [
        {"id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, **person} for i in range(len(names))
    ]
    categories = [{"id": 1, "name": "person", "keypoints": list(NAMES), "skeleton": []}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"person_keypoints_{split}2017.json").write_text(json.dumps(content))


def coco_config(root, **data):
    return Pose2dConfig(data=Pose2dData(root=root, input_size=(32, 24), **data))


def test_pictures_of_both_splits_are_compared(tmp_path, caplog):
    task = get_task("pose2d")
    coco(tmp_path, "train", ["a.png", "b.png", "c.png"])
    # Ids begin at 1 in either file, which says nothing.
    coco(tmp_path, "val", ["c.png", "d.png"])
    with caplog.at_level(logging.WARNING):
        task.training(coco_config(tmp_path))
    assert "1 files to validate on are also among those to train on" in caplog.text
    train = tmp_path / "annotations" / "person_keypoints_train2017.json"
    shutil.copy(train, train.with_name("again.json"))
    again = coco_config(tmp_path, val_annotations="annotations/again.json", val_images="train2017")
    with pytest.raises(ValueError, match=r"`data.root` .* 3 are both in 'train' and in 'val': .*a.png"):
        task.training(again)
    # The same file for both is no mistake.
    same = coco_config(tmp_path, val_annotations=f"annotations/{train.name}", val_images="train2017")
    with caplog.at_level(logging.INFO):
        assert len(task.training(same).data.val_items) == 3
    assert "validates on what is trained on, too" in caplog.text


def test_coco_without_its_val_file_is_trained_on(tmp_path):
    task = get_task("pose2d")
    coco(tmp_path, "train", ["a.png"])
    assert task.training(coco_config(tmp_path)).data.val_items is None
    # One that is named has to be there.
    with pytest.raises(FileNotFoundError, match=r"other\.json"):
        task.training(coco_config(tmp_path, val_annotations="other.json", val_images="train2017"))


def scans(root, numbers):
    root.mkdir()
    for i, number in enumerate(numbers):
        rows = np.broadcast_to(np.arange(1.0, number + 1)[:, None] * 3, (number, 20))
        np.savez(root / f"{i}.npz", image=np.random.default_rng(i).random((32, 20)).astype(np.float32), boundaries=rows)
    return OctConfig(data=OctData(root=root, input_size=(32, 16)))


def test_surfaces_of_both_splits_are_compared(tmp_path):
    task = get_task("oct")
    # By the order of the names the fourth of five is to validate on.
    with pytest.raises(ValueError, match=r"`data.root` .* same 3 .* 'val' has surface 1, surface 2$"):
        task.training(scans(tmp_path / "mixed", [3, 3, 3, 2, 3]))
    # Of two, the first is what the layout says it is: trained on and watched.
    assert task.training(scans(tmp_path / "two", [3, 3])).data.val_items is not None


def test_subjects_of_both_splits_are_compared(tmp_path, monkeypatch):
    class Frames:
        names, skipped = ("pelvis",), {}

        def __init__(self, root, split, subjects, **_):
            self.subjects = subjects

        def __len__(self):
            return 1

    monkeypatch.setattr("pcsa.tasks.pose3d.Human36M", Frames)
    data = Pose3dData(root=tmp_path, train_subjects=("S1", "S9"), test_subjects=("S9", "S11"))
    with pytest.raises(ValueError, match=r"1 are both in 'train' and in 'val': S9"):
        get_task("pose3d").training(Pose3dConfig(data=data))


def test_clouds_that_are_named_and_missing_stop_a_strict_training(tiny, clouds_root, tmp_path, caplog):
    root = shutil.copytree(clouds_root, tmp_path / "root")
    (root / "splits" / "val.txt").write_text("03001627-nothing\n")
    config = tiny("supervised")
    assert get_task("supervised").training(replace(config, data=replace(config.data, root=root))).data.val_items is None
    assert "nothing to validate on, the training goes on without" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"1 of the 1 chair clouds that split 'val' names are missing"):
        get_task("supervised").training(replace(config, data=replace(config.data, root=root, strict=True)))


def test_a_folder_of_unlabeled_clouds_needs_no_val(tiny, tmp_path):
    folder = tmp_path / "pcds" / "thing"
    folder.mkdir(parents=True)
    for i in range(2):
        write_pcd(folder / f"{i}.pcd", np.random.default_rng(i).normal(size=(64, 3)))
    config = tiny("unsupervised")
    data = replace(config.data, root=tmp_path, category="thing")
    path = get_task("unsupervised").train(
        replace(config, data=data, optimizer=replace(config.optimizer, steps=1), out=tmp_path / "run")
    )
    assert path.exists()
