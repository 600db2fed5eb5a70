import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.keypointnet import CLASS_IDS
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.procedural import CATEGORIES, embedded_root, generate
from pcsa.datasets.procedural.shapes import files

trimesh = pytest.importorskip("trimesh")

# Categories whose mirror image swaps front and back, not left and right.
ACROSS_Z = ("bathtub", "mug")


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("twin"), CATEGORIES, 10, meshes=True)


def records(root: Path, category: str) -> list[dict]:
    return json.loads((root / "annotations" / f"{category}.json").read_text())


def test_same_seed_same_bytes_and_first_shapes_stay(tmp_path):
    a = contents(generate(tmp_path / "a", ["mug", "chair"], 4, seed=3))
    b = contents(generate(tmp_path / "b", ["chair", "mug"], 4, seed=3))
    # 2 categories x (4 clouds + 1 annotation) + 3 split files
    assert len(a) == 13
    assert {k: v for k, v in a.items() if "splits" not in k} == {k: v for k, v in b.items() if "splits" not in k}

    longer = contents(generate(tmp_path / "c", "mug", 6, seed=3))
    clouds = {k: v for k, v in a.items() if "03797390" in k}
    assert len(clouds) == 4
    assert clouds.items() <= longer.items()
    assert records(tmp_path / "c", "mug")[:4] == records(tmp_path / "a", "mug")

    other = contents(generate(tmp_path / "d", "mug", 4, seed=4))
    assert not {k for k in other if k.startswith("pcds")} & set(a)
    assert not {v for k, v in other.items() if k.startswith("pcds")} & set(clouds.values())


@pytest.mark.parametrize("category", CATEGORIES)
def test_release_layout(root, category):
    annotated = records(root, category)
    assert {r["class_id"] for r in annotated} == {CLASS_IDS[category]}
    model_ids = [r["model_id"] for r in annotated]
    folder = root / "pcds" / CLASS_IDS[category]
    assert sorted(p.stem for p in folder.iterdir()) == sorted(set(model_ids))
    assert all(len(m) == 32 and int(m, 16) for m in model_ids)
    # 10 shapes at 0.7, 0.1, 0.2
    named = {
        name: [
            line.partition("-")[2]
            for line in (root / "splits" / f"{name}.txt").read_text().splitlines()
            if line.startswith(CLASS_IDS[category])
        ]
        for name in ("train", "val", "test")
    }
    assert [len(v) for v in named.values()] == [7, 1, 2]
    assert sorted(m for ids in named.values() for m in ids) == sorted(model_ids)


def test_pcd_has_the_header_of_the_release(root):
    text = next((root / "pcds" / "03001627").iterdir()).read_text().splitlines()
    assert text[:10] == [
        "VERSION .7",
        "FIELDS x y z rgb",
        "SIZE 4 4 4 4",
        "TYPE F F F U",
        "COUNT 1 1 1 1",
        "WIDTH 2048",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        "POINTS 2048",
        "DATA ascii",
    ]
    assert len(text) == 2058


def test_keys_of_a_record_are_those_of_the_release(root):
    folder = os.environ.get("PCSA_TEST_DATA")
    if not folder:
        pytest.skip("PCSA_TEST_DATA is not set: no record of the release to compare with")
    real = records(Path(folder, "keypointnet"), "airplane")[0]
    ours = records(root, "airplane")[0]
    assert ours.keys() == real.keys()
    assert ours["symmetries"].keys() == real["symmetries"].keys()
    assert ours["keypoints"][0].keys() == real["keypoints"][0].keys() | {"name"}
    for key in ("pcd_info", "mesh_info"):
        assert ours["keypoints"][0][key].keys() == real["keypoints"][0][key].keys()


@pytest.mark.parametrize("category", CATEGORIES)
def test_keypoints_are_cloud_points_and_lie_on_the_written_mesh(root, category):
    for record in records(root, category):
        name = f"{CLASS_IDS[category]}/{record['model_id']}"
        points, colors = read_pcd(root / "pcds" / f"{name}.pcd")
        mesh = trimesh.load(root / "meshes" / f"{name}.ply", process=False)
        assert points.shape == (2048, 3)
        assert colors is not None
        indexes = [k["pcd_info"]["point_index"] for k in record["keypoints"]]
        assert len(set(indexes)) == len(indexes)
        ids = [k["semantic_id"] for k in record["keypoints"]]
        assert ids == sorted(set(ids))
        for keypoint, index in zip(record["keypoints"], indexes, strict=True):
            assert keypoint["xyz"] == np.float32(points[index]).tolist()
            assert keypoint["rgb"] == colors[index].tolist()
            corners = mesh.vertices[mesh.faces[keypoint["mesh_info"]["face_index"]]]
            weights = np.array(keypoint["mesh_info"]["face_uv"])
            assert weights.min() >= 0
            assert weights.sum() == pytest.approx(1)
            assert weights @ corners == pytest.approx(np.array(keypoint["xyz"]), abs=1e-4)


def test_symmetries_index_the_records_own_keypoints(root):
    kinds = Counter()
    for category in CATEGORIES:
        for record in records(root, category):
            keypoints = record["keypoints"]
            for group in record["symmetries"]["reflection"]:
                i, j = group["kp_indexes"]
                names = {keypoints[i]["name"], keypoints[j]["name"]}
                one, other = ("front", "back") if category in ACROSS_Z else ("left", "right")
                assert len({n.replace(one, other) for n in names}) == 1
            for group in record["symmetries"]["rotation"]:
                kinds[group["is_circle"]] += 1
                stems = {keypoints[i]["name"].split()[0] for i in group["kp_indexes"]}
                assert len(stems) == 1
                assert bool(group["circle"]) == group["is_circle"]
    assert kinds[False] > 0
    assert kinds[True] > 0


