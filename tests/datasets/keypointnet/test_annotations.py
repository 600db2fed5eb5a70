import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcsa.datasets.keypointnet import CLASS_IDS, KeypointNet, check_root
from pcsa.datasets.keypointnet.annotations import Record, cloud_faults, read_records

BED = CLASS_IDS["bed"]
UTM = np.array([500_000.0, 4_600_000.0, 300.0])


def first(record: Any) -> Any:
    return record["keypoints"][0]


CHANGES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda r: r.pop("keypoints"), "`keypoints` is missing"),
    (lambda r: r.pop("class_id"), "`class_id` is missing"),
    (lambda r: r.update(class_id=None), "`class_id` (=null) must be a name"),
    (lambda r: r.update(class_id=" "), '`class_id` (=" ") must be a name'),
    (lambda r: r.update(keypoints={}), "`keypoints` (={}) must be a list"),
    (lambda r: r["keypoints"].insert(0, 7), "keypoint 0 (=7) must be an object"),
    (lambda r: first(r).pop("semantic_id"), "keypoint 0: `semantic_id` is missing"),
    (lambda r: first(r).update(semantic_id=True), "keypoint 0: `semantic_id` (=true) must be a whole number"),
    (lambda r: first(r).update(semantic_id=1.5), "keypoint 0: `semantic_id` (=1.5) must be a whole number"),
    (lambda r: first(r).update(semantic_id=10**30), f"keypoint 0: `semantic_id` (={10**30}) must be a whole number"),
    (lambda r: first(r).update(semantic_id=1e30), "keypoint 0: `semantic_id` (=1e+30) must be a whole number"),
    (lambda r: first(r).update(semantic_id="leg"), 'keypoint 0: `semantic_id` (="leg") must be a whole number'),
    (lambda r: first(r).pop("pcd_info"), "keypoint 0: `pcd_info` is missing"),
    (lambda r: first(r).update(pcd_info=3), "keypoint 0: `pcd_info` (=3) must be an object with `point_index`"),
    (lambda r: first(r).update(pcd_info={}), "keypoint 0: `point_index` is missing"),
    (
        lambda r: first(r).update(pcd_info={"point_index": float("nan")}),
        "keypoint 0: `point_index` (=NaN) must be a whole number",
    ),
    (lambda r: first(r).pop("xyz"), "keypoint 0: `xyz` is missing"),
    (lambda r: first(r).update(xyz=[1, 2]), "keypoint 0: `xyz` (=[1, 2]) must be three numbers"),
    (lambda r: first(r).update(xyz=[1, 2, None]), "keypoint 0: `xyz` (=[1, 2, null]) must be three numbers"),
    (lambda r: first(r).update(xyz="1 2 3"), 'keypoint 0: `xyz` (="1 2 3") must be three numbers'),
    (lambda r: r.update(symmetries=[1]), "`symmetries` (=[1]) must be an object with `rotation` and `reflection`"),
    (lambda r: r["symmetries"].update(rotation=[{}]), "rotation 0: `kp_indexes` is missing"),
    (lambda r: r["symmetries"].update(reflection=[[0, 1]]), "reflection 0 (=[0, 1]) must be an object"),
    (
        lambda r: r["symmetries"].update(reflection=[{"kp_indexes": [0, "a"]}]),
        'reflection 0: `kp_indexes` (="a") must be a whole number',
    ),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_what_is_wrong_with_a_record_is_a_sentence(root: Path, change: Callable, message: str, edit: Callable) -> None:
    edit(root, lambda records: change(records[1]))
    with pytest.raises(ValueError) as error:  # noqa: PT011  the text is compared below
        KeypointNet(root, "bed", "train")
    assert f"bed.json`: record 1 (model bb): {message}" in str(error.value)
    assert any(str(p).startswith(f"annotations/bed.json: record 1 (model bb): {message}") for p in check_root(root))


def test_records_without_a_name_have_a_number(root: Path, edit: Callable) -> None:
    edit(root, lambda records: (records[0].pop("model_id"), records.insert(1, "text")))
    _, faults = read_records(root / "annotations" / "bed.json")
    assert faults == [
        "record 0: `model_id` is missing",
        'record 1: the annotation (="text") must be an object with `class_id`, `model_id` and `keypoints`',
    ]


def test_numbers_as_other_tools_write_them(root: Path, edit: Callable) -> None:
    before = KeypointNet(root, "bed", "train")
    edit(root, lambda records: first(records[0]).update(semantic_id="9", pcd_info={"point_index": 4.0}))
    after = KeypointNet(root, "bed", "train")
    assert after.semantic_ids == before.semantic_ids
    assert after[0].keypoint_index.tolist() == before[0].keypoint_index.tolist()


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[]", '{"keypoints": []}', "[" * 100_000])
def test_what_is_no_list_of_annotations(root: Path, text: str) -> None:
    path = root / "annotations" / "bed.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^`.*bed\.json`: (not a JSON file|must be a list|cannot be read as)"):
        KeypointNet(root, "bed", "train")
    assert any(p.path == "annotations/bed.json" for p in check_root(root))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_of_json(root: Path, encoding: str) -> None:
    path = root / "annotations" / "bed.json"
    path.write_text(path.read_text(), encoding=encoding)
    assert len(KeypointNet(root, "bed", "train")) == 2


def record(points: np.ndarray, index: int) -> Record:
    return Record(BED, "x", [7], [index], points[[index]].astype(np.float64), [None], [], [])


@pytest.mark.parametrize("offset", [0.0, 1e3, UTM, -UTM[::-1]])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_a_keypoint_off_its_point_is_found_wherever_the_cloud_lies(offset: Any, size: float) -> None:
    points = np.random.default_rng(0).random((50, 3)) * size + offset
    good = record(points, 3)
    assert list(cloud_faults(good, points)) == []
    # As far as the release's own rounding.
    assert list(cloud_faults(good._replace(xyz=good.xyz + 5e-7 * size), points)) == []
    (fault,) = cloud_faults(good._replace(xyz=good.xyz + np.array([0, 3 * size, 0])), points)
    assert fault == f"`xyz` of keypoint 7 is not that of point 3, but {3 * size:.4g} away"
    assert list(cloud_faults(good._replace(xyz=good.xyz + np.array([0, 1e-4 * size, 0])), points))
    assert list(cloud_faults(good._replace(point_index=[4]), points))


def test_a_cloud_that_float32_has_coarsened_and_its_unrounded_annotation() -> None:
    points = np.random.default_rng(0).random((50, 3)) + np.array([0, 1000, 0])
    coarse = points.astype(np.float32)  # steps of 6e-5 on a cloud of 1
    assert list(cloud_faults(record(points, 3), coarse)) == []
    assert list(cloud_faults(record(points, 3)._replace(point_index=[4]), coarse))


def test_the_release_has_one_annotation_per_line_or_not(root: Path) -> None:
    path = root / "annotations" / "bed.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    assert KeypointNet(root, "bed", "train").class_id == BED
