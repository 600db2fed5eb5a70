"""Boxes of ``pcsa predict``: what is read, whose they are, and what is found in them."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from pcsa.datasets.coco import CocoKeypoints
from pcsa.datasets.human36m import Human36M
from pcsa.datasets.lsp import Lsp
from pcsa.tasks import get_task
from pcsa.tasks.common.map_inputs import ImagePredictOptions, ImagePredictor, boxes_of, read_boxes
from pcsa.tasks.common.map_task import MapEvaluateOptions, labels_of
from pcsa.tasks.common.maps import LocatedMaps, MapLabels
from pcsa.tasks.common.task import Run
from pcsa.tasks.pose2d import Pose2dConfig, Pose2dData, Pose2dEvaluateOptions
from pcsa.tasks.pose3d import Pose3dConfig, Pose3dData

WIDTH, HEIGHT = 120, 100
# Within the picture, out of each of its sides, around all of it, and with fractions.
BOXES = [[20, 10, 50, 70], [-60, 10, 100, 70], [90, 20, 100, 50], [20, -300, 60, 350], [10, 80, 30, 90]]
BOXES += [[-100, -100, 400, 500], [-10.3, 33.3, 71.7, 90.1]]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "0.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def coco(tmp_path, picture):
    """A root with a person of every box."""
    person = {"category_id": 1, "image_id": 0, "keypoints": [50, 50, 2] * 17, "num_keypoints": 17, "area": 900}
    content = {
        "images": [{"id": 0, "file_name": picture.name, "width": WIDTH, "height": HEIGHT}],
        "annotations": [person | {"id": i, "bbox": box} for i, box in enumerate(BOXES)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(CocoKeypoints.names)}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    found = [{"image_id": 0, "category_id": 1, "bbox": box, "score": 0.9} for box in BOXES]
    (tmp_path / "found.json").write_text(json.dumps(found))
    return tmp_path


def run_of(task, config, items):
    torch.manual_seed(0)
    labels = labels_of(items)
    return Run(Path("last.ckpt"), task, config, labels, task.build(config, labels).eval(), 1, 1.0)


def evaluated(run, options):
    """What is found in the items, in pixels of the picture."""
    evaluation = run.task.evaluation(run, options)
    for i in range(len(evaluation.items)):
        evaluation.update(default_collate([evaluation.items[i]]))
    return evaluation.collected.source_position[..., :2]


def predicted(run, picture, boxes):
    """The same of ``pcsa predict``."""
    file = picture.with_suffix(".json")
    file.write_text(json.dumps({picture.name: boxes}))
    predictor = run.task.predictor(run, ImagePredictOptions(Path("last.ckpt"), (picture,), boxes=file))
    return torch.tensor([prediction.fields["position"] for prediction in predictor.predict(picture)])


@pytest.mark.parametrize("box", [None, BOXES[0], BOXES[-1]])
def test_a_covariance_is_in_the_pixels_of_the_picture(picture, box):
    # All of it lies along the line from one keypoint to the other, in the crop and in the picture.
    position = torch.tensor([[3.0, 5.0, 1.0], [10.0, 22.0, 7.0]])
    between = position[1] - position[0]
    covariance = torch.outer(between, between).expand(1, 2, 3, 3)
    found = LocatedMaps(position[None], torch.ones(1, 2), torch.ones(1, 2), torch.empty(0), covariance)
    data = SimpleNamespace(input_size=(64, 48), value_range=None)
    run = SimpleNamespace(labels=MapLabels(("a", "b")), config=SimpleNamespace(data=data))
    options = ImagePredictOptions(Path("last.ckpt"), (picture,))
    predictor = ImagePredictor(lambda *_: found, run, options)
    (prediction,) = predictor.find(predictor.open(picture), None if box is None else [box], picture)
    (x, y), (u, v) = prediction.fields["position"]
    expected = np.outer([u - x, v - y], [u - x, v - y])
    np.testing.assert_allclose(prediction.fields["covariance"], [expected, expected], rtol=1e-4)


@pytest.mark.parametrize("detections", [None, "found.json"])
def test_a_box_gives_the_same_keypoints_to_score_and_to_predict(coco, picture, detections):
    data = Pose2dData(coco, annotations="truth.json", images=".", val_annotations="truth.json", val_images=".")
    config = Pose2dConfig(data=data)
    items = CocoKeypoints(coco / "truth.json", coco)
    found = None if detections is None else coco / detections
    options = Pose2dEvaluateOptions(Path("last.ckpt"), detections=found)
    for trained_on in (config, Pose2dConfig()):
        run = run_of(get_task("pose2d"), config, items)
        expected = evaluated(run, options)
        run = run_of(get_task("pose2d"), trained_on, items)
        assert len(expected) == len(BOXES)
        torch.testing.assert_close(predicted(run, picture, BOXES), expected, rtol=0, atol=1e-3)


def test_boxes_of_lsp_are_not_cut_off_where_the_picture_ends(tmp_path, picture):
    (tmp_path / "images").mkdir()
    joints = np.full((5, 14, 3), [50.0, 50.0, 1.0])
    joints[:, 0] = [0, 0, 1]
    joints[:, 1] = [119, 99, 1]
    np.savez(tmp_path / "joints.npz", joints=joints)
    for i in range(5):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(picture.read_bytes())
    config = Pose2dConfig(data=Pose2dData(tmp_path, layout="lsp"))
    items = Lsp(tmp_path, "test")
    run = run_of(get_task("pose2d"), config, items)
    box = items.source(0)["box"].tolist()
    assert box[0] < 0
    expected = evaluated(run, Pose2dEvaluateOptions(Path("last.ckpt"), split="test"))
    torch.testing.assert_close(predicted(run, picture, [box]), expected, rtol=0, atol=1e-3)


def test_boxes_of_human36m_have_their_margin(tmp_path, picture):
    name = "S9/S9_Walk.1/0.png"
    (tmp_path / name).parent.mkdir(parents=True)
    picture.rename(tmp_path / name)
    positions = np.ones((1, 17, 4)) * [0, 0, 4, 1]
    positions[0, :, 0] = np.linspace(-0.1, 0.1, 17)
    positions[0, [0, 1], 0] = -0.075, -0.1  # the pelvis between the hips
    positions[0, [2, 5], 2] = 4.4  # knees, for legs of 0.4 m to each bone
    part = np.ones((1, 17, 3)) * [60, 50, 1]
    part[:, :, 0] += 1000 * positions[:, :, 0] / positions[:, :, 2]
    np.savez(
        tmp_path / "frames.npz",
        imgname=np.array([name]),
        center=np.array([[60.0, 50.0]]),
        scale=np.array([0.6]),
        part=part,
        S=positions,
    )
    camera = {"f": [[1000.0], [1000.0]], "c": [[60.0], [50.0]], "k": [[0.0]] * 3, "p": [[0.0]] * 2}
    (tmp_path / "cameras.json").write_text(json.dumps({"('S9', '1')": camera}))
    config = Pose3dConfig(data=Pose3dData(tmp_path, input_size=(16, 32, 24)))
    items = Human36M(tmp_path, "test", input_size=(16, 32, 24))
    run = run_of(get_task("pose3d"), config, items)
    box = items.source(0)["box"].tolist()
    assert box[1] < 0
    expected = evaluated(run, MapEvaluateOptions(Path("last.ckpt"), split="test"))
    torch.testing.assert_close(predicted(run, tmp_path / name, [box]), expected, rtol=0, atol=1e-3)


def test_all_persons_are_in_the_picture_of_the_first(coco, picture):
    run = run_of(get_task("pose2d"), Pose2dConfig(), CocoKeypoints(coco / "truth.json", coco))
    (coco / "boxes.json").write_text(json.dumps({"0.png": BOXES[:3]}))
    options = ImagePredictOptions(Path("last.ckpt"), (picture,), boxes=coco / "boxes.json")
    predictor = run.task.predictor(run, options)
    assert list(predictor.expected([picture])) == [picture]
    first, *others = predictor.predict(picture)
    overlay = first.picture()
    assert overlay.predicted.shape == (3, 17, 2)
    for position, prediction in zip(overlay.predicted, (first, *others), strict=True):
        np.testing.assert_allclose(position, prediction.fields["position"], rtol=1e-6)
    assert overlay.boxes.tolist() == BOXES[:3]
    assert [prediction.picture for prediction in others] == [None, None]
    (whole,) = run.task.predictor(run, ImagePredictOptions(Path("last.ckpt"), (picture,))).predict(picture)
    assert whole.picture().boxes is None
    assert whole.picture().predicted.shape == (17, 2)


def test_a_box_beside_the_picture_is_named_before_anything_is_found(coco, picture):
    run = run_of(get_task("pose2d"), Pose2dConfig(), CocoKeypoints(coco / "truth.json", coco))
    with pytest.raises(ValueError, match=r"0\.png`: box 1 \(=\[120\.0, 0\.0, 5\.0, 5\.0\]\) must touch the picture of"):
        predicted(run, picture, [BOXES[0], [120, 0, 5, 5]])


def test_files_of_one_name_have_boxes_of_their_own():
    files = [Path("a/0.png"), Path("b/0.png"), Path("1.png"), Path("b/2.png")]
    one, two, three = [[0.0, 0, 1, 1]], [[0.0, 0, 2, 2]], [[0.0, 0, 3, 3]]
    boxes = {"a/0.png": one, "./b\\0.png": two, str(Path("1.png").absolute()): three, "x.png": one}
    assert list(boxes_of(boxes, files).values()) == [one, two, three, []]
    # The longest end of a path counts.
    assert list(boxes_of({"0.png": one, "b/0.png": two}, files[:2]).values()) == [one, two]
    with pytest.raises(ValueError, match=r"`0\.png` must be the name of one input, is that of a/0\.png and b/0\.png"):
        boxes_of({"0.png": one}, files)
    with pytest.raises(ValueError, match=r"`\./0\.png` must be written once, is `0\.png` too"):
        boxes_of({"0.png": one, "./0.png": one}, files)
    assert boxes_of({"0.png": one}, [Path("a/0.png"), Path("a/0.png")]) == {Path("a/0.png"): one}


def test_boxes_that_are_read(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('{"é.png": [[1, 2.5, 3, 1e2]], "none.png": []}', encoding="utf-8-sig")
    assert read_boxes(path) == {"é.png": [[1.0, 2.5, 3.0, 100.0]], "none.png": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a.png": [[1, 2, true, 4]]}', r"boxes.json`: a.png\[0\] \(=\[1, 2, True, 4\]\) must be numbers x, y, width"),
        ('{"a.png": [[1, 2, 3, 4], [1, 2, "3", 4]]}', r"boxes.json`: a.png\[1\] \(="),
        ('{"a.png": [[NaN, 2, 3, 4]]}', r"a.png\[0\] \(=\[nan, .* all finite"),
        ('{"a.png": [[1, 2, 3, 0]]}', r"a.png\[0\] \(=\[1, 2, 3, 0\]\) .* a height above 0"),
        ('{"a.png": [[1, 2, -3, 4]]}', r"a.png\[0\] \(="),
        ('{"a.png": [[1, 2, 3, 1' + "0" * 400 + "]]}", r"a.png\[0\] \(="),
        ('{"a.png": [[1, 2, null, 4]]}', r"a.png\[0\] \(="),
        ('{"a.png": [1, 2, 3, 4]}', r"must map file names to lists of \[x, y, width, height\]"),
        ('{"a.png": [[1, 2, 3]]}', r"must map file names to lists"),
        ('{"a.png": null}', r"must map file names to lists"),
        ("[]", r"must map file names to lists"),
        ('{"a.png": [[1, 2, 3, 4]], "a.png": []}', r"each name once: 'a.png' is there 2 times"),
        ("", r"must be JSON"),
        ("[" * 100_000, r"must be JSON"),
    ],
)
def test_boxes_that_are_refused(tmp_path, text, message):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_boxes(tmp_path / "boxes.json")
