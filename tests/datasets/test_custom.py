from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa.datasets import custom
from pcsa.datasets.custom import LabeledCloud, check_labeled, write_labeled
from pcsa.datasets.keypointnet import KeypointNet, check_root

# 3 x 3 points one apart: the spacing is exactly 1.
GRID = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0), [0.0]), -1).reshape(-1, 3)

UTM = np.array([500_000.0, 4_600_000.0, 300.0])


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def fish(n: int) -> list[tuple]:
    return [
        (GRID + i, [GRID[0] + i, GRID[5] + i], ["nose", "tail"]) if i % 2 else (GRID + i, [GRID[4] + i], ["fin"])
        for i in range(n)
    ]


def test_written_clouds_load(tmp_path: Path) -> None:
    clouds = fish(10)
    write_labeled(tmp_path, "fish", clouds, mirror_pairs=[("nose", "tail"), ("fin", "tail")])
    splits = {s: KeypointNet(tmp_path, "fish", s, strict=True) for s in ("train", "val", "test", "all")}
    # Shares of 0.8, 0.1, 0.1 of ten clouds.
    assert [len(splits[s]) for s in ("train", "val", "test", "all")] == [8, 1, 1, 10]
    assert check_root(tmp_path) == []
    for dataset in splits.values():
        assert dataset.names == ("fin", "nose", "tail")  # sorted, whatever occurs first
        assert dataset.semantic_ids == (0, 1, 2)
        for i, data in enumerate(dataset):
            number = int(data.model_id)
            points, keypoints, names = clouds[number]
            np.testing.assert_array_equal(data.pos.numpy(), points)
            assert data.visible[0].tolist() == [name in names for name in dataset.names]
            for name, keypoint in zip(names, keypoints, strict=True):
                np.testing.assert_array_equal(data.keypoints[0, dataset.names.index(name)].numpy(), keypoint)
            # Only the pair that the cloud has both ends of.
            assert dataset.symmetry(i).reflection == ([(1, 2)] if number % 2 else [])


def test_keypoints_snap_to_the_cloud(tmp_path: Path) -> None:
    write_labeled(tmp_path, "one", [(GRID, [[0.1, 0.2, 0.05]], ["a"], np.full((9, 3), 7), "my-cloud.1")])
    data = KeypointNet(tmp_path, "one", "train")[0]
    assert data.model_id == "my-cloud.1"
    assert data.keypoints.tolist() == [[[0.0, 0.0, 0.0]]]
    assert (data.color == 7).all()


def test_same_seed_same_bytes_and_other_categories_stay(tmp_path: Path) -> None:
    for name in "ab":
        write_labeled(tmp_path / name, "fish", fish(10), seed=3)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    write_labeled(tmp_path / "b", "fish_two", fish(4))
    write_labeled(tmp_path / "b", "fish", fish(10), seed=4, overwrite=True)
    assert len(KeypointNet(tmp_path / "b", "fish_two", "all", strict=True)) == 4
    assert contents(tmp_path / "a")["splits/val.txt"] != contents(tmp_path / "b")["splits/val.txt"]
    write_labeled(tmp_path / "b", "fish", fish(3), overwrite=True)
    assert len(list((tmp_path / "b" / "pcds" / "fish").iterdir())) == 3
    assert [len(KeypointNet(tmp_path / "b", "fish", s, strict=True)) for s in ("train", "val", "test")] == [
        1,
        1,
        1,
    ]
    assert check_root(tmp_path / "b") == []


