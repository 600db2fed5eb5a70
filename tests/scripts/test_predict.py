"""``pcsa predict`` as a user calls it."""

import json

import numpy as np
import pytest
from PIL import Image
from torch_geometric.data import Data

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.procedural import Faces
from pcsa.datasets.transforms import Normalize, denormalize
from pcsa.scripts.cli import main
from pcsa.tasks import open_run

SKELETON = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


@pytest.fixture(scope="session")
def inputs(root, tmp_path_factory, save_image):
    """Two inputs for a run, the second of another size where a network takes that."""
    rng = np.random.default_rng(0)

    def write(name):
        folder = tmp_path_factory.mktemp("inputs")
        if "supervised" in name:
            pos = KeypointNet(root, "mug", "val")[0].pos.numpy()
            arrays = [pos, pos[:200]]
        elif name == "pose3d":
            arrays = [rng.random((16, 16, 16)), rng.random((16, 16, 16))]
        elif name == "oct":
            arrays = [rng.random((64, 24)), rng.random((64, 16))]
        else:
            for i in range(2):
                save_image(folder / f"{'ab'[i]}.png", Faces("test", num_images=2).source(i)["image"])
            return folder
        for letter, array in zip("ab", arrays, strict=True):
            np.save(folder / f"{letter}.npy", array)
        return folder

    return write


# --- what is written


def test_json_and_arrays_hold_the_same(trained, name, inputs, tmp_path, monkeypatch, capsys):
    checkpoint, folder = trained(name), inputs(name)
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(checkpoint), str(folder)]) == 0
    # Pictures are drawn for those who ask for them.
    assert [f.name for f in tmp_path.iterdir()] == ["predictions.json"]
    predicted = json.loads((tmp_path / "predictions.json").read_text())
    names = predicted["names"]
    assert f"2 predictions of {len(names)}: predictions.json" in capsys.readouterr().out
    assert predicted["checkpoint"] == str(checkpoint)
    assert predicted["task"] == name.removesuffix("-image")
    assert predicted["read_out"] == "expectation"
    assert predicted.get("category") == ("mug" if "supervised" in name else None)
    items = predicted["items"]
    assert [item["input"].rsplit("/", 1)[1].split(".")[0] for item in items] == ["a", "b"]
    assert all(len(item["confidence"]) == len(item["rows" if name == "oct" else "position"]) for item in items)
    fields = {
        "supervised": {*("num_points", "position", "covariance", "entropy", "presence", "index", "point")},
        "unsupervised": {*("num_points", "position", "covariance", "entropy", "activation", "index", "point")},
        "pose2d": {"box", "position", "covariance"},
        "pose3d": {"position", "covariance"},
        "pose3d-image": {"box", "position", "covariance", "depth_mm"},
        "oct": {"rows", "variance"},
        "landmarks": {"box", "position", "covariance"},
    }[name]
    if "supervised" in name:
        fields |= {"num_dropped", "num_used", "novelty", "unlike"}
    assert all(set(item) == {"input", "confidence", *fields} for item in items)
    assert predicted["failed"] == []

    assert main(["predict", str(checkpoint), str(folder), "--no-progress", "--out", "new/p.npz"]) == 0
    arrays = np.load(tmp_path / "new" / "p.npz")
    # How to go on is in one of them.
    kept = {"items", "inputs", "made_with"}
    assert set(arrays.files) == {*predicted, *items[0], "document"} - kept
    assert arrays["failed"].shape == (0, 2)
    for key in set(predicted) - kept - {"failed"}:
        np.testing.assert_array_equal(arrays[key], predicted[key])
    for key in items[0]:
        for row, item in zip(arrays[key], items, strict=True):
            value = np.asarray(item[key])
            if value.dtype.kind == "U":
                assert row == value
                continue
            part = row[tuple(slice(n) for n in value.shape)]
            np.testing.assert_allclose(part, value, rtol=1e-6)
            # What an input lacks is filled up.
            assert np.isnan(row).sum() == row.size - value.size
    if name == "oct":
        assert arrays["rows"].shape == (2, 9, 24)
        assert np.isnan(arrays["rows"][1, :, 16:]).all()
        assert np.isnan(arrays["confidence"]).sum() == 9 * 8


