"""What files in COCO's format must hold, and the form in which pycocotools scores them right.

pycocotools checks nothing. It takes an annotation with id 0 for "no match", looks annotations up by their ids, where
the last of those with one id hides the others, divides by ``area``, and leaves persons out by ``num_keypoints`` alone.
"""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from pcsa._core.json_text import parse_json

Rule = tuple[Callable[[Any], bool], str]
_MISSING = object()
# Beyond that a float has no room for sums and squares; a comparison, as NaN fails it and whole numbers have no end.
_LARGEST = 1e100


def _is_number(value: Any) -> bool:
    # The first question is quick, and asked a million times.
    real = type(value) in (int, float) or (isinstance(value, Real) and not isinstance(value, bool))
    return real and bool(-_LARGEST < value < _LARGEST)


def _is_whole(value: Any) -> bool:
    return type(value) is int or (_is_number(value) and bool(value == value // 1))


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or (_is_whole(value) and -(2**63) <= value < 2**63)


def _are_numbers(values: Sequence[Any]) -> bool:
    types = set(map(type, values))
    # Not one by one: a file has ten millions of them. NaN is not equal to itself.
    if types and types <= {int, float} and (float not in types or all(x == x for x in values)):
        return min(values) > -_LARGEST and max(values) < _LARGEST
    return all(map(_is_number, values))


def _is_box(value: Any) -> bool:
    value = plain(value)
    return isinstance(value, (list, tuple)) and len(value) == 4 and _are_numbers(value) and min(value[2:]) >= 0


_ID: Rule = (_is_id, "must be a whole number or a text")
_BOX: Rule = (_is_box, "must be [x, y, width, height], finite numbers, the last two at least 0")
_SIZE: Rule = (lambda x: _is_whole(x) and x >= 1, "must be a whole number of at least 1")
_NAME: Rule = (
    lambda x: isinstance(x, str) and x != "" and not re.search(r"^[A-Za-z]:[/\\]|^[/\\]|(^|[/\\])\.\.([/\\]|$)|\0", x),
    "must be the name of a file below the folder of the pictures",
)
_AREA: Rule = (lambda x: _is_number(x) and x >= 0, "must be the area of the mask in square pixels, at least 0")
_CROWD: Rule = (lambda x: isinstance(x, Real) and x in (0, 1), "must be 0 or 1")
_FINITE: Rule = (_is_number, "must be a finite number")
_SCORE: Rule = (lambda x: _is_number(x) and x >= 0, "must be a finite number of at least 0")

ENTRY: Mapping[str, Rule] = {"id": _ID}
PICTURE: Mapping[str, Rule] = {"id": _ID, "file_name": _NAME, "width": _SIZE, "height": _SIZE}
DETECTION: Mapping[str, Rule] = {"image_id": _ID, "category_id": _ID, "bbox": _BOX, "score": _SCORE}
_ANNOTATION: Mapping[str, Rule] = {"id": _ID, "image_id": _ID, "category_id": _ID}
_RESULT: Mapping[str, Rule] = {"image_id": _ID, "category_id": _ID, "score": _FINITE}
# Lists of a file, and the fields that name an entry of them.
_LISTS = {"images": "image_id", "categories": "category_id"}


def plain(values: Any) -> Any:
    """Return an array or tensor as a list, and anything else as it is."""
    return values.tolist() if hasattr(values, "tolist") else values


def num_labeled(annotation: Mapping[str, Any]) -> int:
    """Return how many joints of a checked annotation have a position; ``num_keypoints`` is not asked."""
    flags = plain(annotation.get("keypoints", ()))[2::3]
    return len(flags) - flags.count(0)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON; the message begins with the path.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`{path}` is missing")
    try:
        return parse_json(path.read_bytes())  # not the text: bytes may begin with a byte-order mark
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`{path}`: must be JSON ({error})") from None


def refuse(where: str | os.PathLike[str], faults: Iterable[str]) -> None:
    """Raise if there are faults: a ValueError with the first one, and how many more there are."""
    found = list(faults)
    if found:
        more = f" (and {len(found) - 1} more faults)" if len(found) > 1 else ""
        raise ValueError(f"`{where}`: {found[0]}{more}")


def file_faults(
    content: Any,
    num_joints: int,
    *,
    pictures: Mapping[str, Rule] = ENTRY,
    persons: Callable[[Mapping[str, Any]], bool] = lambda annotation: True,
) -> Iterator[str]:
    """Say what in a file breaks a rule: place, field, value and rule of each fault.

    Args:
        content: What the file holds.
        num_joints: Joints of a person.
        pictures: Rules of ``images``.
        persons: The annotations that are looked at for more than their ids.

    Example:
        >>> content = {"images": [{"id": 0}], "categories": [], "annotations": [{"id": 0, "image_id": 0}]}
        >>> list(file_faults(content, 17))
        ['annotations[0] (id 0): `category_id` (missing) must be a whole number or a text']
    """
    given = content if isinstance(content, Mapping) else {}
    if not all(isinstance(given.get(name), (list, tuple)) for name in ("images", "annotations", "categories")):
        yield "must hold lists 'images', 'annotations' and 'categories', as COCO's files do"
        return
    for name, rules in (("images", pictures), ("categories", ENTRY)):
        yield from entry_faults(name, content[name], rules)
        yield from _repeated(name, content[name])
    yield from entry_faults("annotations", content["annotations"], _ANNOTATION)
    yield from id_faults("annotations", content["annotations"], content)
    for i, entry in enumerate(content["annotations"]):
        if isinstance(entry, Mapping) and persons(entry):
            yield from _person_faults(_place("annotations", i, entry), entry, num_joints)


def entry_faults(kind: str, entries: Sequence[Any], rules: Mapping[str, Rule]) -> Iterator[str]:
    """Say which field of which entry of a list breaks its rule."""
    for i, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            yield f"{kind}[{i}]: `{_short(entry)}` must be an object with {', '.join(rules)}"
            continue
        for name, (fits, rule) in rules.items():
            value = entry.get(name, _MISSING)
            if value is _MISSING or not fits(value):
                yield f"{_place(kind, i, entry)}: {_shown(name, value)} {rule}"


def id_faults(kind: str, entries: Sequence[Any], content: Mapping[str, Any]) -> Iterator[str]:
    """Say where ids are texts in one list and numbers in another: 7 and "7" are different ids."""
    for of, field in _LISTS.items():
        first = ""
        for name, key, own in ((of, "id", content[of]), (kind, field, entries)):
            for i, entry in enumerate(own):
                value = entry.get(key) if isinstance(entry, Mapping) else None
                if not _is_id(value):
                    continue
                if not first:
                    text, first = isinstance(value, str), f"{name}[{i}] has {value!r}"
                elif isinstance(value, str) != text:
                    wanted = "a text" if text else "a whole number"
                    yield f"{_place(name, i, entry)}: {_shown(key, value)} must be {wanted}: {first}"
                    break


def result_faults(results: Sequence[Any], content: Mapping[str, Any], num_joints: int) -> Iterator[str]:
    """Say what of predicted persons breaks a rule, or names what a file does not have."""
    yield from entry_faults("results", results, _RESULT)
    known = {field: {entry["id"] for entry in content[of]} for of, field in _LISTS.items()}
    for i, entry in enumerate(results):
        if not isinstance(entry, Mapping):
            continue
        place = f"results[{i}]"
        for field, ids in known.items():
            if _is_id(entry.get(field)) and entry[field] not in ids:
                yield f"{place}: {_shown(field, entry[field])} must be an id that `annotations` have"
        yield from _keypoint_faults(place, entry.get("keypoints", _MISSING), num_joints, flags=False)


def scored(content: Mapping[str, Any], num_joints: int) -> dict[str, Any]:
    """Return a checked file in the form that pycocotools scores right: copies of the annotations, with ids from 1 on.

    Who has no labeled joint is a place where nothing counts (what COCO's ``num_keypoints`` of 0 says), and left out
    where there is no box and area. So is what belongs to no picture or category of the file. Ids of pictures and
    categories stay.
    """
    known = {field: {entry["id"] for entry in content[of]} for of, field in _LISTS.items()}
    annotations: list[dict[str, Any]] = []
    for entry in content["annotations"]:
        labeled = num_labeled(entry)
        if any(entry[field] not in ids for field, ids in known.items()):
            continue
        if labeled or {"bbox", "area"} <= entry.keys():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    **{name: entry[name] for name in ("image_id", "category_id", "area")},
                    "bbox": list(plain(entry["bbox"])),
                    "iscrowd": int(entry.get("iscrowd", 0)),
                    "keypoints": list(plain(entry.get("keypoints", ()))) or [0] * (3 * num_joints),
                    "num_keypoints": labeled,
                }
            )
    return {**content, "annotations": annotations}


