"""Files that somebody meant: pipes, bombs, paths and links that lead out."""

import json
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pcsa.datasets import limits
from pcsa.datasets.arrays import read_arrays, read_volume
from pcsa.datasets.coco import CocoKeypoints
from pcsa.datasets.custom import write_labeled
from pcsa.datasets.human36m import Human36M
from pcsa.datasets.images import check_readable, picture_header, read_image
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.keypointnet.annotations import read_records
from pcsa.datasets.lines import text_lines
from pcsa.datasets.matlab import read_matlab
from pcsa.datasets.meshes import gltf, triangles
from pcsa.datasets.meshes.read import load_mesh
from pcsa.datasets.mtfl import Mtfl
from pcsa.datasets.oct import OctScans
from pcsa.datasets.points import CLOUDS, MESHES, read_cloud
from pcsa.datasets.shapenet import ShapeNetPoints
from pcsa.scripts.journal import Journal
from pcsa.scripts.report import read_run
from pcsa.scripts.reproduce.study import open_study
from pcsa.tasks import open_run
from pcsa.tasks.common.map_inputs import read_boxes


@pytest.mark.parametrize(
    ("name", "read"),
    [
        *((f"a{suffix}", read_cloud) for suffix in (*CLOUDS, *MESHES)),
        ("a.png", read_image),
        ("a.png", picture_header),
        ("a.png", check_readable),
        ("a.npz", read_arrays),
        ("a.npy", read_volume),
        ("a.mat", lambda path: read_matlab(path, ["a"])),
        ("a.txt", text_lines),
        ("a.json", read_records),
        ("a.json", lambda path: read_run(path.parent, "a", "val")),
        ("a.toml", lambda path: open_study(str(path))),
        ("a.json", lambda path: Journal(path, {})),
        ("a.npz", lambda path: Journal(path, {})),
        ("a.ckpt", open_run),
        ("a.json", read_boxes),
    ],
)
def test_a_pipe_is_never_waited_for(tmp_path, name, read, soon):
    os.mkfifo(tmp_path / name)
    with pytest.raises((ValueError, OSError), match=rf"{tmp_path}"):
        read(tmp_path / name)


def test_devices_and_pipes_behind_links_are_refused(tmp_path, soon):
    (tmp_path / "a.ply").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"a\.ply`: must be a regular file, is a device"):
        read_cloud(tmp_path / "a.ply")


def test_a_file_with_a_hole_is_not_read_whole(tmp_path):
    with open(tmp_path / "a.xyz", "wb") as file:
        file.truncate(2**43)
    with pytest.raises(ValueError, match=r"a\.xyz`: 8796093022208 bytes, must be at most"):
        read_cloud(tmp_path / "a.xyz")