def test_predictions_are_in_the_units_of_the_input(checkpoint, root, tmp_path):
    dataset = KeypointNet(root, "mug", "val")
    pos = dataset[0].pos
    np.save(tmp_path / "a.npy", pos.numpy())
    np.savez(tmp_path / "b.npz", pos=(10 * pos + 3).numpy())
    np.save(tmp_path / "c.npy", pos.double().numpy() + 1e7)  # as in a survey; float32 would have steps of 1 here
    out = tmp_path / "out.npz"
    assert main(["predict", str(checkpoint), str(tmp_path), "--out", str(out)]) == 0
    found = np.load(out)
    assert [f.rsplit("/", 1)[1] for f in found["input"]] == ["a.npy", "b.npz", "c.npy"]
    np.testing.assert_allclose(found["position"][1], 10 * found["position"][0] + 3, atol=1e-3)
    np.testing.assert_allclose(found["position"][2] - 1e7, found["position"][0], atol=1e-4)
    np.testing.assert_allclose(found["covariance"][1], 100 * found["covariance"][0], rtol=1e-3, atol=1e-6)
    assert ((found["presence"] >= 0) & (found["presence"] <= 1)).all()
    assert (found["index"] < len(pos)).all()
    np.testing.assert_allclose(found["point"][0], pos.numpy()[found["index"][0]], atol=1e-6)
    # A covariance has no negative direction.
    assert (np.linalg.eigvalsh(found["covariance"]) > 0).all()


def test_skeletons_are_where_the_model_puts_them(root, trained, tmp_path):
    checkpoint = trained("unsupervised")
    pos = KeypointNet(root, "mug", "val")[0].pos
    clouds = tmp_path / "clouds"
    clouds.mkdir()
    np.save(clouds / "a.npy", pos.numpy())
    np.save(clouds / "b.npy", (10 * pos.double() + 3).numpy())
    out = tmp_path / "p.json"
    assert main(["predict", str(checkpoint), str(clouds), "--out", str(out)]) == 0
    predicted = json.loads(out.read_text())
    assert predicted["names"] == ["0", "1", "2", "3"]
    assert predicted["segments"] == SKELETON
    a, b = predicted["items"]
    np.testing.assert_allclose(b["position"], 10 * np.asarray(a["position"]) + 3, atol=1e-4)
    np.testing.assert_allclose(b["activation"], a["activation"], rtol=1e-4)
    assert len(a["activation"]) == 6
    merger = open_run(checkpoint).model
    cloud = Normalize("min_max")(Data(pos=pos))
    expected = denormalize(merger(None, cloud.pos)["keypoints"], cloud.offset, cloud.scale)[0]
    np.testing.assert_allclose(a["position"], expected.detach().numpy(), atol=1e-5)