def indexed(dataset: dict[str, Any]) -> Any:
    """Return a data set in pycocotools' form."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _person_faults(place: str, entry: Mapping[str, Any], num_joints: int) -> Iterator[str]:
    keypoints = plain(entry.get("keypoints", ()))
    absent = isinstance(keypoints, (list, tuple)) and not keypoints
    wrong = [] if absent else list(_keypoint_faults(place, keypoints, num_joints))
    yield from wrong
    labeled = bool(wrong) or num_labeled(entry) > 0
    for name, (fits, rule), needed in (("bbox", _BOX, labeled), ("area", _AREA, labeled), ("iscrowd", _CROWD, False)):
        value = entry.get(name, _MISSING)
        if needed if value is _MISSING else not fits(value):
            yield f"{place}: {_shown(name, value)} {rule}"
        elif needed and name == "area" and not value:
            yield f"{place}: `area` (=0) must be the area of the mask in square pixels, above 0: errors count by it"


def _keypoint_faults(place: str, value: Any, num_joints: int, *, flags: bool = True) -> Iterator[str]:
    value, rule = plain(value), f"must be {3 * num_joints} finite numbers, x, y, v of each of {num_joints} joints"
    if not isinstance(value, (list, tuple)):
        yield f"{place}: {_shown('keypoints', value)} {rule}"
    elif len(value) != 3 * num_joints:
        yield f"{place}: `keypoints` ({len(value)} numbers) {rule}"
    elif not _are_numbers(value):
        i = next(i for i, x in enumerate(value) if not _is_number(x))
        yield f"{place}: {_shown(f'keypoints[{i}]', value[i])} {rule}"
    elif flags and not set(value[2::3]) <= {0, 1, 2}:
        i = next(i for i, v in enumerate(value) if i % 3 == 2 and v not in (0, 1, 2))
        yield f"{place}: {_shown(f'keypoints[{i}]', value[i])} must be 0 (not labeled), 1 (covered) or 2 (visible)"


def _repeated(name: str, entries: Sequence[Any]) -> Iterator[str]:
    first: dict[Any, int] = {}
    for i, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, Mapping) else None
        if _is_id(number) and first.setdefault(number, i) != i:
            yield f"{name}[{i}]: {_shown('id', number)} must be of one entry alone, {name}[{first[number]}] has it, too"


def _place(kind: str, i: int, entry: Mapping[str, Any]) -> str:
    return f"{kind}[{i}] (id {_short(entry['id'])})" if "id" in entry else f"{kind}[{i}]"


def _shown(name: str, value: Any) -> str:
    return f"`{name}` (missing)" if value is _MISSING else f"`{name}` (={_short(value)})"


def _short(value: Any) -> str:
    text = repr(plain(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
