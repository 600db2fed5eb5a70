"""Files of other tools than COCO's: what of them is right, and what is refused, by its field."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcsa.metrics import coco_average_precision
from pcsa.metrics.coco_file import num_labeled, read_json, scored


def file(pictures: int = 8, persons: int = 3) -> dict[str, Any]:
    """A file with the ids that COCO's own have: from 1 on, each once."""
    rng = np.random.default_rng(0)
    annotations = []
    for i in range(pictures):
        for p in range(persons):
            x, y = rng.uniform(0, 90, (2, 17)).round() + np.array([[200 * p], [100]])
            keypoints = np.stack([x, y, rng.integers(1, 3, 17)], 1).flatten().tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "area": 6000.0}
                | {"bbox": [200.0 * p, 100.0, 90.0, 90.0], "keypoints": keypoints, "num_keypoints": 17}
            )
    return {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "width": 640, "height": 480} for i in range(pictures)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": annotations,
    }


def found(content: dict[str, Any], shift: float = 0.0) -> list[dict[str, Any]]:
    """The labeled persons, ``shift`` pixels to the right."""
    results = []
    for annotation in content["annotations"]:
        if annotation.get("keypoints") and num_labeled(annotation) and not annotation.get("iscrowd"):
            joints = np.reshape(annotation["keypoints"], (-1, 3)) + np.array([shift, 0, 0])
            result = {name: annotation[name] for name in ("image_id", "category_id")}
            results.append(result | {"keypoints": joints.flatten().tolist(), "score": 0.5 + len(results) / 1000})
    return results


def from_zero(content: dict[str, Any]) -> None:
    for i, annotation in enumerate(content["annotations"]):
        annotation["id"] = i


def per_picture(content: dict[str, Any]) -> None:
    for i, annotation in enumerate(content["annotations"]):
        annotation["id"] = i % 3 + 1


def repeated(content: dict[str, Any]) -> None:
    for annotation in content["annotations"]:
        annotation["id"] = 7


def texts(content: dict[str, Any]) -> None:
    for i, annotation in enumerate(content["annotations"]):
        annotation.update(id=f"a{i}", image_id=f"frame {annotation['image_id']:02d}")
    for image in content["images"]:
        image["id"] = f"frame {image['id']:02d}"


def zeros(content: dict[str, Any]) -> None:
    from_zero(content)
    content["categories"][0]["id"] = 0
    for annotation in content["annotations"]:
        annotation.update(category_id=0, image_id=annotation["image_id"] - 1)
    for image in content["images"]:
        image["id"] -= 1


def large(content: dict[str, Any]) -> None:
    for entry in (*content["annotations"], *content["images"]):
        entry["id"] += 2**62
    for annotation in content["annotations"]:
        annotation["image_id"] += 2**62


def no_crowd(content: dict[str, Any]) -> None:
    for i, annotation in enumerate(content["annotations"]):
        del annotation["iscrowd"]
        if i % 2:
            annotation["iscrowd"] = False


def no_number(content: dict[str, Any]) -> None:
    """Without num_keypoints, or with 0, for which pycocotools leaves a person out."""
    for i, annotation in enumerate(content["annotations"]):
        del annotation["num_keypoints"]
        if i % 2:
            annotation["num_keypoints"] = 0


def things(content: dict[str, Any]) -> None:
    """Objects of the persons' category without keypoints, and of another one without anything else."""
    for i in range(8):
        thing = {"id": 100 + i, "image_id": i + 1, "category_id": 1, "num_keypoints": 17}
        content["annotations"] += [thing, thing | {"bbox": [0, 0, 9, 9], "area": 81, "keypoints": []}]
        content["annotations"].append({"id": 200 + i, "image_id": i + 1, "category_id": 2})
    content["categories"].append({"id": 2, "name": "ball"})


def elsewhere(content: dict[str, Any]) -> None:
    """Persons of pictures and of a category that the file does not have: not every list was cut to the subset."""
    one = content["annotations"][0]
    content["annotations"] += [one | {"image_id": 99}, one | {"category_id": 99}]


ODD = [from_zero, per_picture, repeated, texts, zeros, large, no_crowd, no_number, things, elsewhere]


@pytest.mark.parametrize("change", ODD)
def test_scores_do_not_hang_on_how_a_file_counts(change: Callable[[dict[str, Any]], None]) -> None:
    plain, odd = file(), file()
    shifted = coco_average_precision(plain, found(plain, 4.0))
    change(odd)
    untouched = json.dumps(odd)
    perfect = coco_average_precision(odd, found(odd)[:24])
    assert perfect["AP"] == perfect["AR"] == perfect["APM"] == 1.0
    assert 0.3 < shifted["AP"] < 0.9
    assert coco_average_precision(odd, found(odd, 4.0)[:24]) == shifted
    assert json.dumps(odd) == untouched


def test_what_is_found_where_nobody_is_labeled_does_not_count() -> None:
    content = file()
    results = found(content)
    # The first person of every picture loses the labels, in one of COCO's ways or another's.
    for i, annotation in enumerate(content["annotations"][::3]):
        if i % 2:
            annotation.update(keypoints=[0] * 51, num_keypoints=0)
        else:
            del annotation["keypoints"]
    assert coco_average_precision(content, results)["AP"] == 1.0
    # Nobody is there at all: what is found there is wrong.
    content["annotations"] = [a for i, a in enumerate(content["annotations"]) if i % 3]
    assert coco_average_precision(content, results)["AP"] < 0.9


