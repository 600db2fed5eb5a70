import json
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.keypointnet import KeypointNet, check_root
from pcsa.datasets.landmark_files import Landmarks, write_landmarks
from pcsa.datasets.landmark_import.build import ImportOptions, import_landmarks

NAMES = ["nose", "tail", "fin"]
# A tetrahedron that is not symmetric, away from the origin as scans are.
CORNERS = np.array([[10.0, 20, 30], [18, 20, 30], [10, 26, 30], [10, 20, 40]])
FACES = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]
MARKS = np.array([[12.0, 20, 33], [10, 22, 32], [11, 21, 30]])  # each on a side


def write_mesh(path: Path, corners: np.ndarray = CORNERS, comment: str = "") -> None:
    rows = [f"v {' '.join(map(repr, row))}" for row in corners.tolist()] + [
        f"f {a + 1} {b + 1} {c + 1}" for a, b, c in FACES
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# {comment}\n" + "\n".join(rows) + "\n")


def folders(tmp_path: Path, count: int = 3, **about: object) -> tuple[Path, Path, Path]:
    """Scans a, b, c, …, each moved and with its landmarks."""
    scans, marks = tmp_path / "scans", tmp_path / "marks"
    for i in range(count):
        write_mesh(scans / f"{'abcdefgh'[i]}.obj", CORNERS + i)
        write_landmarks(marks / f"{'abcdefgh'[i]}.mrk.json", Landmarks(NAMES, MARKS + i, **about))  # type: ignore[arg-type]
    return scans, marks, tmp_path / "root"


def test_landmarks_keep_their_place(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path)
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=300))
    assert list(found.marked) == ["a", "b", "c"]
    assert found.names == NAMES
    assert (found.failed, found.pairs.without_scan, found.pairs.without_landmarks) == ({}, [], [])
    # A list of Slicer is in LPS even where it does not say so.
    assert found.assumed[0] == "the scans do not name their frame: they are taken for LPS, as the others are"
    for distance in found.distance.values():
        np.testing.assert_allclose(distance, 0, atol=1e-9)
    assert check_root(root) == []
    dataset = KeypointNet(root, "root", "all")
    assert dataset.names == tuple(NAMES)
    for item in dataset:
        moved = MARKS + "abc".index(item.model_id)
        np.testing.assert_allclose(item.keypoints[0].numpy(), moved, rtol=1e-6)
        assert len(item.pos) == 300
        # The nearest point of the sample is another place.
        nearest = np.linalg.norm(item.pos.numpy()[:, None] - moved, axis=2)
        np.testing.assert_array_equal(item.keypoint_index[0].numpy(), nearest.argmin(0))
        assert nearest.min(0).max() > 0.01


def test_landmarks_on_points(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path)
    import_landmarks(scans, marks, root, ImportOptions(num_points=300, snap=True, category="tetra"))
    item = KeypointNet(root, "tetra", "train")[0]
    np.testing.assert_array_equal(item.keypoints[0].numpy(), item.pos[item.keypoint_index[0]].numpy())


@pytest.mark.parametrize("marks", ["mean", "all"])
def test_raters_and_what_they_left_out(tmp_path: Path, marks: str) -> None:
    scans, folder, root = folders(tmp_path, count=2)
    write_landmarks(folder / "a_2.csv", Landmarks(NAMES, [*(MARKS[:2] + 0.1), [np.nan] * 3]))
    write_landmarks(folder / "a_3.csv", Landmarks(["fin", "eye"], [MARKS[2] + 0.3, MARKS[0]]))
    found = import_landmarks(scans, folder, root, ImportOptions(num_points=100, marks=marks, fractions=(1, 0, 0)))  # type: ignore[arg-type]
    assert [len(m) for m in found.marked["a"].marks] == [2, 2, 2, 1]
    dataset = KeypointNet(root, "root", "train")
    assert dataset.names == ("nose", "tail", "fin", "eye")
    a = dataset[dataset.model_ids.index("a")]
    np.testing.assert_allclose(a.keypoints[0, :3].numpy(), MARKS + [[0.05], [0.05], [0.15]], rtol=1e-6)
    b = dataset[dataset.model_ids.index("b")]
    assert b.visible[0].tolist() == [True, True, True, False]
    if marks == "mean":
        assert "marks" not in a
        return
    assert a.marks.shape == (1, 4, 2, 3)
    assert a.marked[0].tolist() == [[True, True]] * 3 + [[True, False]]
    np.testing.assert_allclose(a.marks[0, 1].numpy(), [MARKS[1], MARKS[1] + 0.1], rtol=1e-6)
    assert b.marked[0].tolist() == [[True, False]] * 3 + [[False, False]]
    assert (b.marks[0, 3] == 0).all()


