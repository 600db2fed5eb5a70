import functools
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pcsa.datasets.keypointnet import CLASS_IDS
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.procedural import CATEGORIES, generate, make_shape, sample_shape
from pcsa.datasets.procedural.shapes.categories import TABLE
from pcsa.datasets.procedural.shapes.shape import _cells, _inside

trimesh = pytest.importorskip("trimesh")

# Categories whose mirror image swaps front and back, not left and right.
ACROSS_Z = ("bathtub", "mug")


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@functools.cache
def drawn(category: str, index: int):
    rng = np.random.default_rng([0, index])
    shape = make_shape(category, rng)
    return shape, sample_shape(shape, 2048, rng)


def draw(category: str, count: int):
    """The first shapes of a category with their clouds, which the tests share."""
    return (drawn(category, index) for index in range(count))


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


@pytest.mark.parametrize("category", ["airplane", "bathtub", "bed"])
def test_real_shapes_share_the_axes_and_the_meaning_of_the_ids(category):
    folder = os.environ.get("PCSA_TEST_DATA")
    if not folder:
        pytest.skip("PCSA_TEST_DATA is not set: no real shapes to compare with")

    def mean_places(keypoints_of_shapes):
        places = {}
        for keypoints in keypoints_of_shapes:
            for semantic_id, xyz in keypoints.items():
                places.setdefault(semantic_id, []).append(xyz)
        return {i: np.mean(xyz, axis=0) for i, xyz in places.items()}

    real = mean_places(
        {k["semantic_id"]: k["xyz"] for k in r["keypoints"]} for r in records(Path(folder, "keypointnet"), category)
    )
    ours = mean_places(shape.keypoints for shape, _ in draw(category, 40))
    assert real.keys() <= ours.keys()
    # Averages over different shapes: right to a tenth or so of the diagonal, where a flipped axis or swapped
    # sides are off by 0.4 to 0.8.
    assert max(np.linalg.norm(ours[i] - real[i]) for i in real) < 0.2


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
            assert np.array_equal(np.float32(keypoint["xyz"]), points[index])
            assert keypoint["xyz"] == points[index].tolist()
            assert keypoint["rgb"] == colors[index].tolist()
            corners = mesh.vertices[mesh.faces[keypoint["mesh_info"]["face_index"]]]
            weights = np.array(keypoint["mesh_info"]["face_uv"])
            assert weights.min() >= 0
            assert weights.sum() == pytest.approx(1)
            assert weights @ corners == pytest.approx(np.array(keypoint["xyz"]), abs=1e-4)


@pytest.mark.parametrize("category", CATEGORIES)
def test_points_lie_on_the_outside_of_a_closed_mesh_of_unit_diagonal(category):
    for shape, cloud in draw(category, 6):
        mesh = shape.mesh
        assert mesh.is_watertight
        assert np.linalg.norm(mesh.extents) == pytest.approx(1)
        corners = shape.vertices[shape.faces[cloud.faces]]
        on_face = np.einsum("nk,nkd->nd", cloud.weights, corners)
        assert np.abs(on_face - cloud.points).max() < 1e-6
        assert cloud.weights.min() >= -1e-12
        # Every part's normals point outwards: its signed volume is positive.
        for part in range(len(shape.solids)):
            a, b, c = np.moveaxis(shape.vertices[shape.faces[shape.face_parts == part]], 1, 0)
            assert np.einsum("ij,ij->", a, np.cross(b, c)) > 0


def test_points_inside_another_part_are_dropped():
    # A swivel chair's column ends in the middle of the seat.
    shape, cloud = next(pair for pair in draw("chair", 20) if "star hub" in pair[0].names.values())
    seat = trimesh.Trimesh(shape.vertices, shape.faces[shape.face_parts == 0], process=False)

    def inside(points):
        # The seat is convex: inside is below every face, here by more than a hair.
        heights = ((points[:, None] - seat.triangles[:, 0]) * seat.face_normals).sum(axis=2)
        return heights.max(axis=1) < -1e-3

    assert inside(shape.vertices[np.unique(shape.faces[shape.face_parts != 0])]).any()
    assert not inside(cloud.points[shape.face_parts[cloud.faces] != 0]).any()


def test_two_rings_in_one_plane_bound_no_volume():
    square = np.array([(-1.0, 0, -1), (1, 0, -1), (1, 0, 1), (-1, 0, 1)])
    up, wide = np.array([0, 1, 0]), np.array([2, 1, 2])
    # A block 2 high with a rim on top that overhangs by 1 and is 1 high; a ring comes twice.
    levels = (square, square + 2 * up, square + 2 * up, square * wide + 2 * up, square * wide + 3 * up)
    points = np.array([(0, 1, 0), (1.5, 2.5, 0), (1.5, 1, 0), (0, -9, 0), (0, 9, 0)])
    for rings in (np.stack(levels), np.stack(levels)[::-1], np.stack(levels)[:, ::-1]):
        assert _inside(points, _cells(rings)).tolist() == [True, True, False, False, False]


def test_a_drain_shows_on_the_floor_of_a_tub():
    # The tub, part 0, encloses it; only the tub's wall may hide points of other parts.
    shape = next(shape for shape, _ in draw("bathtub", 20) if "drain" in shape.names.values())
    cloud = sample_shape(shape, 50000, np.random.default_rng(0))
    place = shape.keypoints[next(i for i, name in shape.names.items() if name == "drain")]
    near = np.linalg.norm(cloud.points - place, axis=1) < 0.01
    assert near.sum() > 5
    assert (shape.face_parts[cloud.faces[near]] != 0).all()