def test_a_small_picture_of_many_pixels(tmp_path):
    """Once 21 kB took 5.3 GB: of one color, and below Pillow's own limit."""
    Image.new("1", (12_000, 12_000)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 30_000
    for read in (read_image, check_readable, picture_header):
        with (
            pytest.warns(Image.DecompressionBombWarning),
            pytest.raises(ValueError, match=r"a\.png`: 12000 x 12000 pix"),
        ):
            read(tmp_path / "a.png")
    Image.new("1", (6_000, 6_000)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png`: 6000 x 6000 pixels are too many for a file of \d+ bytes"):
        read_image(tmp_path / "b.png")


def test_a_picture_that_a_program_would_be_started_for(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"a\.png`: cannot be read as a picture"):
        read_image(tmp_path / "a.png")


@pytest.fixture
def tight(monkeypatch):
    """Limits that a test can reach."""
    monkeypatch.setattr(limits, "MOST_UNPACKED", 100_000)
    monkeypatch.setattr(limits, "MOST_TIMES", 2)


def test_bombs_in_zip_files(tmp_path, tight):
    np.savez_compressed(tmp_path / "a.npz", points=np.zeros((100_000, 3)))
    np.savez_compressed(tmp_path / "b.npz", points=np.ones((1000, 3)))
    with pytest.raises(ValueError, match=r"a\.npz`: .* takes 2400128 bytes unpacked, which must be at most 100000"):
        read_arrays(tmp_path / "a.npz")
    assert len(read_cloud(tmp_path / "b.npz").points) == 1000
    # What is not read does not count.
    np.savez_compressed(tmp_path / "c.npz", points=np.ones((1000, 3)), other=np.zeros((100_000, 3)))
    assert list(read_arrays(tmp_path / "c.npz", ["points"])) == ["points"]


def test_headers_that_declare_more_than_there_is(tmp_path):
    for name in ("a.npy", "a.npz"):
        (np.savez if name == "a.npz" else np.save)(tmp_path / name, np.zeros((40, 3)))
        raw = (tmp_path / name).read_bytes()
        assert b"(40, 3), }        " in raw
        changed = raw.replace(b"(40, 3), }        ", b"(400000000, 3), } ")
        if name == "a.npz":
            with zipfile.ZipFile(tmp_path / name) as file:
                (member,) = file.namelist()
                content = file.read(member).replace(b"(40, 3), }        ", b"(400000000, 3), } ")
            with zipfile.ZipFile(tmp_path / name, "w") as file:
                file.writestr(member, content)
        else:
            (tmp_path / name).write_bytes(changed)
        with pytest.raises(
            ValueError, match=rf"{name}`: .*\[400000000, 3\] of float64 takes 9600000000 bytes, 960 are"
        ):
            read_arrays(tmp_path / name)


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    array = np.empty(1, object)
    array[0] = Bomb()
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", image=array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match=rf"{name}`: cannot be read as arrays of objects"):
            read_arrays(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_bombs_in_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", shape=(2**20, 2**20, 3), dtype="f4", chunks=(1, 1024, 3))
    assert (tmp_path / "a.h5").stat().st_size < 10_000
    for read in (lambda path: ShapeNetPoints(path, None, "all"), read_cloud):
        with pytest.raises(ValueError, match=r"a\.h5`: `/data` .* takes 13194139533312 bytes unpacked"):
            read(tmp_path / "a.h5")


def test_hdf5_that_leads_to_other_files(tmp_path, soon):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("data", data=np.zeros((2, 5, 3)))
    os.mkfifo(tmp_path / "pipe.h5")
    links = {"a": h5py.ExternalLink("other.h5", "data"), "b": h5py.ExternalLink("pipe.h5", "data")}
    for name, link in {**links, "c": h5py.SoftLink("/a/b")}.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"] = link
        with pytest.raises(ValueError, match=rf"{name}\.h5`: `data` must lie in the file itself, is a link"):
            ShapeNetPoints(tmp_path / f"{name}.h5", None, "all")
    layout = h5py.VirtualLayout(shape=(2, 5, 3), dtype="f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", shape=(2, 5, 3))
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_dataset("data", (2, 5, 3), "f8", external=[(str(tmp_path / "raw"), 0, 240)])
    for name in "de":
        with pytest.raises(ValueError, match=rf"{name}\.h5`: `/data` must have its values in the file itself"):
            ShapeNetPoints(tmp_path / f"{name}.h5", None, "all")


def test_bombs_in_matlab_files(tmp_path, tight):
    savemat(tmp_path / "a.mat", {"joints": np.zeros((1000, 200))}, do_compression=True)
    with pytest.raises(ValueError, match=r"a\.mat`: what is compressed takes \d+ bytes unpacked"):
        read_matlab(tmp_path / "a.mat", ["joints"])


def test_a_cell_that_holds_itself(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        cells = file.create_dataset("joints", (1, 1), h5py.ref_dtype)
        cells[0, 0] = cells.ref
    with pytest.raises(ValueError, match=r"a\.mat`: `joints` must be at most 1000000 cells of numbers"):
        read_matlab(tmp_path / "a.mat", ["joints"])


def test_a_scene_of_many_instances(tmp_path, monkeypatch):
    """A few kilobytes that are a billion vertices: nodes that show one mesh."""
    monkeypatch.setattr(gltf, "MOST_UNPACKED", 2**20)
    points = np.zeros((2**10, 3), "<f4")
    (tmp_path / "a.bin").write_bytes(points.tobytes())
    content = {
        "asset": {"version": "2.0"},
        "nodes": [{"mesh": 0}] * 100,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 0}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": len(points), "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": points.nbytes}],
        "buffers": [{"uri": "a.bin", "byteLength": points.nbytes}],
    }
    (tmp_path / "a.gltf").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a\.gltf`: the scene of \d+ vertices or more is too large"):
        read_cloud(tmp_path / "a.gltf")
    content["accessors"] = [{"componentType": 5126, "count": 2**26, "type": "VEC3", "sparse": {"count": 0}}]
    (tmp_path / "a.gltf").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a\.gltf`: .* 67108864 rows of zeros, for which the file is too small"):
        read_cloud(tmp_path / "a.gltf")


def test_polygons_that_take_an_hour(tmp_path, soon, monkeypatch):
    """Spirals, which share their vertices: of a thousand corners, each is a line of the file and half a minute."""
    monkeypatch.setattr(triangles, "_LEAST_TRIES", 5000)
    angle = np.linspace(0, 12 * np.pi, 60)
    inner, outer = (
        np.stack([(shift + angle) * np.cos(angle), (shift + angle) * np.sin(angle)], 1) for shift in (0.5, 1)
    )
    points = np.concatenate([outer, inner[::-1]])
    face = f"{len(points)} {' '.join(map(str, range(len(points))))}\n"
    for count in (1, 10):
        text = f"OFF\n{len(points)} {count} 0\n" + "".join(f"{x:.6f} {y:.6f} 0\n" for x, y in points) + face * count
        (tmp_path / "a.off").write_text(text)
        if count == 1:
            assert len(load_mesh(tmp_path / "a.off").faces) == len(points) - 2
    with pytest.raises(ValueError, match=r"a\.off`: polygons that are not convex take too long to cut"):
        load_mesh(tmp_path / "a.off")


OUT = ("../secret", "a/../../secret", "/etc/passwd", "C:\\secret", "..\\secret")


@pytest.mark.parametrize("name", OUT)
def test_names_that_lead_out_of_a_folder(fuzz, tmp_path, name):
    """The file is there, so that whoever follows the name reads it."""
    seeds, targets = fuzz("fuzz_seeds"), fuzz("fuzz_targets").TARGETS
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    targets["annotations"].around(root)
    for field in ("class_id", "model_id"):
        records = [{**record, field: name} for record in json.loads(seeds.annotations()[0])]
        (root / "annotations" / "bed.json").write_text(json.dumps(records))
        with pytest.raises(ValueError, match=rf"bed\.json`: .*`{field}` \(=.*\) must be a name without a path"):
            KeypointNet(root, "bed", "train", cache_dir=tmp_path / "cache")
    content = json.loads(seeds.coco()[0])
    content["images"][0]["file_name"] = name
    (root / "truth.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"truth\.json`: images\[0\] .*`file_name` .* must be the name of a file below"
    ):
        CocoKeypoints(root / "truth.json", root)
    (root / "training.txt").write_bytes(seeds.mtfl()[0].replace(b"7.png", name.encode()))
    with pytest.raises(ValueError, match=r"training\.txt`: line 1: .* must lead to a picture below the folder"):
        Mtfl(root, "train", num_test=1)
    targets["frames"].around(root)
    arrays = read_arrays(root / "frames.npz")
    np.savez(root / "frames.npz", **{**arrays, "imgname": np.array([name])})
    with pytest.raises(
        ValueError, match=r"frames\.npz`: `imgname`: frame 0: .* must lead to a picture below the folder"
    ):
        Human36M(root, "train")
    scans = root / "scans"
    (scans / "splits").mkdir(parents=True)
    for scan in "ab":  # of one alone, all columns are listed
        (scans / f"{scan}.npz").write_bytes(seeds.scans()[0])
    (scans / "splits" / "train.txt").write_text(f"{name}\n")
    with pytest.raises(ValueError, match=r"train\.txt`: line 1: .* must lead to a file below the folder"):
        OctScans(scans, "train")
    scene = json.loads(seeds.gltf()[1])
    scene["buffers"][0]["uri"] = name.replace("\\", "%5C")
    (root / "a.gltf").write_text(json.dumps(scene))
    with pytest.raises(ValueError, match=r"a\.gltf`: `buffers` 0: .* must be a file beside this one, or below it"):
        read_cloud(root / "a.gltf")


@pytest.fixture
def items():
    rng = np.random.default_rng(0)
    return [(points, points[[0, 7]], ["nose", "tail"]) for points in rng.random((4, 30, 3))]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("name", ["../../../outside/kept", "../other/kept", "a/../../../../outside/kept"])
def test_overwriting_deletes_nothing_elsewhere(tmp_path, items, name):
    """Once `write_labeled` removed what the model ids of the annotations that it replaced led to."""
    root = tmp_path / "root"
    write_labeled(root, "fish", items)
    for folder in (tmp_path / "outside", root / "pcds" / "other"):
        folder.mkdir()
        (folder / "kept.pcd").write_text("mine")
    annotations = root / "annotations" / "fish.json"
    records = json.loads(annotations.read_text())
    records[0]["model_id"] = name
    annotations.write_text(json.dumps(records))
    write_labeled(root, "fish", items, overwrite=True)
    assert (tmp_path / "outside" / "kept.pcd").exists()
    assert (root / "pcds" / "other" / "kept.pcd").exists()
    assert len(KeypointNet(root, "fish", "all", cache_dir=tmp_path / "cache")) == 4


@pytest.mark.parametrize(
    "link", ["pcds", "pcds/fish", "annotations", "splits", "splits/train.txt", "annotations/fish.json"]
)
def test_nothing_is_written_behind_a_link_that_leads_out(tmp_path, items, link):
    root, outside = tmp_path / "root", tmp_path / "outside"
    write_labeled(root, "fish", items)
    (root / link).rename(outside)
    (root / link).symlink_to(outside)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r"must lie in `.*root`, leads to `.*outside"):
        write_labeled(root, "fish", items[:3], overwrite=True)
    assert tree(tmp_path) == before
    # It is read all the same: whoever has large data keeps them where there is room.
    assert len(KeypointNet(root, "fish", "all", cache_dir=tmp_path / "cache")) == 4


def test_a_root_may_be_a_link(tmp_path, items):
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    write_labeled(tmp_path / "root", "fish", items)
    write_labeled(tmp_path / "root", "fish", items, overwrite=True)


def test_a_study_names_no_folder_elsewhere(fuzz, tmp_path):
    seed = fuzz("fuzz_outputs").studies()[0].decode()
    lines = [line for line in seed.splitlines() if not line.startswith("categories")]
    for name in ("../../x", "/x", "a/b", ".", ".."):
        (tmp_path / "a.toml").write_text("\n".join([f'categories = ["{name}"]', *lines]))
        with pytest.raises(ValueError, match=r"a\.toml`: `categories` has '.*': must be names without a path"):
            open_study(str(tmp_path / "a.toml"))