@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_frames_that_files_name(tmp_path: Path, space: str) -> None:
    scans, marks, root = folders(tmp_path, count=1)
    write_mesh(scans / "a.obj", CORNERS * ([1, 1, 1] if space == "LPS" else [-1, -1, 1]), f"SPACE={space}")
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50))
    assert not [text for text in found.assumed if "frame" in text]
    np.testing.assert_allclose(found.distance["a"], 0, atol=1e-9)


def test_a_wrong_frame_is_refused_and_the_right_one_named(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path)
    for file in scans.iterdir():
        write_mesh(file, (CORNERS + "abc".index(file.stem)) * [-1, -1, 1])
    with pytest.raises(ValueError, match=r"would lie .* from it with --frame RAS"):
        import_landmarks(scans, marks, root, ImportOptions(num_points=50))
    assert not root.exists()
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50, frame="RAS"))
    np.testing.assert_allclose(found.distance["a"], 0, atol=1e-9)
    for file in marks.iterdir():
        (one,) = [Landmarks(NAMES, MARKS + "abc".index(file.name[0]))]
        write_landmarks(file.with_suffix("").with_suffix(".pp"), one)
        file.unlink()
    with pytest.raises(ValueError, match="with --frame LPS --landmark-frame RAS"):
        import_landmarks(scans, marks, root, ImportOptions(num_points=50, overwrite=True))
    options = ImportOptions(num_points=50, overwrite=True, frame="LPS", landmark_frame="RAS")
    assert len(import_landmarks(scans, marks, root, options).marked) == 3


def test_units(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path, units="cm")
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50))
    assert "the scans do not name their units: they are taken for cm" in found.assumed[1]
    for file in scans.iterdir():
        write_mesh(file, (CORNERS + "abc".index(file.stem)) * 10)
    with pytest.raises(ValueError, match="10 times larger: say --units and --landmark-units"):
        import_landmarks(scans, marks, root, ImportOptions(num_points=50, overwrite=True))
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50, overwrite=True, units="millimeters"))
    np.testing.assert_allclose(found.distance["a"], 0, atol=1e-9)
    item = KeypointNet(root, "root", "all")[0]
    expected = (MARKS + "abc".index(item.model_id)) * 10
    np.testing.assert_allclose(item.keypoints[0].numpy(), expected, rtol=1e-6)


def test_landmarks_of_another_scan_are_refused(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path)
    write_landmarks(marks / "b.mrk.json", Landmarks(NAMES, MARKS * 7 + 200))
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50))
    assert list(found.failed) == ["b"]
    assert "in no frame of LPS and RAS and in no units" in found.failed["b"]
    assert f"`{marks}/b.mrk.json` on `{scans}/b.obj`: the landmarks lie" in found.failed["b"]
    assert sorted(KeypointNet(root, "root", "all").model_ids) == ["a", "c"]


def test_a_largest_distance(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path)
    write_landmarks(marks / "b.mrk.json", Landmarks(NAMES, [*(MARKS[:2] + 1), MARKS[2] + 1 - [0, 0, 0.5]]))
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50, max_distance=0.4))
    assert found.failed == {"b": f"`{scans}/b.obj`: landmarks are farther than 0.4 from the surface: 'fin' 0.5"}
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50, max_distance=0.6, overwrite=True))
    np.testing.assert_allclose(found.distance["b"], [0, 0, 0.5], atol=1e-9)