@pytest.mark.parametrize("category", CATEGORIES)
def test_keypoints_snap_within_a_spacing_or_two(category):
    ratios = []
    for shape, cloud in draw(category, 40):
        spacing = cKDTree(cloud.points).query(cloud.points, k=2)[0][:, 1].mean()
        ratios += [np.linalg.norm(cloud.points[row] - shape.keypoints[i]) / spacing for i, row in cloud.indexes.items()]
    # Points drawn by area are a Poisson process of density λ with mean spacing 1/(2 sqrt(λ)).
    # Around a place on a flat surface nothing lies within r spacings with probability exp(-π r² /
    # 4): 0.17 at 1.5, 0.04 at 2. At the corner of a box the surface is 3/4 of a disc: 0.27 and
    # 0.09. A landmark inside a solid would be at 5 or more.
    ratios = np.array(ratios)
    assert np.mean(ratios < 1.5) > 0.73
    assert np.mean(ratios < 2) > 0.9
    assert np.mean(ratios < 3) > 0.98
    assert ratios.max() < 6


@pytest.mark.parametrize("category", CATEGORIES)
def test_pairs_are_mirror_images_and_groups_are_rotations(category):
    num_pairs = 0
    for shape, cloud in draw(category, 40):
        spacing = cKDTree(cloud.points).query(cloud.points, k=2)[0][:, 1].mean()
        flip = np.ones(3)
        flip[shape.mirror_axis] = -1
        num_pairs += len(shape.pairs)
        for i, j in shape.pairs:
            assert shape.keypoints[i] * flip == pytest.approx(shape.keypoints[j], abs=1e-9)
            # Two snaps apart.
            clicked = [cloud.points[cloud.indexes[k]] for k in (i, j)]
            assert np.linalg.norm(clicked[0] * flip - clicked[1]) < 8 * spacing
        # A keypoint is in a pair, or lies on the plane: what mirroring in the loader relies on.
        paired = {k for pair in shape.pairs for k in pair}
        assert all(abs(p[shape.mirror_axis]) < 1e-9 for k, p in shape.keypoints.items() if k not in paired)
        for group, _ in shape.groups:
            angle = 2 * np.pi / len(group)
            places = np.array([shape.keypoints[k] for k in group])
            # The y axis runs through the center of the group; from -z back through -x: x' = x cos + z sin.
            middle = places.mean(axis=0)
            x, y, z = (places - middle).T
            turned = np.stack([x * np.cos(angle) + z * np.sin(angle), y, z * np.cos(angle) - x * np.sin(angle)], axis=1)
            assert turned == pytest.approx(np.roll(places - middle, -1, axis=0), abs=1e-9)
    assert num_pairs > 40


def test_names_and_sides_agree():
    for category in CATEGORIES:
        for shape, _ in draw(category, 10):
            for i, name in shape.names.items():
                x, _, z = shape.keypoints[i]
                assert "right" not in name or x > 0
                assert "left" not in name or x < 0
                if category == "table" and "front" in name:
                    assert z < 0


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


@pytest.mark.parametrize(
    ("category", "sometimes"),
    [
        ("car", ["roof back left", "rear window bottom left", "mirror left", "spoiler left"]),
        ("chair", ["arm front left", "foot front left", "star hub"]),
        ("guitar", ["upper bout left", "sound hole", "horn left", "neck pickup"]),
        ("helmet", ["temple left", "chin", "hinge left", "peak tip", "strap bottom", "ridge front"]),
        ("motorcycle", ["windshield top", "mirror left", "peg left", "exhaust end left", "pannier left"]),
        ("skateboard", ["bend front left", "bend back left", "corner back left", "rail front left"]),
        ("table", ["top front left", "rim front", "shelf front left", "foot front left", "base front"]),
        ("airplane", ["inner engine left", "outer engine left", "tail engine left"]),
        (
            "bathtub",
            ["outer rim left front", "inner rim left end", "base left front", "faucet tip", "drain"],
        ),
        ("bed", ["mattress front left", "headboard left", "post top front left", "ladder top left", "pillow middle"]),
        ("bottle", ["mouth front", "neck front", "cap top center", "spout tip", "handle top"]),
        ("cap", ["visor tip", "brim edge front", "crown edge front", "emblem", "buckle"]),
        ("knife", ["handle end top", "guard top", "front rivet left", "point shoulder"]),
        ("laptop", ["display top left", "touchpad front left", "hinge left", "camera", "stand left"]),
        ("mug", ["handle top joint", "handle bottom joint"]),
        ("vessel", ["main mast top", "fore mast top", "house front left", "funnel top", "gun muzzle", "oar tip left"]),
    ],
)
def test_optional_parts_make_keypoints_go_missing(category, sometimes):
    shapes = [make_shape(category, np.random.default_rng(i)) for i in range(80)]
    counts = Counter(name for shape in shapes for name in shape.names.values())
    for name in sometimes:
        assert 4 <= counts[name] <= 76, name
    assert counts.keys() == set(TABLE[category].names.values())
    extents = np.array([np.ptp(shape.vertices, axis=0) for shape in shapes])
    aspects = extents[:, :2] / extents[:, 2:]
    assert (aspects.max(axis=0) / aspects.min(axis=0)).min() > 1.4


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


def test_small_clouds_have_distinct_keypoints():
    for category in CATEGORIES:
        rng = np.random.default_rng(0)
        cloud = sample_shape(make_shape(category, rng), 256, rng)
        assert len(cloud.points) == 256
        assert len(set(cloud.indexes.values())) == len(cloud.indexes)


def test_unknown_category_and_too_few_points_without_files():
    with pytest.raises(ValueError, match="`category`"):
        make_shape("spoon", np.random.default_rng(0))
    with pytest.raises(ValueError, match="`num_points`"):
        sample_shape(make_shape("mug", np.random.default_rng(0)), 10, np.random.default_rng(0))
