"""What can be wrong with the annotations and detections of :mod:`pcsa.datasets.coco`.

Beside the fields, it is asked whether boxes and keypoints are in the units and the order of COCO's. A file does not say
so; most of its entries do, while single ones may be odd.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pcsa.metrics.coco_file import DETECTION, PICTURE, entry_faults, file_faults, id_faults, num_labeled

_LEAST_PIXELS = 2.0  # no picture is that small


def annotation_faults(content: Any, names: Sequence[str]) -> Iterator[str]:
    """Say what in an annotation file breaks a rule: place, field, value and rule of each fault.

    Args:
        content: What the file holds.
        names: Keypoints of the one category that is read.
    """
    categories = content.get("categories") if isinstance(content, dict) else None
    persons = persons_category(categories, names)
    ids = [entry.get("id") for entry in persons]
    faults = list(
        file_faults(content, len(names), pictures=PICTURE, persons=lambda entry: entry.get("category_id") in ids)
    )
    if isinstance(categories, list) and len(persons) != 1:
        listed = [(c.get("id"), c.get("keypoints")) for c in categories if isinstance(c, dict)]
        seen = [f"{number!r}: {len(own) if isinstance(own, list) else 0}" for number, own in listed]
        faults.append(
            f"must have one category with COCO's {len(names)} keypoints in their order, {names[0]} to {names[-1]}; "
            f"has {len(persons)} (keypoints by category id: {', '.join(seen) or 'none'})"
        )
    yield from faults
    if not faults:
        pictures = {picture["id"]: picture for picture in content["images"]}
        labeled = [a for a in content["annotations"] if a["category_id"] == ids[0] and num_labeled(a)]
        rules = (share_fault, corner_fault, place_fault)
        yield from [fault for rule in rules if (fault := rule(labeled, pictures))][:1]


def detection_faults(found: Any, content: Mapping[str, Any]) -> Iterator[str]:
    """Say what in a list of detections breaks a rule; ``content`` is an annotation file with its lists."""
    if not isinstance(found, list):
        yield f"must be a list of detections, objects with {', '.join(DETECTION)}"
        return
    faults = [*entry_faults("detections", found, DETECTION), *id_faults("detections", found, content)]
    yield from faults
    if not faults and not any(entry_faults("images", content["images"], PICTURE)):
        pictures = {picture["id"]: picture for picture in content["images"]}
        yield from [fault for rule in (share_fault, corner_fault) if (fault := rule(found, pictures))][:1]


def stray_fault(kind: str, entries: Any, content: Any) -> str | None:
    """Say how many entries are for pictures that the annotation file does not have, whatever both hold."""
    known, named = (
        [entry.get(field) for entry in given if isinstance(entry, dict)] if isinstance(given, list) else []
        for field, given in (("id", content.get("images")), ("image_id", entries))
    )
    ids = {number for number in known if isinstance(number, (int, float, str))}
    strays = [number for number in named if isinstance(number, (int, float, str)) and number not in ids]
    if not strays:
        return None
    text = f"{len(strays)} of {len(named)} {kind} have an `image_id` that `images` lack and are left out"
    return f"{text}, first {strays[0]!r}"


def persons_category(categories: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the categories that name these keypoints, in this order."""
    listed = categories if isinstance(categories, list) else []
    return [entry for entry in listed if isinstance(entry, dict) and entry.get("keypoints") == list(names)]


def none_fault(kind: str, entries: Any, category_id: Any) -> str | None:
    """Say so if no entry is a person to be used: of the category, and with a labeled joint if it has joints."""
    given = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    own = [entry for entry in given if entry.get("category_id") == category_id]
    if own and (kind == "detections" or any(entry.get("keypoints") and num_labeled(entry) for entry in own)):
        return None
    joints = "" if kind == "detections" else " with a labeled joint"
    return f"must have a person{joints}: none of its {len(given)} {kind} is one (`category_id` {category_id!r})"


def share_fault(entries: Sequence[Mapping[str, Any]], pictures: Mapping[Any, Mapping[str, Any]]) -> str | None:
    """Say if the boxes, checked as for :func:`corner_fault`, are so small that they must be shares of the pictures."""
    boxes, _ = _boxes(entries, pictures)
    most = float((boxes[:, :2] + boxes[:, 2:]).max(initial=0))
    if 0 < most <= _LEAST_PIXELS:
        return f"`bbox` must be in pixels: those of all {len(boxes)} end by {most:g}, they are shares of the pictures"
    return None


def corner_fault(entries: Sequence[Mapping[str, Any]], pictures: Mapping[Any, Mapping[str, Any]]) -> str | None:
    """Say if boxes look like two corners: most leave the picture, and all are such that corners would be right.

    Args:
        entries: Entries whose ``bbox`` has been checked.
        pictures: Entries of ``images`` by id, checked too.
    """
    boxes, sizes = _boxes(entries, pictures)
    # A pixel for those who round.
    leave = ((boxes[:, :2] + boxes[:, 2:]) > sizes + 1).any(1)
    ordered = (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all() and (boxes[:, 2:] <= sizes + 1).all()
    if len(boxes) and ordered and 2 * leave.sum() > len(boxes):
        return (
            f"`bbox` must be [x, y, width, height]: {leave.sum()} of {len(boxes)} boxes leave their pictures, and all "
            "of them are right as [left, top, right, bottom]"
        )
    return None


def place_fault(persons: Sequence[Mapping[str, Any]], pictures: Mapping[Any, Mapping[str, Any]]) -> str | None:
    """Say if most persons have none of their labeled joints in their boxes, as with shares of the picture's size.

    Args:
        persons: Annotations that have been checked, with labeled joints.
        pictures: Entries of ``images`` by id, checked too.
    """
    persons = [person for person in persons if person["image_id"] in pictures and min(person["bbox"][2:]) > 0]
    if not persons:
        return None
    boxes, _ = _boxes(persons, pictures)
    joints = np.array([person["keypoints"] for person in persons], dtype=float).reshape(len(persons), -1, 3)
    # Annotators mark joints beside the outline: a tenth of the box, and a pixel.
    margin = 0.1 * boxes[:, 2:].max(1)[:, None, None] + 1
    low, high = boxes[:, None, :2] - margin, boxes[:, None, :2] + boxes[:, None, 2:] + margin
    inside = ((joints[..., :2] >= low) & (joints[..., :2] <= high)).all(2) & (joints[..., 2] > 0)
    outside = int((~inside.any(1)).sum())
    if 2 * outside > len(persons):
        return (
            f"`keypoints` and `bbox` must be in pixels of one picture: {outside} of {len(persons)} persons have no "
            "labeled joint in their box"
        )
    return None


def _boxes(entries: Sequence[Mapping[str, Any]], pictures: Mapping[Any, Mapping[str, Any]]) -> tuple[Any, Any]:
    """Return boxes `[N, 4]` and (width, height) of their pictures `[N, 2]`."""
    known = [(entry["bbox"], pictures[entry["image_id"]]) for entry in entries if entry["image_id"] in pictures]
    boxes = np.array([box for box, _ in known], dtype=float).reshape(-1, 4)
    sizes = [(picture["width"], picture["height"]) for _, picture in known]
    return boxes, np.array(sizes, dtype=float).reshape(-1, 2)