def test_fields_of_results_that_are_not_asked_for_change_nothing() -> None:
    content = file()
    results = found(content, 4.0)
    plain = coco_average_precision(content, results)
    results[0] = results[0] | {"bbox": [0, 0, 1, 1], "segmentation": [], "caption": "x", "area": 1}
    results[1] = results[1] | {"keypoints": np.array(results[1]["keypoints"], np.float64), "score": np.float64(0.501)}
    assert coco_average_precision(content, results) == plain


def test_what_pycocotools_gets() -> None:
    content = file(1, 2)
    content["annotations"][0].update(id="x", iscrowd=True, num_keypoints=3)
    first, second = scored(content, 17)["annotations"]
    assert (first["id"], first["iscrowd"], first["num_keypoints"]) == (1, 1, 17)
    assert (second["id"], second["iscrowd"]) == (2, 0)
    assert scored(content, 17)["images"] is content["images"]


def changed(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["annotations"][4].update(changes)


def joint(place: int, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["annotations"][4]["keypoints"].__setitem__(place, value)


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["annotations"][4].pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("id"), r"annotations[4]: `id` (missing) must be a whole number or a text"),
        (without("image_id"), r"annotations[4] (id 5): `image_id` (missing) must be"),
        (without("category_id"), r"annotations[4] (id 5): `category_id` (missing) must be"),
        (without("bbox"), r"annotations[4] (id 5): `bbox` (missing) must be [x, y, width, height]"),
        (without("area"), r"annotations[4] (id 5): `area` (missing) must be the area of the mask"),
        (changed(id=None), r"annotations[4] (id None): `id` (=None) must be"),
        (changed(id=True), r"annotations[4] (id True): `id` (=True) must be"),
        (changed(image_id=1.5), r"`image_id` (=1.5) must be"),
        (changed(image_id="2"), r"annotations[4] (id 5): `image_id` (='2') must be a whole number: images[0] has 1"),
        (changed(image_id=[1]), r"`image_id` (=[1]) must be"),
        (changed(bbox=[0, 0, -1, 5]), r"annotations[4] (id 5): `bbox` (=[0, 0, -1, 5]) must be"),
        (changed(bbox=[0, 0, float("nan"), 5]), r"`bbox` (=[0, 0, nan, 5]) must be"),
        (changed(bbox=[0, 0, 5]), r"`bbox` (=[0, 0, 5]) must be"),
        (changed(bbox=["0", 0, 5, 5]), r"`bbox` (=['0', 0, 5, 5]) must be"),
        (changed(bbox=None), r"`bbox` (=None) must be"),
        (changed(area="90"), r"`area` (='90') must be"),
        (changed(area=float("inf")), r"`area` (=inf) must be"),
        (changed(area=-1), r"`area` (=-1) must be"),
        (changed(area=0), r"`area` (=0) must be the area of the mask in square pixels, above 0"),
        (changed(iscrowd="0"), r"annotations[4] (id 5): `iscrowd` (='0') must be 0 or 1"),
        (changed(iscrowd=2), r"`iscrowd` (=2) must be 0 or 1"),
        (changed(keypoints=None), r"`keypoints` (=None) must be 51 finite numbers"),
        (changed(keypoints={"nose": 1}), r"`keypoints` (={'nose': 1}) must be 51 finite numbers"),
        (changed(keypoints=[1, 2, 2] * 14), r"`keypoints` (42 numbers) must be 51 finite numbers, x, y, v of each of"),
        (joint(3, "7"), r"`keypoints[3]` (='7') must be 51 finite numbers"),
        (joint(3, True), r"`keypoints[3]` (=True) must be 51 finite numbers"),
        (joint(3, None), r"`keypoints[3]` (=None) must be 51 finite numbers"),
        (joint(3, float("nan")), r"`keypoints[3]` (=nan) must be 51 finite numbers"),
        (joint(3, 10**400), r"must be 51 finite numbers"),
        (joint(5, 3), r"`keypoints[5]` (=3) must be 0 (not labeled), 1 (covered) or 2 (visible)"),
        (joint(5, 0.9), r"`keypoints[5]` (=0.9) must be 0"),
        (lambda c: c["annotations"].append(5), r"annotations[24]: `5` must be an object with id, image_id"),
        (lambda c: c["images"].append({}), r"images[8]: `id` (missing) must be"),
        (lambda c: c["images"].append({"id": 3}), r"images[8]: `id` (=3) must be of one entry alone, images[2] has it"),
        (lambda c: c["categories"].append({"id": 1}), r"categories[1]: `id` (=1) must be of one entry alone"),
        (lambda c: c.update(images={}), r"must hold lists 'images', 'annotations' and 'categories'"),
        (lambda c: c.pop("categories"), r"must hold lists 'images', 'annotations' and 'categories'"),
    ],
)
def test_a_broken_field_is_named(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    content = file()
    change(content)
    with pytest.raises(ValueError, match=r"^`annotations`: ") as caught:
        coco_average_precision(content, [])
    assert message in str(caught.value)


def test_faults_are_counted() -> None:
    content = file()
    for annotation in content["annotations"]:
        del annotation["area"]
    with pytest.raises(ValueError, match=r"annotations\[0\] \(id 1\): `area` \(missing\).* \(and 23 more faults\)"):
        coco_average_precision(content, [])


def test_json_of_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text('{"é": 1}', encoding=encoding)
        assert read_json(path) == {"é": 1}
    for content in (b"", b"{", b"\xff\xfe\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json`: must be JSON"):
            read_json(path)
    with pytest.raises(FileNotFoundError, match=r"`.*none\.json` is missing"):
        read_json(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="is missing"):
        read_json(tmp_path)