def test_an_official_category_name_gets_its_class_id(tmp_path: Path) -> None:
    write_labeled(tmp_path, "mug", fish(3), names=["tail", "nose", "fin"], binary=True)
    dataset = KeypointNet(tmp_path, "mug", "all")
    assert dataset.class_id == "03797390"
    assert dataset.names == ("tail", "nose", "fin")


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ((GRID[:, :2], [], []), r"points.*\[9, 2\]"),
        ((np.zeros((0, 3)), [], []), "empty"),
        (("abc", [], []), "numbers"),
        ((GRID * np.nan, [], []), "9 points are not finite"),
        ((GRID, [[np.nan, 0, 0]], ["a"]), "1 keypoints are not finite"),
        ((GRID, [[0, 0]], ["a"]), r"keypoints.*\[1, 2\]"),
        ((GRID, [[0, 0, 0]], ["a", "b"]), "1 keypoints and 2 names"),
        ((GRID, [[0, 0, 0]] * 2, ["a", "a"]), "more than once: a"),
        ((GRID, [[0, 0, 0]], [""]), "non-empty"),
        ((GRID, [[0, 0, 3.5]], ["a"]), "'a' is 3.5 from the nearest point, more than 3"),
        ((GRID, [[0, 0, 0]], ["other"]), "not in `names`: other"),
        ((GRID, [[0, 0, 0]], ["a"], np.zeros((9, 3))), "integers"),
        ((GRID, [[0, 0, 0]], ["a"], np.zeros((8, 3), int)), "colors"),
        ((GRID, [[0, 0, 0]], ["a"], None, "../x"), "model_id"),
        ((GRID, [[0, 0, 0]], ["a"], None, "000000"), "that of item 0"),
        ((GRID, [[0, 0, 0]], ["a"], None, "x "), "model_id"),
        ((GRID, [[0, 0, 0]], "a"), r"`names` \(='a'\) must be a list of names"),
        ((GRID, [[0, 0, 0]], None), r"`names` \(=None\) must be a list of names"),
        ((GRID + 1j, [[0, 0, 0]], ["a"]), "numbers .*complex"),
        ((torch.ones(3, 3, requires_grad=True), [[0, 0, 0]], ["a"]), "numbers .*grad"),
        (((GRID + UTM).astype(np.float32), [UTM], ["a"]), "float32.* lie so far .* steps of 0.5, on a cloud of 2"),
        ((GRID + UTM, [UTM + np.array([0, 0, 5])], ["a"]), "'a' is 5 from the nearest point, more than 3"),
        ((GRID, [[0, 0, 0]]), "item 1 is not"),
        (5, "item 1 is not"),
        (..., "item 1 is not"),
    ],
)
def test_each_fault_is_named_and_nothing_is_written(tmp_path: Path, item: tuple, fault: str) -> None:
    good = (GRID, [GRID[0]], ["a"])
    faults = check_labeled([good, item], names=["a", "b", ""])
    assert len(faults) == 1
    assert faults[0].startswith("item 1")
    with pytest.raises(ValueError, match=fault):
        write_labeled(tmp_path / "root", "thing", [good, item], names=["a", "b", ""])
    assert not (tmp_path / "root").exists()


def test_all_faults_in_one_list() -> None:
    items = [LabeledCloud(GRID, [[9, 9, 9], [0, 0, 9]], ["a", "a"]), (GRID + np.inf, [], [])]
    faults = check_labeled(items)
    # Two far keypoints and a repeated name; infinite points.
    assert len(faults) == 4
    assert check_labeled([]) == ["no items"]
    with pytest.raises(ValueError, match=r"`items` \(NoneType\) must be a list"):
        check_labeled(None)
    assert check_labeled([(GRID, [], [])]) == ["no item has a keypoint"]


ECEF = np.array([4_027_893.75, 307_045.625, 4_919_474.875])


@pytest.mark.parametrize("offset", [UTM, ECEF])
@pytest.mark.parametrize("binary", [False, True])
def test_clouds_far_from_the_origin_keep_their_shape(tmp_path: Path, offset: np.ndarray, binary: bool) -> None:
    near = [np.random.default_rng(seed).random((500, 3)) for seed in range(3)]
    items = [(points + offset, points[[3, 77]] + offset + 1e-3, ["a", "b"]) for points in near]
    assert check_labeled(items) == []
    write_labeled(tmp_path, "scan", items, binary=binary)
    assert check_root(tmp_path) == []
    for data in KeypointNet(tmp_path, "scan", "all"):
        points = near[int(data.model_id)]
        np.testing.assert_allclose(data.pos.numpy() - offset, points, atol=1e-8)
        assert data.keypoint_index.tolist() == [[3, 77]]
        assert len(data.pos.unique(dim=0)) == 500