def test_one_table_of_all_scans(tmp_path: Path) -> None:
    scans, _, root = folders(tmp_path)
    table = tmp_path / "all.csv"
    write_landmarks(table, [Landmarks(NAMES, MARKS + i, scan=("x/a.OBJ", "b", "c.obj")[i]) for i in range(3)])
    found = import_landmarks(scans, table, root, ImportOptions(num_points=50))
    assert list(found.marked) == ["a", "b", "c"]
    assert found.assumed[0] == "neither scans nor landmarks name their frame: it is taken for the same"


def test_what_has_no_partner_is_told(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path)
    write_mesh(scans / "d.obj")
    write_landmarks(marks / "q.pp", Landmarks(NAMES, MARKS))
    (marks / "c.fcsv").write_text("nonsense")
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50))
    assert found.pairs.without_landmarks == ["d"]
    assert found.pairs.without_scan == ["q"]
    assert list(found.failed) == ["c.fcsv"]
    with pytest.raises(ValueError, match=r"c\.fcsv.*must name its version"):
        import_landmarks(scans, marks, root, ImportOptions(num_points=50, overwrite=True, strict=True))


def test_what_is_ambiguous_is_refused(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path)
    write_mesh(scans / "sub" / "a.obj")
    with pytest.raises(ValueError, match="must have different names"):
        import_landmarks(scans, marks, root, ImportOptions(recursive=True))
    write_mesh(scans / "A.obj")
    write_mesh(scans / "Q.obj")
    write_mesh(scans / "q.obj")
    if len(list(scans.glob("[qQ].obj"))) == 2:  # the file system tells them apart
        write_landmarks(marks / "q_1.pp", Landmarks(NAMES, MARKS))
        (scans / "Q.obj").rename(scans / "Q1.obj")
        (scans / "q.obj").rename(scans / "q1.obj")
        (marks / "q_1.pp").rename(marks / "q1_x.pp")
        assert import_landmarks(scans, marks, root, ImportOptions(num_points=50)).pairs.ambiguous == {}
        (marks / "q1_x.pp").rename(marks / "Q1_x.PP")
        (scans / "Q1.obj").rename(scans / "QX.obj")
        (scans / "q1.obj").rename(scans / "qX.obj")
        (marks / "Q1_x.PP").rename(marks / "qx.pp")
        with pytest.raises(ValueError, match="must belong to one scan each: 'qx' of 'QX' or 'qX'"):
            import_landmarks(scans, marks, root, ImportOptions(num_points=50, overwrite=True))


def test_splits_groups_and_samples(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path, count=6)
    options = ImportOptions(num_points=40, samples=3, val=("b",), test=("e", "f"), up="z", mirror=("nose = tail",))
    import_landmarks(scans, marks, root, options)
    parts = {split: KeypointNet(root, "root", split) for split in ("train", "val", "test")}
    assert parts["val"].model_ids == ["b.0", "b.1", "b.2"]
    assert len(parts["train"]) == 9
    assert parts["test"].groups["e.1"] == "e"
    assert parts["val"].up == "z"
    assert parts["val"].symmetry(0).reflection == [(0, 1)]
    assert not (parts["val"][0].pos == parts["val"][1].pos).all()
    group = ImportOptions(num_points=40, group="^[abc]|^[def]", fractions=(0.5, 0.5, 0), overwrite=True)
    import_landmarks(scans, marks, root, group)
    # Each letter is alone: only what matches alike stays together.
    assert KeypointNet(root, "root", "train").groups == {}
    for file in [*scans.iterdir(), *marks.iterdir()]:
        file.rename(file.with_name(f"{'x' if file.name[0] in 'abc' else 'y'}_{file.name}"))
    import_landmarks(
        scans, marks, root, ImportOptions(num_points=40, group="^(.)_", fractions=(0.5, 0.5, 0), overwrite=True)
    )
    for split in ("train", "val"):
        assert len({name[0] for name in KeypointNet(root, "root", split).model_ids}) == 1


