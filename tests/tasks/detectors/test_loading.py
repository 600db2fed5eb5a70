"""What ``pcsa.load`` gives finds what ``pcsa predict`` finds, from whatever holds the points."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch_geometric.data import Batch, Data

import pcsa
from pcsa.scripts.cli import main
from pcsa.tasks.common.checkpoint import read_checkpoint, write_checkpoint
from pcsa.tasks.detectors.clouds import CloudDetector
from pcsa.tasks.detectors.found import Found
from pcsa.tasks.detectors.maps import MapDetector
from pcsa.tasks.supervised import SupervisedData


@pytest.fixture(scope="module")
def chair(trained):
    """A chair that was not trained on."""
    task, config, _ = trained("supervised")
    data = SupervisedData(root=config.data.root)
    return task.annotated(pcsa.load(trained("supervised")[2]).run, "val", data.root)[0].pos


@pytest.fixture(scope="module")
def detector(trained):
    return pcsa.load(trained("supervised")[2])


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """What ``pcsa predict`` writes of a file."""

    def predict(checkpoint, file, *flags):
        out = tmp_path_factory.mktemp("out") / "p.json"
        assert main(["predict", str(checkpoint), str(file), "--out", str(out), *flags]) == 0
        (item,) = json.loads(out.read_text())["items"]
        return item

    return predict


def same(found, item, names=("position", "covariance", "confidence", "entropy", "index", "point")):
    for name in names:
        np.testing.assert_allclose(getattr(found, name), np.array(item[name]), rtol=1e-4, atol=1e-6, err_msg=name)


# --- what is loaded


def test_a_shared_model_is_loaded_from_its_folder(trained, chair, detector, tmp_path):
    from pcsa.tasks.common.pretrained import Pretrained

    Pretrained(detector.run).save_pretrained(tmp_path / "shared")
    found = pcsa.load(str(tmp_path / "shared"))(chair)
    expected = detector(chair)
    expected = {name: np.asarray(getattr(expected, name).tolist()) for name in ("position", "covariance")}
    same(found, expected, tuple(expected))
    with pytest.raises(ValueError, match=r"`revision` \(='v1'\) must not be given for a file or folder"):
        pcsa.load(tmp_path / "shared", revision="v1")
    with pytest.raises(ValueError, match="must name each checkpoint once"):
        pcsa.load(tmp_path / "shared", ensemble=[tmp_path / "shared"])


def test_a_name_of_the_hub_is_fetched(trained, chair, detector, tmp_path, monkeypatch):
    from pcsa.tasks.common import sources
    from pcsa.tasks.common.pretrained import Pretrained

    Pretrained(detector.run).save_pretrained(tmp_path / "shared")
    asked = []
    monkeypatch.setattr(sources, "fetch", lambda *args: asked.append(args) or tmp_path / "shared")
    pcsa.load("someone/chairs", revision="v1")
    assert asked == [("someone/chairs", "v1")]


# --- clouds


def test_two_lines_find_what_predict_finds(trained, chair, predicted, tmp_path):
    _, _, path = trained("supervised")
    np.save(tmp_path / "a.npy", chair.numpy())
    item = predicted(path, tmp_path / "a.npy")
    for source in (path, str(path), path.parent, str(path.parent)):
        detector = pcsa.load(source)
        found = detector(chair)
        assert isinstance(found, Found)
        same(found, item, ("position", "covariance", "confidence", "entropy", "index", "point", "presence"))
    assert found.names == detector.names == tuple(detector.run.labels.names)
    assert len(found) == len(found.names)
    assert (found.num_points, found.num_used, found.radius, found.temperature) == (256, 256, None, 1.0)
    assert (detector.num_points, detector.category, detector.device) == (256, "chair", torch.device("cpu"))
    assert (found.novelty, found.reason) == (item["novelty"], item["unlike"])
    torch.testing.assert_close(found[found.names[2]], found.position[2])
    with pytest.raises(KeyError, match="nose"):
        found["nose"]
    assert "CloudDetector(chair: " in repr(detector)
    assert f"{found.names[0]}: (" in str(found)


@pytest.mark.parametrize(
    "kind",
    [
        lambda pos, folder: pos.numpy(),
        lambda pos, folder: pos.double(),
        lambda pos, folder: Data(pos=pos),
        lambda pos, folder: trimesh.PointCloud(pos.numpy()),
        lambda pos, folder: np.save(folder / "a.npy", pos.numpy()) or folder / "a.npy",
        lambda pos, folder: str(folder / "a.npy"),
    ],
    ids=["array", "double", "data", "trimesh", "path", "string"],
)
def test_it_does_not_matter_what_holds_the_points(detector, chair, kind, tmp_path):
    np.save(tmp_path / "a.npy", chair.numpy())
    expected, found = detector(chair), detector(kind(chair, tmp_path))
    torch.testing.assert_close(found.position, expected.position, atol=1e-5, rtol=1e-4, check_dtype=False)
    assert torch.equal(found.index, expected.index)


def test_several_are_found_as_one_after_the_other(detector, trained, chair):
    clouds = [chair, chair[:200] * 3, chair[:100].double() + 1e6, chair]
    alone = [detector(cloud) for cloud in clouds]
    for other in (detector, pcsa.load(trained("supervised")[2], batch_size=3)):
        together = other(clouds)
        assert isinstance(together, list)
        for one, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(one.position, expected.position, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(one.presence, expected.presence, atol=1e-4, rtol=1e-4)
            assert one.novelty == expected.novelty
    assert detector([]) == []
    assert len(detector(torch.stack([chair, chair]))) == 2
    assert len(detector(Batch.from_data_list([Data(pos=chair), Data(pos=chair[:50])]))) == 2


@pytest.mark.parametrize(("batch_size", "parts"), [(None, 1), (1, 5), (2, 3), (5, 1), (9, 1)])
def test_batches_are_of_the_size_that_is_asked_for(trained, batch_size, parts):
    detector = pcsa.load(trained("supervised")[2], batch_size=batch_size)
    slices = list(detector._batches([10] * 5))
    assert len(slices) == parts
    assert [i for part in slices for i in range(5)[part]] == list(range(5))


def test_batches_hold_as_many_points_as_keep_the_device_busy(detector):
    sizes = [10_000, 10_000, 100_000, 1, 1]
    assert [list(range(5)[part]) for part in detector._batches(sizes)] == [[0], [1], [2], [3, 4]]


def test_positions_are_in_the_units_of_the_input(detector, chair):
    found, moved = detector(chair), detector(10 * chair.double() + 1e5)
    assert moved.position.dtype == torch.float64
    np.testing.assert_allclose(moved.position, 10 * found.position.double() + 1e5, atol=1e-3)
    np.testing.assert_allclose(moved.covariance, 100 * found.covariance, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.point, chair[found.index])


def test_a_dense_cloud_is_brought_to_the_density_of_the_training(detector, chair, caplog, predicted, trained, tmp_path):
    dense = chair.repeat(40, 1) + 1e-3 * torch.randn(40 * len(chair), 3, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.INFO):
        found = detector(dense)
    assert (found.num_points, found.num_used) == (10_240, 256)
    assert "`clouds`: 256 of its 10240 points are taken, as many as the training clouds had" in caplog.text
    # Its rows are those of the input.
    torch.testing.assert_close(found.point, dense[found.index])
    assert found.index.max() > 256
    as_it_is = detector(dense, resample=False)
    assert (as_it_is.num_points, as_it_is.num_used) == (10_240, 10_240)
    assert not torch.equal(detector(dense, seed=1).index, found.index)
    np.save(tmp_path / "a.npy", dense.numpy())
    path = trained("supervised")[2]
    item = predicted(path, tmp_path / "a.npy")
    assert (item["num_points"], item["num_used"]) == (10_240, 256)
    same(found, item)
    item = predicted(path, tmp_path / "a.npy", "--no-resample")
    assert (item["num_points"], item["num_used"]) == (10_240, 10_240)
    same(as_it_is, item)


def test_a_mesh_is_sampled_as_densely_as_the_training(detector, predicted, trained, tmp_path):
    box = trimesh.creation.box((1.0, 2.0, 3.0))
    assert detector(box).num_used == detector(box).num_points == 256
    assert detector(box, num_points=900).num_used == 900
    box.export(tmp_path / "box.obj")
    assert detector(tmp_path / "box.obj").num_used == 256
    # Evenly spaced ones, and random ones of its own number where that is asked for or drawing is off.
    at_random = detector(box, resample=False)
    assert at_random.num_used == 256
    torch.testing.assert_close(at_random.position, detector(box, num_points=256).position)
    assert not torch.equal(at_random.position, detector(box).position)
    assert predicted(trained("supervised")[2], tmp_path / "box.obj")["num_points"] == 256
    more = predicted(trained("supervised")[2], tmp_path / "box.obj", "--num-points", "900")
    assert (more["num_points"], more["num_used"]) == (900, 900)


def test_a_cloud_unlike_the_training_is_told_and_its_presence_falls(
    detector, chair, caplog, capsys, predicted, trained, tmp_path
):
    far = torch.cat([chair, chair.mean(0, keepdim=True) + 20])
    # What the network itself says.
    network = replace(detector, run=replace(detector.run, clouds=None))
    with caplog.at_level(logging.WARNING):
        found = detector([chair, far])[1]
    assert "`clouds[1]` is unlike the training clouds: the distance of " in caplog.text
    assert found.is_unlike
    assert found.novelty > 1
    assert (found.presence < 0.9 * network(far).presence).all()
    assert not found.present.any()
    torch.testing.assert_close(found.position, network(far).position)
    assert "unlike the training clouds (the distance of " in str(found)
    np.save(tmp_path / "far.npy", far.numpy())
    item = predicted(trained("supervised")[2], tmp_path / "far.npy")
    np.testing.assert_allclose(item["presence"], found.presence, rtol=1e-4)
    said = capsys.readouterr().out
    assert "1 of 1 inputs are unlike the training clouds (novelty above 1): believe them little" in said
    assert f"far.npy: {item['unlike']}" in said


def test_a_checkpoint_without_statistics_still_loads(trained, chair, tmp_path, detector, caplog):
    checkpoint = read_checkpoint(trained("supervised")[2])
    del checkpoint["pcsa"]["clouds"]
    write_checkpoint(tmp_path / "old.ckpt", checkpoint)
    old = pcsa.load(tmp_path / "old.ckpt")
    assert old.num_points is None
    found = old(chair.repeat(3, 1))
    assert (found.num_points, found.num_used, found.novelty, found.reason) == (768, 768, None, "")
    assert not found.is_unlike
    torch.testing.assert_close(old(chair).position, detector(chair).position)
    assert old(trimesh.creation.box()).num_used == 2048


def test_statistics_that_are_none_are_refused(trained, tmp_path):
    checkpoint = read_checkpoint(trained("supervised")[2])
    checkpoint["pcsa"]["clouds"]["center"] = [1.0]
    write_checkpoint(tmp_path / "bad.ckpt", checkpoint)
    with pytest.raises(ValueError, match=r"bad\.ckpt` must fit pcsa .*every statistic of the training clouds"):
        pcsa.load(tmp_path / "bad.ckpt")


def test_read_outs_and_averages_are_options(trained, chair, detector):
    ball = detector(chair, read_out="ball", radius=0.05)
    assert ball.radius == 0.05
    again = pcsa.load(trained("supervised")[2], read_out="ball", radius=0.05)(chair)
    torch.testing.assert_close(again.position, ball.position)
    assert detector(chair, read_out="ball").radius == 0.01
    assert not torch.allclose(ball.position, detector(chair).position)
    varied = pcsa.load(trained("supervised")[2], test_time=3)(chair)
    assert not torch.equal(varied.position, detector(chair).position)


def test_skeletons_have_segments(trained, chair):
    found = pcsa.load(trained("unsupervised")[2].parent)(chair)
    assert found.names == ("0", "1", "2", "3")
    assert found.presence is None
    assert found.present.all()
    assert found.segments.shape == (6, 2)
    assert found.activation.shape == (6,)
    assert found.novelty is not None


# --- images, volumes and scans


def pictures(name, folder):
    """A file and the array that it holds."""
    rng = np.random.default_rng(0)
    if name == "pose3d":
        array = rng.random((16, 16, 16)).astype(np.float32)
    elif name == "oct":
        array = rng.random((64, 24)).astype(np.float32)
    else:
        array = rng.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(array).save(folder / "a.png")
        return folder / "a.png", array
    np.save(folder / "a.npy", array)
    return folder / "a.npy", array


@pytest.mark.parametrize("name", ["pose2d", "pose3d", "pose3d-image", "oct", "landmarks"])
def test_maps_are_read_as_predict_reads_them(trained, predicted, tmp_path, name):
    _, _, path = trained(name)
    file, array = pictures(name, tmp_path)
    item = predicted(path, file)
    detector = pcsa.load(path.parent)
    assert isinstance(detector, MapDetector)
    tensor = torch.from_numpy(array)
    given = [str(file), array, tensor.movedim(-1, 0) if array.ndim == 3 and name != "pose3d" else tensor]
    for found in (*(detector(one) for one in given), *detector(given)):
        np.testing.assert_allclose(found.position, item["rows" if name == "oct" else "position"], atol=1e-5)
        np.testing.assert_allclose(found.confidence, item["confidence"], atol=1e-6)
        assert found.names == detector.names
        assert (found.depth_mm is not None) == (name == "pose3d-image")
        spread = np.asarray(item["variance"])[..., None, None] if name == "oct" else item["covariance"]
        np.testing.assert_allclose(found.covariance, spread, rtol=1e-4)
        axes = {"oct": 1, "pose3d": 3}.get(name, 2)
        assert found.covariance.shape == (*found.confidence.shape, axes, axes)
        torch.testing.assert_close(found.covariance, found.covariance.mT)
        assert (torch.linalg.eigvalsh(found.covariance) > 0).all()
        assert (found.presence, found.novelty) == (None, None)
        assert str(found)
    assert f"MapDetector({name.split('-')[0]}: " in repr(detector)


def test_boxes_are_parts_of_an_image(trained, tmp_path):
    file, array = pictures("pose2d", tmp_path)
    detector = pcsa.load(trained("pose2d")[2])
    boxes = [[5, 5, 20, 30], [10, 0, 30, 30]]
    found = detector(array, boxes=boxes)
    assert [list(one.box) for one in found] == boxes
    both = detector([array, file], boxes=[boxes, boxes[:1]])
    assert [len(one) for one in both] == [2, 1]
    torch.testing.assert_close(both[1][0].position, found[0].position)
    with pytest.raises(ValueError, match="a list for each of the 2 images, are 1"):
        detector([array, array], boxes=[boxes])
    with pytest.raises(ValueError, match=r"`inputs`: box 0 .* must touch the picture of 50 x 40"):
        detector(array, boxes=[[100, 100, 5, 5]])


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("landmarks", np.zeros((4, 4, 2)), r"`inputs` \(\[4, 4, 2\]\) must be an image"),
        ("landmarks", np.zeros(4), "must be an image"),
        ("landmarks", np.full((8, 8), 7.0), "`inputs`: .*must be from 0 to 1"),
        ("oct", np.zeros((2, 3, 4)), "must be numbers of 2 axes"),
        ("oct", np.full((64, 16), np.nan), "`inputs`: .*must be finite"),
        ("pose3d", np.zeros((16, 16)), "must be numbers of 3 axes"),
        ("pose3d", np.zeros((15, 16, 16)), "`inputs`: .*divisible by 2"),
    ],
)
def test_values_that_are_no_input_are_refused(trained, name, array, message):
    with pytest.raises(ValueError, match=message):
        pcsa.load(trained(name)[2])(array)


# --- mistakes


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("supervised", {"flip_test": False}, r"`flip_test` \(=False\) must not be given for supervised"),
        ("supervised", {"category": "mug"}, "must be one that the detector has learned: chair"),
        ("unsupervised", {"category": "chair"}, "`category` .* must not be given for unsupervised"),
        ("landmarks", {"category": "chair"}, "`category` .* must not be given for landmarks"),
        ("landmarks", {"batch_size": 2}, "`batch_size` .* must not be given for landmarks"),
        ("landmarks", {"test_time": 2}, "only clouds are varied"),
        ("landmarks", {"read_out": "ball"}, "`radius` .* must be given"),
        ("oct", {"flip_test": True}, "`flip_test` .* must not be given for oct"),
        ("supervised", {"read_out": "middle"}, "`read_out` .* must be one of"),
        ("supervised", {"radius": -1.0}, "`radius`"),
        ("supervised", {"batch_size": 0}, "`batch_size`"),
        ("supervised", {"device": "nonsense"}, "`device` .* cannot be used"),
    ],
)
def test_options_that_do_not_fit_are_refused(trained, name, options, message):
    with pytest.raises(ValueError, match=message):
        pcsa.load(trained(name)[2], **options)


def test_a_radius_of_0_is_refused_in_a_call(trained, detector, chair):
    faces = pcsa.load(trained("landmarks")[2])
    for call in (lambda: detector(chair, radius=0.0), lambda: faces(np.zeros((32, 32, 3), np.uint8), radius=0.0)):
        with pytest.raises(ValueError, match=r"`radius`.*0\.0.* must be"):
            call()


def test_what_is_no_run_is_told(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        pcsa.load(tmp_path / "none.ckpt")
    with pytest.raises(FileNotFoundError, match=r"it has no last\.ckpt$"):
        pcsa.load(tmp_path)
    shutil.copy(trained("landmarks")[2], tmp_path / "other.ckpt")
    with pytest.raises(FileNotFoundError, match=r"it has other\.ckpt, to be named"):
        pcsa.load(tmp_path)
    shutil.copy(trained("landmarks")[2], tmp_path / "best.ckpt")
    assert pcsa.load(tmp_path).run.path == tmp_path / "best.ckpt"


def test_faulty_clouds_are_named(detector, chair):
    broken = chair.clone()
    broken[0] = torch.nan
    with pytest.raises(ValueError, match=r"`clouds\[1\]` must be finite"):
        detector([chair, broken])
    assert len(detector(broken, drop_invalid=True)) == len(detector.names)
    with pytest.raises(FileNotFoundError, match=r"none\.ply"):
        detector("none.ply")
    with pytest.raises(ValueError, match="`radius`"):
        detector(chair, radius=100.0)


def test_it_is_a_public_name():
    assert pcsa.load.__module__ == "pcsa.tasks.detectors.loading"
    assert isinstance(CloudDetector, type)
