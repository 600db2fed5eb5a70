"""COCO's scores of persons' joints: object keypoint similarity (OKS), and average precision (AP) by it."""

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pcsa._core.checks import check_positive
from pcsa.metrics.errors import keypoint_error
from pcsa.metrics.normalized import check_per_shape

COCO_SIGMAS: tuple[float, ...] = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),  # nose, eyes, ears
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),  # shoulders, elbows, wrists
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),  # hips, knees, ankles
)
"""Standard deviations of the annotators' positions of COCO's 17 joints, in square roots of the person's area."""

_COCO_SCORES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def object_keypoint_similarity(
    predicted: Float[Tensor, "B K 2"],
    target: Float[Tensor, "B K 2"],
    visible: Bool[Tensor, "B K"],
    area: Float[Tensor, " B"],
    sigmas: Sequence[float] = COCO_SIGMAS,
    *,
    validate: bool = True,
) -> Float[Tensor, " B"]:
    r"""Object keypoint similarity (OKS), `COCO's <https://cocodataset.org/#keypoints-eval>`_.

    .. math:: \mathrm{OKS} = \frac{1}{|V|} \sum_{k \in V} \exp\left(-\frac{d_k^2}{2 A (2 \sigma_k)^2}\right)

    over the visible joints V, with the distance :math:`d_k` and the area A of the person.

    Args:
        predicted: Predicted positions in pixels of the original image.
        target: Annotated positions in the same pixels; may hold anything where not visible.
        visible: Which joints are labeled (COCO's v > 0).
        area: Area of each person's *mask* in square pixels, ``area`` in COCO's file; not that of the box.
        sigmas: One number for each joint, see :data:`pcsa.metrics.COCO_SIGMAS`; default those of COCO's 17 joints.
        validate: Check values (synchronizes with the device).

    Returns:
        0 to 1, float64; NaN for a person without a visible joint. (There pycocotools measures how far the prediction
        lies outside of the doubled box, to leave such predictions out.) Differentiable with respect to ``predicted``
        and ``target``.

    Shapes:
        - **predicted**, **target:** :math:`(B, K, 2)`
        - **visible:** :math:`(B, K)`
        - **area**, **output:** :math:`(B)`

    Raises:
        ValueError: If shapes or dtypes do not fit, a position is not finite where visible, an area of a person with
            visible joints is negative or not finite, or a sigma is not positive.

    Example:
        >>> predicted = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])  # 5 pixels away, and right
        >>> visible = torch.tensor([[True, True]])
        >>> area = torch.tensor([100.0])
        >>> object_keypoint_similarity(predicted, torch.zeros(1, 2, 2), visible, area, [0.25, 0.1])
        tensor([0.8033], dtype=torch.float64)
    """
    if predicted.ndim != 3 or predicted.shape[2] != 2:
        raise ValueError(f"`predicted` {list(predicted.shape)} must be [B, K, 2]")
    distance = keypoint_error(predicted.double(), target.double(), visible, validate=validate)
    check_per_shape("area", area, visible, visible.any(dim=1), validate)
    _check_sigmas(sigmas, visible.shape[1])
    variance = (2 * distance.new_tensor(sigmas)).square()
    # What pycocotools adds to the area so as not to divide by 0.
    exponent = distance.square() / variance / (area.double()[:, None] + torch.finfo(torch.float64).eps) / 2
    similarity = torch.where(visible, (-exponent).exp(), 0.0).sum(dim=1)
    return similarity / visible.sum(dim=1)