def test_a_keypoint_beside_a_far_cloud_is_found() -> None:
    points = np.random.default_rng(0).random((200, 3)) + UTM
    (fault,) = check_labeled([(points, [points[0] + np.array([0, 3, 0])], ["a"])])
    assert "keypoint 'a' is " in fault
    # So are those that float32 has moved.
    (fault,) = check_labeled([(points, points[:3].astype(np.float32), ["a", "b", "c"])])
    assert "`keypoints` (float32) lie so far from the origin that they come in steps of 0.5" in fault


def test_the_spacing_is_that_of_different_points() -> None:
    # Every point twice: a keypoint half a step off is still near.
    assert check_labeled([(np.repeat(GRID, 2, axis=0), [[0.5, 0, 0]], ["a"])]) == []


def test_names_with_spaces(tmp_path: Path) -> None:
    items = [(GRID, [GRID[i]], ["left hand"], None, name) for i, name in enumerate(["scan 1", "Scan.2 b", "c"])]
    write_labeled(tmp_path, "hand", items)
    write_labeled(tmp_path, "foot", items)
    write_labeled(tmp_path, "hand", items, seed=1, overwrite=True)
    assert check_root(tmp_path) == []
    for category in ("hand", "foot"):
        assert sorted(KeypointNet(tmp_path, category, "all", strict=True).model_ids) == ["Scan.2 b", "c", "scan 1"]


def test_broken_annotations_are_replaced_or_named(tmp_path: Path) -> None:
    write_labeled(tmp_path, "fish", fish(3))
    path = tmp_path / "annotations" / "fish.json"
    path.write_text('[{"model_id": "000002"}]')
    write_labeled(tmp_path, "fish", fish(3), overwrite=True)
    assert check_root(tmp_path) == []
    path.write_text("text")
    with pytest.raises(ValueError, match=r"fish\.json`: not a JSON file"):
        write_labeled(tmp_path, "fish", fish(3), overwrite=True)


def test_one_point_and_equal_points_are_valid() -> None:
    assert check_labeled([([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]], ["a"])]) == []
    assert check_labeled([([[1.0, 2.0, 3.0]] * 4, [[1.0, 2.0, 3.0]], ["a"])]) == []
    assert len(check_labeled([([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.1]], ["a"])])) == 1


def test_bad_arguments(tmp_path: Path) -> None:
    for options, rule in [
        ({"category": "a/b"}, "category"),
        ({"category": "a-b"}, "category"),
        ({"fractions": (0.5, 0.2, 0.2)}, "fractions"),
        ({"fractions": (0.0, 0.5, 0.5)}, "fractions"),
        ({"names": ["fin", "nose", "tail", "fin"]}, "names"),
        ({"mirror_pairs": [("fin", "leg")]}, "leg"),
        ({"mirror_pairs": [("fin",)]}, r"mirror_pairs.*\('fin',\)"),
        ({"mirror_pairs": [("fin", "fin")]}, "mirror_pairs"),
        ({"seed": -1}, r"`seed` \(=-1\)"),
    ]:
        with pytest.raises(ValueError, match=rule):
            write_labeled(tmp_path / "root", **{"category": "fish", "items": fish(2), **options})
        assert not (tmp_path / "root").exists()
    write_labeled(tmp_path / "root", "fish", fish(2))
    with pytest.raises(FileExistsError, match=r"fish\.json"):
        write_labeled(tmp_path / "root", "fish", fish(2))


def test_what_goes_wrong_while_writing_leaves_the_old_clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_labeled(tmp_path, "fish", fish(4))
    before = contents(tmp_path)

    def fails(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(custom, "write_pcd", fails)
    with pytest.raises(OSError, match="disk full"):
        write_labeled(tmp_path, "fish", fish(2), overwrite=True)
    assert contents(tmp_path) == before


def test_the_british_spelling_works() -> None:
    assert custom.check_labelled is check_labeled
    assert custom.write_labelled is write_labeled


def test_masked_values_are_refused() -> None:
    points = np.random.default_rng(0).random((20, 3))
    hidden = np.ma.masked_less(points, 0.1)
    assert "values are masked" in "\n".join(check_labeled([(hidden, points[:1], ["tip"])]))
    assert check_labeled([(np.ma.masked_less(points, -1), points[:1], ["tip"])]) == []
