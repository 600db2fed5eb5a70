"""COCO persons with keypoints, by ground-truth boxes or by the boxes of a detector, and results for pycocotools.

**Pixels.** COCO's keypoints are whole numbers: the column and row, from 0, of the pixel that the annotator marked
("0-indexed location"). That is the pixel frame of this package, where pixel centers are integers, so nothing is added
in either direction. (Libraries in which pixel (0, 0) covers 0 to 1, such as Detectron2, add 1/2 to the keypoints.)
COCO's boxes are outlines, where the picture spans 0 to its width; :func:`pcsa.datasets.crops.crop` takes them as such.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcsa._core.checks import check_between, check_finite, check_one_of, check_shape
from pcsa.datasets.coco_faults import annotation_faults, detection_faults, none_fault, persons_category, stray_fault
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.faults import Problem, noting
from pcsa.datasets.files import existing
from pcsa.datasets.images import KeypointImages, check_readable, clipped_box, masked
from pcsa.datasets.sized import read_sized, size_fault
from pcsa.datasets.values import ValueRange
from pcsa.metrics.coco import COCO_SIGMAS
from pcsa.metrics.coco_file import PICTURE, entry_faults, indexed, num_labeled, read_json, refuse, scored

log = logging.getLogger(__name__)

NAMES = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"),
    "right_ankle",
)


def official(root: str | os.PathLike[str], split: Literal["train", "val"]) -> tuple[Path, Path]:
    """Return the annotation file and the folder of pictures of COCO 2017 in its official layout.

    Example:
        >>> [str(path) for path in official("coco", "val")]
        ['coco/annotations/person_keypoints_val2017.json', 'coco/val2017']

    """
    check_one_of("split", split, ("train", "val"))  # the others have no public annotations
    root = Path(root)
    return root / "annotations" / f"person_keypoints_{split}2017.json", root / f"{split}2017"


class CocoKeypoints(KeypointImages):
    """Persons of COCO, one item each, `"Microsoft COCO" <https://arxiv.org/abs/1405.0312>`_.

    ========================  ===============================================================================
    2017                      persons with labeled joints (of all persons)
    ========================  ===============================================================================
    train                     149,813 (262,465), on 56,599 pictures
    val                       6,352 (11,004), on 2,346 pictures
    ========================  ===============================================================================

    Without ``detections``, the items are the annotated persons that have a labeled joint. A joint is visible here if
    it is labeled, whether or not it is covered (v = 1 and 2). With ``detections``, the items are the boxes of a
    detector, for evaluation as the benchmark does it; they have no truth, so that none of their keypoints is visible.

    ``source(i)`` also has ``image_id``, ``annotation_id`` (-1 for a detection), ``score`` of the box (1 for an
    annotation) and ``area`` in square pixels (an annotation's own, or the box's).

    **Files of other tools.** The persons are those of the one category that names COCO's 17 joints in their order,
    whatever its id. Ids may be whole numbers or texts; those of annotations may repeat. Without ``iscrowd`` an
    annotation is of one person; ``num_keypoints`` is counted anew. A person with labeled joints must have ``bbox`` and
    ``area``. Of every picture, ``width`` and ``height`` must be those of the file: as EXIF turns it or, where only that
    fits, as it is stored; annotations are in the pixels of that picture. :func:`check_coco` lists all faults.

    ``skipped`` counts what was left out, and ``coco`` is the persons of the annotation file in pycocotools' form, with
    annotation ids from 1 on.

    Args:
        annotations: ``person_keypoints_*.json``.
        images: The folder of its pictures.
        input_size: (height, width) of the crops.
        detections: A JSON list of ``bbox``, ``category_id``, ``image_id`` and ``score``, such as
            ``COCO_val2017_detections_AP_H_56_person.json``. Boxes may reach out of the picture: they are cut off there.
        augment: What ``augmented`` varies. Default: what :class:`~pcsa.datasets.crops.CropAugment` varies.
        score_threshold: Least score of a detection; others are left out.
        value_range: What 0 and 1 stand for in the pictures. Default: see
            :func:`pcsa.datasets.values.unit_values`.

    Raises:
        FileNotFoundError: If a file or folder is missing; the message names it.
        ValueError: If a file or an argument is broken; the message names it, the entry, the field and the rule.

    """

    names = NAMES
    pairs = tuple((k, k + 1) for k in range(1, 17, 2))
    bones = (
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8)),
        *((7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    )

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images: str | os.PathLike[str],
        *,
        input_size: tuple[int, int] = (256, 192),
        detections: str | os.PathLike[str] | None = None,
        augment: CropAugment | None = None,
        score_threshold: float = 0.0,
        value_range: ValueRange | None = None,
    ) -> None:
        super().__init__(input_size, augment, value_range=value_range)
        self.images = existing(images)
        self.annotations = existing(annotations)
        content = read_json(annotations)
        refuse(annotations, annotation_faults(content, NAMES))
        (self._category,) = persons_category(content["categories"], NAMES)
        self._pictures = {picture["id"]: picture for picture in content["images"]}
        own = [entry for entry in content["annotations"] if entry["category_id"] == self._category["id"]]
        self._content = {**content, "annotations": own, "categories": [self._category]}
        if detections is None:
            self._items = self._persons(content["annotations"])
            self._log_recounted(own)
        else:
            found = read_json(existing(detections))
            refuse(detections, detection_faults(found, content))
            self._items = self._persons(found, score_threshold)
        self._labels = [Path(file) for file in (annotations, detections) if file is not None]

    @cached_property
    def coco(self) -> Any:
        """The persons of the annotation file, as pycocotools has them."""
        return indexed(scored(self._content, len(NAMES)))

    def files(self, index: int) -> list[Path]:
        """Return the picture of a person, and the files of its labels and boxes."""
        picture = self._pictures[self._items[self._row(index)]["image_id"]]
        return [picture_path(self.images, picture), *self._labels]

    def source(self, index: int) -> dict[str, Any]:
        """Return the picture, the keypoints and the box of a person; see the class.

        Raises:
            FileNotFoundError: If there is no such picture.
            ValueError: If it cannot be read, or has another size than the annotations say; the message names it.

        """
        item = self._items[self._row(index)]
        picture = self._pictures[item["image_id"]]
        image = read_sized(picture_path(self.images, picture), picture["width"], picture["height"], self.value_range)
        extras = {name: item[name] for name in ("image_id", "annotation_id", "score", "area")}
        keypoints = np.asarray(item["keypoints"], dtype=np.float32).reshape(-1, 3)
        box = torch.tensor(item["box"], dtype=torch.float32)
        return {"image": image, **masked(keypoints[:, :2], keypoints[:, 2] > 0), "box": box, **extras}

    def results(
        self,
        keypoints: Float[Tensor, "N K 2"],
        confidence: Float[Tensor, "N K"],
        *,
        indices: Sequence[int] | None = None,
        nms: float | None = 0.9,
        least_confidence: float = 0.2,
    ) -> list[dict[str, Any]]:
        """Return predictions in the form that pycocotools' ``loadRes`` takes.

        The rules are those of `SimplePose <https://arxiv.org/abs/1804.06208>`_: a person's score is the score of the
        box times the mean confidence of the keypoints whose confidence is above ``least_confidence`` (0 if none is),
        and of persons that are nearly the same, in the same picture, the best one stays: :func:`oks_nms`, with the
        area of the box.

        Args:
            keypoints: x and y in pixels of the source.
            confidence: From 0 to 1, for instance the largest probability of the map, or its height.
            indices: The item of each row. Default: row i is item i, all of them.
            nms: The similarity from which on two persons are the same; None keeps all.
            least_confidence: SimplePose's 0.2 is for the heights of its heatmaps; for peaks of probability maps, whose
                size depends on the resolution too, 0 is right.

        Returns:
            Dicts of ``image_id``, ``category_id``, ``keypoints`` (x, y, confidence of each) and ``score``.

        """
        indices = list(range(len(self))) if indices is None else [self._row(int(index)) for index in indices]
        items = [self._items[index] for index in indices]
        return person_results(
            keypoints,
            confidence,
            image_ids=[item["image_id"] for item in items],
            scores=[item["score"] for item in items],
            areas=[item["box"][2] * item["box"][3] for item in items],
            category_id=self._category["id"],
            nms=nms,
            least_confidence=least_confidence,
        )

    def coco_annotations(self, without: Iterable[int] = ()) -> dict[str, Any]:
        """Return what the annotation file holds of persons: pictures, their category and its annotations.

        Args:
            without: Items that could not be read, whose pictures are left out.
        """
        left_out = {self._items[self._row(index)]["image_id"] for index in without}
        content = dict(self._content)
        content["images"] = [picture for picture in content["images"] if picture["id"] not in left_out]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in left_out]
        return content

    def _persons(self, entries: list[dict[str, Any]], least_score: float | None = None) -> list[dict[str, Any]]:
        """Return the items of annotations or, with a least score, of detections, which have no keypoints."""
        items, detected = [], least_score is not None
        for entry in entries:
            picture = self._pictures.get(entry["image_id"])
            if entry["category_id"] != self._category["id"]:
                self._skip("of another category")
            elif least_score is not None and entry["score"] < least_score:
                self._skip("score below the threshold")
            elif picture is None:
                self._skip("picture not in the annotation file")
            elif entry.get("iscrowd", 0):
                self._skip("crowd")
            elif not detected and not num_labeled(entry):
                self._skip("no labeled joint")
            elif (box := clipped_box(entry["bbox"], picture["width"], picture["height"])) is None:
                self._skip("box without area in the picture")
            else:
                item = {"image_id": entry["image_id"], "box": box}
                if detected:
                    item |= {"annotation_id": -1, "score": float(entry["score"]), "area": box[2] * box[3]}
                    item["keypoints"] = [0] * (3 * len(NAMES))
                else:
                    item |= {"annotation_id": entry["id"], "score": 1.0, "area": float(entry["area"])}
                    item["keypoints"] = entry["keypoints"]
                items.append(item)
        return items

    def _log_recounted(self, entries: list[dict[str, Any]]) -> None:
        wrong = [e for e in entries if "num_keypoints" in e and e["num_keypoints"] != num_labeled(e)]
        if wrong:
            log.warning(
                "%s: %d annotations have another num_keypoints than labeled joints, first id %s: counted anew",
                self.annotations,
                len(wrong),
                wrong[0]["id"],
            )


def check_coco(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str],
    detections: str | os.PathLike[str] | None = None,
    *,
    value_range: ValueRange | None = None,
) -> list[Problem]:
    """List everything that is missing or broken in a file in COCO's format and the pictures it names.

    Pictures that no person with a
    labeled joint is on are looked at, too.

    Args:
        annotations: As :class:`CocoKeypoints` takes it.
        images: The folder of the pictures.
        detections: A list of detections for these pictures, if any.
        value_range: As for :class:`CocoKeypoints`.

    Returns:
        The problems in the order of the files; none where all is well. Nothing in the files makes it raise.

    """
    problems: list[Problem] = []

    def read(path: str | os.PathLike[str]) -> Any:
        try:
            return read_json(Path(path))
        except (OSError, ValueError) as error:
            text = "is missing" if isinstance(error, FileNotFoundError) else str(error).removeprefix(f"`{path}`: ")
            problems.append(Problem(str(path), text))
            return None

    content = read(annotations)
    if content is not None:
        faults = list(annotation_faults(content, NAMES))
        # With detections there may be nothing but pictures, as in files of the test items.
        if not faults and detections is None:
            (person,) = persons_category(content["categories"], NAMES)
            none = none_fault("annotations", content["annotations"], person["id"])
            faults = [none] if none else []
        problems += [Problem(str(annotations), fault) for fault in faults]
    given = content if isinstance(content, dict) else {}
    listed = {name: given[name] if isinstance(given.get(name), list) else [] for name in ("images", "categories")}
    if stray := stray_fault("annotations", given.get("annotations"), listed):
        problems.append(Problem(str(annotations), stray))
    if detections is not None and (found := read(detections)) is not None:
        faults = list(detection_faults(found, listed))
        persons = persons_category(listed["categories"], NAMES)
        if not faults and len(persons) == 1 and (none := none_fault("detections", found, persons[0].get("id"))):
            faults = [none]
        problems += [Problem(str(detections), fault) for fault in faults]
        if stray := stray_fault("detections", found, listed):
            problems.append(Problem(str(detections), stray))
    if not Path(images).is_dir():
        return [*problems, Problem(str(images), "is missing")]
    for picture in listed["images"]:
        if isinstance(picture, dict) and not any(entry_faults("images", [picture], PICTURE)):
            path = picture_path(Path(images), picture)
            if fault := size_fault(path, picture["width"], picture["height"]):
                problems.append(Problem(str(path), fault))
                continue
            with noting(problems, path):
                check_readable(path, value_range)
    return problems


def picture_path(images: Path, picture: dict[str, Any]) -> Path:
    """Return where the picture of an entry of ``images`` lies; names may have the separators of Windows."""
    return images / picture["file_name"].replace("\\", "/")


def person_results(
    keypoints: Float[Tensor, "N K 2"],
    confidence: Float[Tensor, "N K"],
    *,
    image_ids: Sequence[Any],
    scores: Sequence[float],
    areas: Sequence[float],
    category_id: Any = 1,
    nms: float | None = 0.9,
    least_confidence: float = 0.2,
) -> list[dict[str, Any]]:
    """Return predicted persons in the form that pycocotools' ``loadRes`` takes; see :meth:`CocoKeypoints.results`.

    Args:
        keypoints: x and y in pixels of the source.
        confidence: From 0 to 1.
        image_ids: The picture of each person.
        scores: The score of each person's box.
        areas: The area of each person's box, in square pixels.
        category_id: The category of persons in the annotation file.
        nms: The similarity from which on two persons are the same; None keeps all.
        least_confidence: The confidence above which a keypoint counts for its person's score.

    """
    check_shape("keypoints", keypoints, (len(image_ids), len(NAMES), 2))
    check_shape("confidence", confidence, keypoints.shape[:2])
    keypoints, confidence = keypoints.detach().cpu().double(), confidence.detach().cpu().double()
    check_finite("keypoints", keypoints)
    check_finite("confidence", confidence)
    sure = confidence > least_confidence
    mean = torch.where(sure, confidence, 0.0).sum(1) / sure.sum(1).clamp(min=1)
    score = mean * torch.tensor(scores, dtype=torch.float64)
    area = torch.tensor(areas, dtype=torch.float64)
    rows: dict[Any, list[int]] = {}
    for row, image_id in enumerate(image_ids):
        rows.setdefault(image_id, []).append(row)
    found = []
    for image_id, own in rows.items():
        if nms is not None:
            own = [own[i] for i in oks_nms(keypoints[own], score[own], area[own], threshold=nms).tolist()]
        for row in own:
            triples = torch.cat([keypoints[row], confidence[row, :, None]], 1).flatten().tolist()
            entry = {"image_id": image_id, "category_id": category_id, "keypoints": triples}
            found.append(entry | {"score": float(score[row])})
    return found


def oks_nms(
    keypoints: Float[Tensor, "N K 2"],
    scores: Float[Tensor, " N"],
    areas: Float[Tensor, " N"],
    *,
    sigmas: Sequence[float] = COCO_SIGMAS,
    threshold: float = 0.9,
) -> Int[Tensor, " M"]:
    r"""Keep the person with the highest score of those that are nearly the same.

    The similarity of two persons is COCO's, with the mean of their areas for the area:
    :math:`\frac1K \sum_k \exp(-d_k^2 / (2 (2\sigma_k)^2 s^2))`, :math:`s^2` the area.

    Args:
        keypoints: x and y in pixels, of the persons in one picture.
        scores: The score of each person; the best one is taken first.
        areas: The area of each person, in square pixels.
        sigmas: One per keypoint.
        threshold: The similarity to a kept person above which a person goes.

    Returns:
        The rows that stay, by falling score.

    Example:
        >>> person = torch.arange(34.0).reshape(1, 17, 2)
        >>> persons = torch.cat([person, person + 0.1, person + 100])
        >>> oks_nms(persons, torch.tensor([0.5, 0.8, 0.2]), torch.full((3,), 1000.0))
        tensor([1, 2])

    """
    check_shape("keypoints", keypoints, ("N", len(sigmas), 2))
    check_shape("scores", scores, (len(keypoints),))
    check_shape("areas", areas, (len(keypoints),))
    check_between("threshold", threshold, 0, 1)
    variances = 8 * torch.tensor(sigmas, dtype=keypoints.dtype) ** 2
    distances = (keypoints[:, None] - keypoints[None]).square().sum(3)
    area = ((areas[:, None] + areas[None]) / 2).clamp(min=1e-12)
    similarity = torch.exp(-distances / variances / area[:, :, None]).mean(2)
    kept: list[int] = []
    for row in scores.argsort(descending=True, stable=True).tolist():
        if not kept or bool((similarity[row, kept] <= threshold).all()):
            kept.append(row)
    return torch.tensor(kept, dtype=torch.long)