def coco_average_precision(
    annotations: Path | str | Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    sigmas: Sequence[float] | None = None,
) -> dict[str, float | None]:
    """Average precision and recall of detected persons by OKS, by pycocotools.

    All images of the annotations count, those without any result too; of each image, the 20 results of the highest
    scores.

    Args:
        annotations: A file in COCO's format for keypoints, or what is in it.
        results: One for each detected person: ``{"image_id": 785, "category_id": 1, "score": 0.9, "keypoints": [x, y,
            v, …]}``, 3 numbers for every joint. Positions count the top left *pixel's center* as 0, as COCO's joints
            do; v is not looked at.
        sigmas: One number for each joint; default those of COCO's 17 joints.

    Returns:
        ``AP`` and ``AR``, means over the OKS thresholds 0.5, 0.55, …, 0.95; ``AP50``, ``AP75``, ``AR50``, ``AR75`` at
        one threshold; ``APM``, ``APL``, ``ARM``, ``ARL`` for persons of 32² to 96² and of more square pixels. Each is
        from 0 to 1; ``None`` where there is no such person.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the annotations or a result are not in COCO's format, a result names an image or category that
            the annotations do not have, or its numbers are not finite.
    """
    import numpy as np
    from pycocotools.cocoeval import COCOeval

    dataset = read_annotations(annotations)
    num_joints = len(COCO_SIGMAS if sigmas is None else sigmas)
    if sigmas is not None:
        _check_sigmas(sigmas, num_joints)
    _check_coco(dataset, results, num_joints)
    # pycocotools reports by printing, and writes into what it is given.
    truth = indexed({**dataset, "annotations": [dict(a) for a in dataset["annotations"]]})
    with contextlib.redirect_stdout(io.StringIO()):
        if results:
            found = truth.loadRes([{**r, "keypoints": list(map(float, r["keypoints"]))} for r in results])
        else:
            found = indexed({**dataset, "annotations": []})
        evaluation = COCOeval(truth, found, "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas, dtype=float)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: None if x < 0 else float(x) for name, x in zip(_COCO_SCORES, evaluation.stats, strict=True)}


def _check_sigmas(sigmas: Sequence[float], num_joints: int) -> None:
    if len(sigmas) != num_joints:
        raise ValueError(f"`sigmas` (={list(sigmas)}) must be {num_joints} numbers, one for each joint")
    for sigma in sigmas:
        check_positive("sigmas", sigma)


def indexed(dataset: dict[str, Any]) -> Any:
    """Return what a file in COCO's format holds in pycocotools' form."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def read_annotations(annotations: Path | str | Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file in COCO's format holds; raise unless it has images, annotations and categories."""
    source = "`annotations`"
    if isinstance(annotations, (str, Path)):
        source = f"`annotations` (={str(annotations)!r})"
        if not Path(annotations).is_file():
            raise FileNotFoundError(f"{source} must be a file in COCO's format: there is none")
        try:
            annotations = json.loads(Path(annotations).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{source} must be JSON: {error}") from None
    if not isinstance(annotations, Mapping) or not {"images", "annotations", "categories"} <= set(annotations):
        raise ValueError(f"{source} must hold 'images', 'annotations' and 'categories', as COCO's files do")
    return dict(annotations)


def _check_coco(dataset: dict[str, Any], results: Sequence[Mapping[str, Any]], num_joints: int) -> None:
    images = {image["id"] for image in dataset["images"]}
    categories = {category["id"] for category in dataset["categories"]}
    for i, annotation in enumerate(dataset["annotations"]):
        fields = ("id", "image_id", "category_id", "bbox", "area", "keypoints", "num_keypoints")
        _check_entry(f"annotations[{i}]", annotation, fields, num_joints)
    for i, result in enumerate(results):
        _check_entry(f"results[{i}]", result, ("image_id", "category_id", "keypoints", "score"), num_joints)
        for name, known in (("image_id", images), ("category_id", categories)):
            if result[name] not in known:
                raise ValueError(f"`results[{i}]` has {name} {result[name]!r}, which `annotations` do not have")
        if not all(map(math.isfinite, (*result["keypoints"], result["score"]))):
            raise ValueError(f"`results[{i}]` must have finite keypoints and score")


def _check_entry(name: str, entry: Mapping[str, Any], fields: Sequence[str], num_joints: int) -> None:
    missing = sorted(set(fields) - set(entry))
    if missing:
        raise ValueError(f"`{name}` lacks {missing}")
    if len(entry["keypoints"]) != 3 * num_joints:
        rule = f"must be 3 for each of {num_joints} joints, as many as `sigmas`"
        raise ValueError(f"`{name}` has {len(entry['keypoints'])} numbers as keypoints, {rule}")