def test_another_category_joins_the_root(tmp_path):
    generate(tmp_path, "mug", 3)
    mugs = contents(tmp_path)
    generate(tmp_path, "table", 3)
    both = contents(tmp_path)
    for path, data in mugs.items():
        assert both[path].startswith(data)
    # 3 + 3 clouds, 2 annotations, 3 splits and nothing temporary
    assert len(both) == 11


def test_overwrite_replaces_all_of_the_old(tmp_path):
    root = generate(tmp_path / "twin", "mug", 6, seed=1, meshes=True)
    before = contents(root)
    with pytest.raises(FileExistsError, match="overwrite"):
        generate(root, ["chair", "mug"], 3)
    assert contents(root) == before
    generate(root, "mug", 3, seed=2, overwrite=True)
    assert contents(root) == contents(generate(tmp_path / "fresh", "mug", 3, seed=2))


def test_run_interrupted_between_files_leaves_no_annotation_and_can_be_repeated(tmp_path, monkeypatch):
    root = generate(tmp_path / "twin", "mug", 4, seed=1)
    replace, calls = os.replace, []

    def fail(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise OSError("disk full")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            generate(root, "mug", 5, seed=2, overwrite=True)
    assert not (root / "annotations/mug.json").exists()
    generate(root, "mug", 5, seed=2)
    assert contents(root) == contents(generate(tmp_path / "fresh", "mug", 5, seed=2))


def test_interrupted_run_leaves_the_old_data_and_no_litter(tmp_path, monkeypatch):
    generate(tmp_path, "mug", 3)
    before = contents(tmp_path)
    calls = []

    def fail(*args: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise OSError("disk full")

    monkeypatch.setattr("pcsa.datasets.procedural.shapes.files.write_pcd", fail)
    with pytest.raises(OSError, match="disk full"):
        generate(tmp_path, "mug", 5, seed=9, overwrite=True)
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob(".procedural*"))


@pytest.mark.parametrize("what", ["annotation", "cloud", "split"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_real_data_is_never_touched(tmp_path, what, overwrite):
    real = "1e9ef313876bfba7d02c6d35cc802839"
    for folder in ("annotations", "pcds/03797390", "splits"):
        (tmp_path / folder).mkdir(parents=True)
    if what == "annotation":
        (tmp_path / "annotations/mug.json").write_text(json.dumps([{"model_id": real}]))
    elif what == "cloud":
        (tmp_path / "pcds/03797390" / f"{real}.pcd").write_text("VERSION .7")
    else:
        (tmp_path / "splits/val.txt").write_text(f"03797390-{real}\n")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="not procedural"):
        generate(tmp_path, "mug", 3, overwrite=overwrite)
    assert contents(tmp_path) == before
    # Another category may be added beside it.
    generate(tmp_path, "table", 3)
    assert before.keys() <= contents(tmp_path).keys()


def test_broken_annotation_is_not_replaced(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/mug.json").write_text("[{")
    with pytest.raises(FileExistsError, match=r"mug\.json"):
        generate(tmp_path, "mug", 3, overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"category": "spoon"}, r"`category` \(='spoon'\)"),
        ({"category": ["mug", "spoon"]}, "`category`"),
        ({"category": []}, "`category`"),
        ({"num_shapes": 2}, r"`num_shapes` \(=2\) must be at least 3"),
        ({"num_points": 255}, r"`num_points` \(=255\) must be at least 256"),
        ({"seed": -1}, r"`seed` \(=-1\)"),
        ({"split": (0.7, 0.3)}, "`split`"),
        ({"split": (0.7, 0.3, 0.0)}, "`split`"),
        ({"split": (0.7, 0.2, 0.2)}, "`split`"),
        ({"split": (0.7, float("nan"), 0.3)}, "`split`"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "new", **{"category": "mug", **arguments})
    assert not (tmp_path / "new").exists()


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="must be a folder"):
        generate(tmp_path / "file", "mug", 3)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("shares", [(0.98, 0.01, 0.01), (0.01, 0.01, 0.98), (0.01, 0.98, 0.01)])
def test_every_split_gets_a_shape(tmp_path, shares):
    generate(tmp_path, "mug", 5, num_points=256, split=shares)
    sizes = [len((tmp_path / f"splits/{n}.txt").read_text().split()) for n in ("train", "val", "test")]
    # 5 shapes, at least 1 each: the large share takes the other 3.
    assert sizes == [3 if share == 0.98 else 1 for share in shares]


def test_the_cache_of_the_default_data_is_that_of_the_shapes_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("PCSA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = embedded_root("mug", 3, seed=1)
    assert contents(root) == contents(generate(tmp_path / "fresh", "mug", 3, seed=1))
    # A change of the pictures leaves it in place.
    sources = b"".join(path.read_bytes() for path in sorted(Path(files.__file__).parent.iterdir()) if path.is_file())
    assert root == tmp_path / "pcsa" / "procedural" / f"{hashlib.sha256(sources).hexdigest()[:12]}-mug-3-1"
    monkeypatch.setattr(files, "generate", None)
    assert embedded_root("mug", 3, seed=1) == root


def test_a_cache_that_cannot_be_written_is_named_with_a_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PCSA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"file/cache/procedural` cannot be written \(.*\): set PCSA_CACHE_DIR"):
        embedded_root("mug", 3)
