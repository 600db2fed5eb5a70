"""What is special to poses in images: files of COCO, ImageNet weights, and what belongs together."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcsa.models.simple_pose import SimplePose
from pcsa.tasks import get_task
from pcsa.tasks.common.config import from_plain, to_plain
from pcsa.tasks.common.maps import MapLabels
from pcsa.tasks.common.poses import PoseModelConfig
from pcsa.tasks.pose2d import Pose2dConfig, Pose2dData, Pose2dEvaluateOptions

TASK = get_task("pose2d")


@pytest.mark.parametrize("root", [Path("coco"), Path("/data/coco")], ids=["relative", "absolute"])
def test_coco_files_are_the_official_ones_unless_named(root):
    data = Pose2dData(root=root)
    assert data.coco_files("train") == (root / "annotations/person_keypoints_train2017.json", root / "train2017")
    assert data.coco_files("val") == (root / "annotations/person_keypoints_val2017.json", root / "val2017")
    named = Pose2dData(root=root, annotations="a.json", images="i", val_annotations="b.json")
    assert named.coco_files("train") == (root / "a.json", root / "i")
    assert named.coco_files("val") == (root / "b.json", root / "val2017")


def test_named_files_survive_json(tmp_path):
    # Relative to the root, wherever one stands.
    named = {"root": tmp_path, "annotations": "a.json", "images": ".", "val_annotations": "../b.json"}
    config = Pose2dConfig(data=Pose2dData(**named, value_range=(0.0, 4095.0)), out=tmp_path)
    assert from_plain(Pose2dConfig, json.loads(json.dumps(to_plain(config)))) == config


def test_coco_counts_from_zero():
    with pytest.raises(ValueError, match=r"`data.one_based` \(=True\) must come with `data.layout` 'lsp'"):
        Pose2dData(root=Path("a"), one_based=True)
    assert Pose2dData(root=Path("a"), layout="lsp", one_based=True).one_based


def test_files_to_score_on_are_those_of_coco(tmp_path):
    files = {"annotations": Path("v.json"), "images": Path("v")}
    options = Pose2dEvaluateOptions(tmp_path / "last.ckpt", root=tmp_path, **files)
    config = TASK.evaluated(Pose2dConfig(), options)
    assert config.data.coco_files("val") == (tmp_path / "v.json", tmp_path / "v")
    for name, file in files.items():
        with pytest.raises(ValueError, match=rf"`{name}` \(='{file}'\) must come with a `root` in COCO"):
            TASK.evaluated(Pose2dConfig(), Pose2dEvaluateOptions(tmp_path / "last.ckpt", **{name: file}))


@pytest.mark.parametrize("data", [Pose2dData(), Pose2dData(root=Path("a"), layout="lsp")], ids=["procedural", "lsp"])
def test_detections_are_of_coco(data):
    options = Pose2dEvaluateOptions(Path("last.ckpt"), detections=Path("boxes.json"))
    with pytest.raises(ValueError, match=r"`detections` \(='boxes\.json'\) must come with a `root` in COCO"):
        TASK.scored_items(Pose2dConfig(data=data), "val", options)


@pytest.mark.parametrize(
    ("model", "shape"),
    [(PoseModelConfig(layers="18"), (16, 8)), (PoseModelConfig(deconv=(8,)), (8, 4))],
    ids=["published", "one deconvolution"],
)
def test_networks_that_configurations_describe(model, shape):
    config = Pose2dConfig(data=Pose2dData(input_size=(64, 32)), model=model)
    network = TASK.build(config, MapLabels(("a", "b", "c", "d", "e"))).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 32))["logits"].shape == (1, 5, *shape)


def test_weights_are_read_where_a_training_begins_and_not_where_it_goes_on(tiny, same, tmp_path):
    base = SimplePose(17, layers=18, deconv=(8, 8, 8))
    config = replace(
        tiny("pose2d"),
        model=PoseModelConfig(layers="18", deconv=(8, 8, 8), weights=tmp_path / "resnet18.pth"),
        out=tmp_path / "out",
    )
    with pytest.raises(FileNotFoundError, match=r"resnet18\.pth"):
        TASK.train(config)
    # The file may be gone when a run goes on, or its checkpoint is opened.
    assert isinstance(TASK.training(replace(config, resume=True)).module.network, SimplePose)
    assert isinstance(TASK.build(config, MapLabels(("a",))), SimplePose)
    torch.save(base.state_dict(), config.model.weights)
    with pytest.raises(ValueError, match=r"resnet18\.pth"):
        TASK.train(config)
    assert not config.out.exists()
    torch.save(base.backbone.state_dict(), config.model.weights)
    assert same(TASK.training(config).module.network.backbone.state_dict(), base.backbone.state_dict())


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("data", {"num_images": 0}, r"`data.num_images` \(=0\) must be at least 1"),
        ("data", {"input_size": (96, 0)}, r"`data.input_size` \(=\(96, 0\)\) must be at least 1"),
        ("data", {"layout": "lsp"}, r"`data.layout` \(='lsp'\) must come with `data.root`"),
        ("data", {"annotations": "x.json"}, r"`data.annotations` \(='x.json'\) must come with a `data.root`"),
        ("data", {"val_images": "x"}, r"`data.val_images` \(='x'\) must come with a `data.root`"),
        ("objective", {"form": "released", "basis_noise": "mixture"}, r"`objective.basis_noise` \(='mixture'\)"),
        ("model", {"weights": Path("r.pth")}, r"`model.weights` \(='r.pth'\) must come with"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(section, values, message):
    config = Pose2dConfig()
    with pytest.raises(ValueError, match=message):
        replace(config, **{section: replace(getattr(config, section), **values)})