def test_vertices_that_are_not_finite(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path)
    text = (scans / "b.obj").read_text()
    (scans / "b.obj").write_text(text + "v nan 0 0\nf 1 2 5\n")
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50))
    assert "vertex 4 must be finite: 1 of 5 vertices are not, 1 faces use them (`drop_invalid`" in found.failed["b"]
    found = import_landmarks(scans, marks, root, ImportOptions(num_points=50, drop_invalid=True, overwrite=True))
    assert found.marked["b"].scan.num_dropped == 1
    np.testing.assert_allclose(found.distance["b"], 0, atol=1e-9)


def test_scans_that_are_clouds(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name, points in (("a", CORNERS), ("b", CORNERS + 1)):
        np.savetxt(tmp_path / f"{name}.xyz", np.concatenate([points, points + 0.5]))
        write_landmarks(tmp_path / f"{name}.csv", Landmarks(["x"], points[:1] + [0.1, 0, 0]))
    # Tables beside scans are landmarks.
    found = import_landmarks(tmp_path, tmp_path, root, ImportOptions(fractions=(1, 0, 0)))
    np.testing.assert_allclose(found.distance["a"], 0.1)
    item = KeypointNet(root, "root", "train")[0]
    assert len(item.pos) == 8
    np.testing.assert_allclose(item.keypoints[0].numpy(), CORNERS[:1] + [0.1, 0, 0], rtol=1e-6)


def test_some_points_of_a_cloud(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    np.savetxt(tmp_path / "a.xyz", points)
    write_landmarks(tmp_path / "a.csv", Landmarks(["x"], points[:1]))
    options = ImportOptions(cloud_points=20, samples=2, fractions=(1, 0, 0), category="c")
    import_landmarks(tmp_path, tmp_path, tmp_path / "root", options)
    first, second = KeypointNet(tmp_path / "root", "c", "train")
    for item in (first, second):
        assert len(np.unique(item.pos.numpy(), axis=0)) == 20
        assert (np.linalg.norm(item.pos.numpy()[:, None] - points, axis=2).min(1) < 1e-6).all()
        np.testing.assert_allclose(item.keypoints[0].numpy(), points[:1], rtol=1e-6)
    assert not (first.pos == second.pos).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_points": 0}, r"`num_points` \(=0\)"),
        ({"up": "Z"}, r"`up` \(='Z'\)"),
        ({"units": "ell"}, r"`units` \(='ell'\)"),
        ({"frame": "lps"}, r"`frame` \(='lps'\)"),
        ({"group": "("}, r"`group` \(='\('\) must be a regular expression"),
        ({"mirror": ("a",)}, r"`mirror` \(has 'a'\) must be pairs"),
        ({"marks": "some"}, r"`marks` \(='some'\)"),
        ({"max_distance": -1.0}, r"`max_distance` \(=-1.0\)"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImportOptions(**options)


def test_names_of_scans_in_options(tmp_path: Path) -> None:
    scans, marks, root = folders(tmp_path)
    for options, message in (
        ({"val": ("q",)}, r"`val` \(has 'q'\) must name scans with landmarks, such as a, b, c"),
        ({"val": ("a",), "test": ("a",)}, "must not name a scan twice"),
        ({"group": "x"}, "must match the name of every scan, not 'a'"),
    ):
        with pytest.raises(ValueError, match=message):
            import_landmarks(scans, marks, root, ImportOptions(num_points=20, **options))  # type: ignore[arg-type]
    assert not (root / "annotations").exists()


def test_published_skulls(real_data: Path, tmp_path: Path) -> None:
    """One of the two has vertices that are not finite."""
    folder = real_data / "landmarks" / "skull_originals"
    found = import_landmarks(folder, folder, tmp_path / "skulls", ImportOptions(units="mm", up="none"))
    assert found.assumed == []
    assert list(found.marked) == ["A_J"]
    assert "2 of 69043 vertices are not" in found.failed["WSB"]
    # Their own authors placed them within 0.17 mm.
    assert found.distance["A_J"].max() < 0.17
    record = json.loads((tmp_path / "skulls" / "annotations" / "skulls.json").read_text())[0]
    assert len(record["keypoints"]) == 51