def test_the_whole_image_is_the_box_unless_boxes_say_otherwise(trained, tmp_path, save_image, predict):
    source = Faces("test", num_images=4).source(0)
    file = tmp_path / "face.png"
    save_image(file, source["image"])
    height, width = source["image"].shape[1:]
    (whole,) = predict(trained("landmarks"), [file], tmp_path)["items"]
    assert whole["box"] == [0, 0, width, height]
    boxes = {"face.png": [[2, 3, 20, 30], [0, 0, width, height]], "another.png": [[0, 0, 1, 1]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    options = ["--boxes", tmp_path / "boxes.json", "--overwrite"]
    two = predict(trained("landmarks"), [file], tmp_path, *options)["items"]
    assert [item["box"] for item in two] == boxes["face.png"]
    # A network that knows nothing looks at the middle of its box.
    for item in (*two, whole):
        x, y, w, h = item["box"]
        middle = np.array([x + (w - 1) / 2, y + (h - 1) / 2])
        assert np.abs(np.array(item["position"]) - middle).max() < 0.4 * max(w, h)
    assert sorted(p.name for p in (tmp_path / "png").iterdir()) == ["face.png.png"]


def test_clouds_have_pictures_and_a_page(checkpoint, root, tmp_path, capsys, read_page):
    pytest.importorskip("plotly")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "mug.npy", KeypointNet(root, "mug", "val")[0].pos.numpy())
    np.save(tmp_path / "a" / "one.npy", np.zeros((1, 3)))
    out, png, page = tmp_path / "p.json", tmp_path / "new" / "png", tmp_path / "new" / "p.html"
    arguments = [tmp_path / "a", tmp_path / "b", "--out", out, "--png", png, "--html", page]
    assert main(["predict", str(checkpoint), *map(str, arguments)]) == 0
    # Named by where the inputs lie: the same in every call.
    names = ["a/mug.npy.png", "a/one.npy.png", "b/mug.npy.png"]
    assert sorted(f.relative_to(png).as_posix() for f in png.rglob("*.png")) == names
    first, second = (np.asarray(Image.open(png / name)) for name in (names[0], names[2]))
    np.testing.assert_array_equal(first, second)
    assert (first < 250).any(2).sum() > 5000
    assert str(page) in capsys.readouterr().out
    about, scenes = read_page(page)
    assert about["title"] == "mug: 3 inputs"
    assert [s["title"] for s in scenes] == ["a/mug.npy", "a/one.npy", "b/mug.npy"]
    # The page has the numbers of the file, for the keypoints that are thought to be there.
    predicted = json.loads(out.read_text())
    for scene, found in zip(scenes, predicted["items"], strict=True):
        assert [k["name"] for k in scene["keypoints"]] == predicted["names"]
        assert [k["confidence"] for k in scene["keypoints"]] == pytest.approx(found["confidence"], rel=0.01)
        assert [k["predicted"] is not None for k in scene["keypoints"]] == [p > 0.5 for p in found["presence"]]


# --- mistakes


@pytest.mark.parametrize("name", ["pose2d", "pose3d", "oct", "landmarks"])
def test_a_page_of_a_task_without_pages_is_refused_at_once(trained, name, tmp_path, refused):
    # Before the input is missed.
    arguments = [trained(name), tmp_path / "none", "--html", tmp_path / "p.html", "--out", tmp_path / "p.json"]
    message = refused(["predict", *arguments])
    assert f"`html` (={tmp_path / 'p.html'}) must not be given for {name}: only clouds have pages" in message
    assert not list(tmp_path.iterdir())


def test_a_folder_in_place_of_a_page_is_refused_at_once(checkpoint, tmp_path, refused):
    message = refused(["predict", checkpoint, tmp_path / "none", "--html", tmp_path, "--out", tmp_path / "p.json"])
    assert f"`html` (={tmp_path}) must be a file, is a folder" in message
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="session")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / "good.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "broken.npy").write_bytes(b"no array")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / "cloud.pcd").write_text("VERSION .7\n")
    (folder / "headless.pcd").write_bytes(b"VERSION .7\nFIELDS x y z\n")
    (folder / "broken.obj").write_bytes(b"v 0 0\nf 1 2 3\n")
    np.save(folder / "infinite.npy", np.array([[0.0, np.nan, 0.0]]))
    np.save(folder / "empty.npy", np.zeros((0, 3)))
    np.save(folder / "plane.npy", np.zeros((5, 2)))
    np.save(folder / "words.npy", np.array([["a", "b", "c"]]))
    np.save(folder / "bright.npy", 2 * rng.random((16, 16, 16)))
    np.save(folder / "dark.npy", rng.random((16, 16, 16)) - 1)
    np.save(folder / "nan.npy", np.full((16, 16, 16), np.nan))
    np.save(folder / "flat.npy", rng.random((16, 16)))
    np.save(folder / "volume.npy", rng.random((16, 16, 16)))
    np.save(folder / "odd.npy", rng.random((15, 16, 16)))
    np.save(folder / "text.npy", np.array([[["a"]]]))
    np.save(folder / "objects.npy", np.array([{}], dtype=object))
    np.savez(folder / "two.npz", a=rng.random((16, 16, 16)), b=np.zeros(3))
    for name, boxes in (
        ("away", {"good.png": [[50, 10, 10, 10]]}),
        ("flat", {"good.png": [[5, 5, 0, 10]]}),
        ("nan", {"good.png": [[5, 5, float("nan"), 10]]}),
        ("bare", {"good.png": [5, 5, 10, 10]}),
        ("list", [[5, 5, 10, 10]]),
        ("others", {"other.png": [[5, 5, 10, 10]]}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(boxes))
    (folder / "cut.json").write_text('{"good.png": [[')
    (folder / "hollow").mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "arguments", "parts"),
    [
        ("supervised", ["infinite.npy"], ["infinite.npy", "not finite"]),
        ("supervised", ["empty.npy"], ["empty.npy", "must be numbers"]),
        ("supervised", ["plane.npy"], ["plane.npy", "must be numbers"]),
        ("supervised", ["words.npy"], ["words.npy", "must be numbers"]),
        ("supervised", ["broken.npy"], ["broken.npy", "cannot be read"]),
        ("supervised", ["headless.pcd"], ["headless.pcd", "no `DATA` line"]),
        ("supervised", ["broken.obj"], ["broken.obj", "line 1"]),
        ("supervised", ["hollow"], ["hollow", "without any file"]),
        ("supervised", ["none.npy"], ["none.npy", "does not exist"]),
        ("supervised", ["good.png"], ["good.png", "must be a file of"]),
        ("supervised", ["flat.npy", "--num-points", "0"], ["`num_points` (=0) must be at least 1"]),
        ("supervised", ["flat.npy", "--seed", "-1"], ["`seed` (=-1) must be at least 0"]),
        ("supervised", ["flat.npy", "--boxes", "away.json"], ["Unrecognized options: --boxes"]),
        ("landmarks", ["broken.png"], ["broken.png", "cannot be read as a picture"]),
        ("landmarks", ["none.png"], ["none.png", "does not exist"]),
        ("landmarks", ["hollow"], ["hollow", "without any file of .png"]),
        ("landmarks", ["cloud.pcd"], ["cloud.pcd", "must be a file of .png"]),
        ("landmarks", ["volume.npy"], ["volume.npy", "must be a file of .png"]),
        ("landmarks", ["good.png", "--boxes", "away.json"], ["good.png", "must touch the picture of 50 x 40 pixels"]),
        ("landmarks", ["good.png", "--boxes", "flat.json"], ["good.png", "width and a height above 0"]),
        ("landmarks", ["good.png", "--boxes", "nan.json"], ["good.png", "all finite"]),
        ("landmarks", ["good.png", "--boxes", "bare.json"], ["`boxes`", "must map file names to lists"]),
        ("landmarks", ["good.png", "--boxes", "list.json"], ["`boxes`", "must map file names to lists"]),
        ("landmarks", ["good.png", "--boxes", "cut.json"], ["`boxes`", "must be JSON"]),
        ("landmarks", ["good.png", "--boxes", "others.json"], ["`boxes`", "must have a box for one of the inputs"]),
        ("landmarks", ["good.png", "--boxes", "none.json"], ["none.json"]),
        ("landmarks", ["good.png", "--device", "nonsense"], ["`device` (='nonsense')"]),
        ("landmarks", ["good.png", "--out", "p.csv"], ["`out` (=p.csv) must end in .json or .npz"]),
        ("pose3d", ["bright.npy"], ["bright.npy", "must be from 0 to 1, or `value_range` must say"]),
        ("pose3d", ["dark.npy"], ["dark.npy", "from -", "must be from 0 to 1"]),
        ("pose3d", ["nan.npy"], ["nan.npy", "must be finite"]),
        ("pose3d", ["flat.npy"], ["flat.npy", "[16, 16]) must be numbers of 3 axes"]),
        ("pose3d", ["text.npy"], ["text.npy", "must be numbers"]),
        ("pose3d", ["objects.npy"], ["objects.npy", "cannot be read"]),
        ("pose3d", ["odd.npy"], ["odd.npy", "divisible by 2"]),
        ("pose3d", ["two.npz"], ["two.npz", "must hold one array, has a, b"]),
        ("pose3d", ["broken.npy"], ["broken.npy", "cannot be read"]),
        ("pose3d", ["broken.npz"], ["broken.npz", "cannot be read"]),
        ("pose3d", ["good.png"], ["good.png", "must be a file of .npy, .npz"]),
        ("pose3d", ["volume.npy", "--boxes", "away.json"], ["`boxes`", "must not be given for volumes"]),
        ("oct", ["volume.npy"], ["volume.npy", "[16, 16, 16]) must be numbers of 2 axes"]),
        ("oct", ["broken.npy"], ["broken.npy", "cannot be read"]),
        pytest.param(
            *("oct", ["broken.npz"], ["broken.npz", "cannot be read"]),
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # numpy leaves it open
        ),
        ("oct", ["two.npz"], ["two.npz", "must hold bscan or image"]),
        ("oct", ["broken.png"], ["broken.png", "cannot be read as a picture"]),
        ("oct", ["flat.npy", "--value-range", "1", "0"], ["`value_range` (=(1.0, 0.0)) must be finite, and rise"]),
        ("oct", ["good.png", "--boxes", "away.json"], ["Unrecognized options: --boxes"]),
        ("oct", ["flat.npy", "--no-flip-test"], ["Unrecognized options: --no-flip-test"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)
def test_mistakes_end_in_one_message_and_status_2(trained, bad, tmp_path, refused, name, arguments, parts):
    named = [bad / a if (bad / a).exists() or "none" in a else a for a in arguments]
    out = [] if "--out" in arguments else ["--out", tmp_path / "p.json"]
    message = refused(["predict", trained(name), *named, *out, "--png", tmp_path])
    assert all(part in message for part in parts), message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["EMPTY", "EMPTY"], "must be a checkpoint or the folder of a run: it has no last.ckpt"),
        (["EMPTY/none.ckpt", "CHECKPOINT"], "no such file"),
        (["CHECKPOINT"], "`inputs` must name at least one file or folder"),
        (["CHECKPOINT", "CHECKPOINT"], "must name each checkpoint once"),
        (["--read-out", "mode", "CHECKPOINT", "EMPTY"], "must come first, before all options"),
    ],
)
def test_a_checkpoint_and_inputs_must_be_named(checkpoint, tmp_path, refused, arguments, message):
    named = [a.replace("CHECKPOINT", str(checkpoint)).replace("EMPTY", str(tmp_path)) for a in arguments]
    assert message in refused(["predict", *named])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "shape"), [("oct", (64, 16)), ("landmarks", (40, 50)), ("pose3d", (16, 16, 16))])
def test_what_the_values_stand_for(trained, predict, refused, tmp_path, name, shape):
    deep = np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)
    unit, raw = (tmp_path / part / ("a.npy" if name == "pose3d" else "a.tif") for part in ("unit", "raw"))
    for file, values in ((unit, (deep / 4095).astype(np.float32)), (raw, deep)):
        file.parent.mkdir()
        np.save(file, values) if name == "pose3d" else Image.fromarray(values).save(file)
    assert "`value_range` must say" in refused(["predict", trained(name), raw, "--out", tmp_path / "p.json"])
    found = predict(trained(name), [raw], tmp_path, "--value-range", "0", "4095")["items"]
    expected = predict(trained(name), [unit], unit.parent)["items"]
    field = "rows" if name == "oct" else "position"
    np.testing.assert_allclose(found[0][field], expected[0][field], atol=1e-4)
