"""COCO's scores of persons' joints: object keypoint similarity (OKS), and average precision (AP) by it."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pcsa._core.checks import check_positive, shown
from pcsa.metrics.coco_file import file_faults, indexed, plain, read_json, refuse, result_faults, scored
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
    scores. Annotation ids may start at 0, repeat or be texts: pycocotools gets its own. Who has no labeled joint, or no
    ``keypoints`` at all, is no truth: what is found there does not count. ``num_keypoints`` is counted anew, and
    without ``iscrowd`` an annotation is of one person.

    Args:
        annotations: A file in COCO's format for keypoints, or what is in it.
        results: One for each detected person: ``{"image_id": 785, "category_id": 1, "score": 0.9, "keypoints": [x, y,
            v, …]}``, 3 numbers for every joint. Positions count the top left *pixel's center* as 0, as COCO's joints
            do; v and other fields are not looked at.
        sigmas: One number for each joint; default those of COCO's 17 joints.

    Returns:
        ``AP`` and ``AR``, means over the OKS thresholds 0.5, 0.55, …, 0.95; ``AP50``, ``AP75``, ``AR50``, ``AR75`` at
        one threshold; ``APM``, ``APL``, ``ARM``, ``ARL`` for persons of 32² to 96² and of more square pixels. Each is
        from 0 to 1; ``None`` where there is no such person.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the annotations or a result are not in COCO's format, a result names an image or category that
            the annotations do not have, or its numbers are not finite; the message names entry, field, value and rule.
    """
    import numpy as np
    from pycocotools.cocoeval import COCOeval

    num_joints = len(COCO_SIGMAS if sigmas is None else sigmas)
    if sigmas is not None:
        _check_sigmas(sigmas, num_joints)
    content: Any = annotations
    where = "annotations"
    if isinstance(annotations, (str, Path)):
        content, where = read_json(annotations), str(annotations)
    refuse(where, file_faults(content, num_joints))
    refuse("results", result_faults(results, content, num_joints))
    # pycocotools reports by printing, and writes into what it is given.
    truth = indexed(scored(content, num_joints))
    with contextlib.redirect_stdout(io.StringIO()):
        if results:
            # No other field: with `bbox` in the first of them, pycocotools would ask all of them for one.
            fields = ("image_id", "category_id", "score")
            rows = [{name: r[name] for name in fields} | {"keypoints": list(plain(r["keypoints"]))} for r in results]
            found = truth.loadRes(rows)
        else:
            found = indexed({**truth.dataset, "annotations": []})
        evaluation = COCOeval(truth, found, "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas, dtype=float)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: None if x < 0 else float(x) for name, x in zip(_COCO_SCORES, evaluation.stats, strict=True)}


def _check_sigmas(sigmas: Sequence[float], num_joints: int) -> None:
    if len(sigmas) != num_joints:
        raise ValueError(f"`sigmas` (={shown(list(sigmas))}) must be {num_joints} numbers, one for each joint")
    for sigma in sigmas:
        check_positive("sigmas", sigma)
