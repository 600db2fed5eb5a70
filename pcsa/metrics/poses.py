"""Scores of the fields that have heatmaps: body joints in images and volumes, facial landmarks, retinal surfaces.

Public in :mod:`pcsa.metrics`. Positions are (x, y) or (x, y, z), in any unit unless one is named.
"""

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa.metrics.keypoint_error import check_floating, check_mask, checks, keypoint_error, masked

COCO_SIGMAS: tuple[float, ...] = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),  # nose, eyes, ears
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),  # shoulders, elbows, wrists
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),  # hips, knees, ankles
)
"""How far apart annotators place COCO's 17 joints, in square roots of the person's area."""

_COCO_SCORES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


class SegmentLength(NamedTuple):
    """Lengths to measure errors by, from :func:`segment_length`."""

    length: Float[Tensor, " B"]
    """In the units of the positions; 0 where not known."""
    known: Bool[Tensor, " B"]
    """Whether both ends are visible."""


class CountedError(NamedTuple):
    """Distances, and those among them that count: ``mean_error(*error)``, ``pck(*error, thresholds)``."""

    distance: Float[Tensor, "B K"]
    """0 where not counted."""
    counted: Bool[Tensor, "B K"]
    """Takes the place of ``visible``."""


class SurfaceError(NamedTuple):
    """Absolute distances along the columns, from :func:`surface_error`."""

    mean: Float[Tensor, " K"]
    """Mean absolute distance of each surface; NaN if it is labeled in no column."""
    std: Float[Tensor, " K"]
    """Standard deviation of the absolute distance over the columns; NaN likewise."""
    num_columns: Int[Tensor, " K"]
    """Labeled columns."""
    overall_mean: Float[Tensor, ""]
    """Mean over the labeled columns of all surfaces."""
    overall_std: Float[Tensor, ""]
    """Standard deviation over the labeled columns of all surfaces."""


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
        area: Of each person's *mask* in square pixels, ``area`` in COCO's file; not that of its box.
        sigmas: Of each joint; default those of COCO's 17.
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
    _check_per_shape("area", area, visible, visible.any(dim=1), validate)
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

    Over all images of the annotations, those without any result too. At most 20 results per image count, those of the
    highest scores.

    Args:
        annotations: A file in COCO's format for keypoints, or what is in it.
        results: One for each detected person: ``{"image_id": 785, "category_id": 1, "score": 0.9, "keypoints": [x, y,
            v, …]}``, 3 numbers for every joint. Positions count the top left *pixel's center* as 0, as COCO's joints
            do; v is not looked at.
        sigmas: Of each joint; default those of COCO's 17.

    Returns:
        ``AP`` and ``AR``, means over OKS thresholds 0.5, 0.55, …, 0.95; ``AP50``, ``AP75``, ``AR50``, ``AR75`` at
        one; ``APM``, ``APL``, ``ARM``, ``ARL`` of persons of 32² to 96² and of more square pixels. Each 0 to 1;
        ``None`` where there is no such person.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the annotations or a result are not in COCO's format, a result is of an image or category that
            the annotations do not have, or its numbers are not finite.
    """
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dataset = _coco_annotations(annotations)
    num_joints = len(COCO_SIGMAS if sigmas is None else sigmas)
    if sigmas is not None:
        _check_sigmas(sigmas, num_joints)
    _check_coco(dataset, results, num_joints)
    # pycocotools reports by printing, and writes into what it is given.
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = {**dataset, "annotations": [dict(a) for a in dataset["annotations"]]}
        truth.createIndex()
        if results:
            found = truth.loadRes([{**r, "keypoints": list(map(float, r["keypoints"]))} for r in results])
        else:
            found.dataset = {**dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas, dtype=float)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: None if x < 0 else float(x) for name, x in zip(_COCO_SCORES, evaluation.stats, strict=True)}


def segment_length(
    keypoints: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    ends: tuple[int, int],
    *,
    validate: bool = True,
) -> SegmentLength:
    """Length of each instance's segment between two *annotated* keypoints: what errors are measured by.

    - PCK: the torso, left shoulder to right hip.
    - PCKh: the head. MPII's figures use 0.6 times the diagonal of the annotated head *box*. Where there is none (LSP),
      the head's segment, neck to top of the head, stands in for it: near it, but not the same number.
    - Normalized mean error of faces: the distance of the eyes' centers (or, in other protocols, of their outer
      corners).

    Args:
        keypoints: Annotated positions; may hold anything where not visible.
        visible: Which keypoints each instance has.
        ends: Two different places in the keypoints.
        validate: Check that both ends are finite where visible (synchronizes with the device).

    Returns:
        :class:`SegmentLength`, for :func:`normalized_error`.

    Shapes:
        - **keypoints:** :math:`(B, K, D)`
        - **visible:** :math:`(B, K)`
        - **output:** twice :math:`(B)`

    Raises:
        ValueError: If shapes or dtypes do not fit, a position is not finite where visible, or ``ends`` are not two
            places in the keypoints.

    Example:
        >>> keypoints = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]])
        >>> segment_length(keypoints, torch.tensor([[True, True, False]]), (0, 1))
        SegmentLength(length=tensor([5.]), known=tensor([True]))
    """
    if keypoints.ndim != 3:
        raise ValueError(f"`keypoints` {list(keypoints.shape)} must be [B, K, D]")
    check_floating("keypoints", keypoints)
    check_mask("visible", visible, keypoints.shape[:2])
    K = keypoints.shape[1]
    if len(ends) != 2 or ends[0] == ends[1] or not all(0 <= end < K for end in ends):
        raise ValueError(f"`ends` (={tuple(ends)}) must be two different places in {K} keypoints")
    first, second = (keypoints[:, end : end + 1] for end in ends)
    known = visible[:, ends[0]] & visible[:, ends[1]]
    if checks(validate) and not (keypoints[:, list(ends)][known]).isfinite().all():
        raise ValueError("`keypoints` must be finite where `visible`")
    return SegmentLength(keypoint_error(first, second, known[:, None], validate=False)[:, 0], known)


def normalized_error(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    reference: Float[Tensor, " B"],
    known: Bool[Tensor, " B"],
    *,
    validate: bool = True,
) -> CountedError:
    """Distance between predicted and annotated keypoints, in lengths of a reference of each instance.

    For ``error = normalized_error(…)``, ``mean_error(*error)`` is the normalized mean error (NME),
    ``pck(*error, [0.2])`` is PCK@0.2 and, by the head, ``pck(*error, [0.5])`` is PCKh@0.5. Both average over the
    keypoints of an instance, then over instances; the pooled fraction that some benchmarks report is
    ``(distance < 0.5)[counted].float().mean()``.

    Args:
        predicted: Predicted positions.
        target: Annotated positions in the same unit; may hold anything where not visible.
        visible: Which keypoints each instance has.
        reference: Length of each instance's reference, see :func:`segment_length`.
        known: Whether it is known. Instances whose reference is unknown or 0 do not count.
        validate: Check values (synchronizes with the device).

    Returns:
        :class:`CountedError`, at least float32. Differentiable with respect to ``predicted``, ``target`` and
        ``reference``.

    Shapes:
        - **predicted**, **target:** :math:`(B, K, D)`
        - **visible**, **output:** :math:`(B, K)`
        - **reference**, **known:** :math:`(B)`

    Raises:
        ValueError: If shapes or dtypes do not fit, a position is not finite where visible, or a known reference is
            negative or not finite.

    Example:
        >>> predicted, target = torch.tensor([[[0.0, 1.0], [3.0, 4.0]]]), torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
        >>> visible = torch.tensor([[True, True]])
        >>> normalized_error(predicted, target, visible, *segment_length(target, visible, (0, 1))).distance
        tensor([[0.2000, 0.0000]])
    """
    distance = keypoint_error(predicted, target, visible, validate=validate)
    check_mask("known", known, (len(visible),))
    _check_per_shape("reference", reference, visible, known, validate)
    usable = (known & (reference > 0))[:, None]
    counted = visible & usable
    length = torch.where(usable, reference[:, None], 1.0)
    return CountedError((distance / length).masked_fill(~counted, 0), counted)


def failure_rate(
    distance: Float[Tensor, "B K"], counted: Bool[Tensor, "B K"], threshold: float = 0.1, *, validate: bool = True
) -> Float[Tensor, ""]:
    """Share of the instances whose mean distance is above a threshold.

    Of faces: the images whose normalized mean error is above 0.1.

    Args:
        distance: Of :func:`normalized_error`.
        counted: Which of them count; instances of which none does are left out.
        threshold: In the units of ``distance``.
        validate: Check values (synchronizes with the device). Without it nothing that counts gives NaN.

    Returns:
        A float64 scalar, 0 to 1. Not differentiable.

    Raises:
        ValueError: If shapes or dtypes do not fit, a distance that counts is negative or NaN, the threshold is not
            positive, or nothing counts.

    Example:
        >>> distance = torch.tensor([[0.0, 0.1], [0.0, 0.3]])
        >>> failure_rate(distance, torch.tensor([[True, True], [True, True]]))
        tensor(0.5000, dtype=torch.float64)
    """
    if distance.ndim != 2:
        raise ValueError(f"`distance` {list(distance.shape)} must be [B, K]")
    check_floating("distance", distance)
    check_mask("counted", counted, distance.shape)
    if not 0 < threshold < math.inf:
        raise ValueError(f"`threshold` (={threshold}) must be above 0 and finite")
    num = counted.sum(dim=1)
    if checks(validate):
        if (counted & ~(distance >= 0)).any():
            raise ValueError("`distance` must be at least 0 and not NaN where `counted`")
        if not counted.any():
            raise ValueError("nothing is `counted`: there is nothing to compute a rate from")
    mean = distance.detach().double().masked_fill(~counted, 0).sum(dim=1) / num.clamp(min=1)
    return (mean > threshold).sum() / (num > 0).sum().double()


def mpjpe(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    root: int | None = None,
    *,
    validate: bool = True,
) -> CountedError:
    """Per joint position error, of which ``mean_error(*error)`` is the mean (MPJPE).

    Args:
        predicted: Predicted positions, in millimeters for Human3.6M's usual figures.
        target: Annotated positions in the same unit; may hold anything where not visible.
        visible: Which joints each pose has.
        root: Joint (the pelvis, say) that predicted and annotated poses are moved to the origin by, so that only the
            pose counts and not the place: Human3.6M's protocol 1. It counts as a joint of error 0. Poses whose root
            is not visible do not count. Default ``None``: not moved.
        validate: Check values (synchronizes with the device).

    Returns:
        :class:`CountedError`, at least float32. Differentiable with respect to ``predicted`` and ``target``.

    Shapes:
        - **predicted**, **target:** :math:`(B, K, D)`
        - **visible**, **output:** :math:`(B, K)`

    Raises:
        ValueError: If shapes or dtypes do not fit, a position is not finite where visible, or ``root`` is not a place
            in the joints.

    Example:
        >>> target = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> predicted = target + torch.tensor([0.0, 0.0, 7.0])
        >>> visible = torch.tensor([[True, True]])
        >>> mpjpe(predicted, target, visible).distance, mpjpe(predicted, target, visible, root=0).distance
        (tensor([[7., 7.]]), tensor([[0., 0.]]))
    """
    predicted, target = masked(predicted, target, visible, validate)
    counted = visible
    if root is not None:
        K = visible.shape[1]
        if isinstance(root, bool) or not isinstance(root, int) or not 0 <= root < K:
            raise ValueError(f"`root` (={root!r}) must be a place in {K} joints")
        counted = visible & visible[:, root : root + 1]
        predicted, target = (x - x[:, root : root + 1] for x in (predicted, target))
    return CountedError(keypoint_error(predicted, target, counted, validate=False), counted)


def procrustes_align(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    *,
    validate: bool = True,
) -> Float[Tensor, "B K D"]:
    r"""Each predicted pose moved, turned and scaled to fit the annotated one as well as it can be.

    The similarity transform with the least :math:`\sum_{k \in V} \|s R \hat y_k + t - y_k\|^2` over the visible
    joints, R a rotation: a mirrored pose stays mirrored. In closed form by the singular value decomposition
    (`Umeyama 1991 <https://doi.org/10.1109/34.88573>`_), in float64.

    Args:
        predicted: Predicted positions.
        target: Annotated positions; may hold anything where not visible.
        visible: Which joints each pose has.
        validate: Check values (synchronizes with the device).

    Returns:
        The transformed ``predicted``, all joints of it, at least float32. Always finite where visible: joints that
        lie on a line leave the turn about it open, and one of the best is taken; predictions that all coincide are
        scaled by 0 and come to lie at the mean of the annotations, as do poses with one visible joint; poses with
        none are moved by their own origin to 0. Not differentiable.

    Shapes:
        - **predicted**, **target**, **output:** :math:`(B, K, D)`
        - **visible:** :math:`(B, K)`

    Raises:
        ValueError: If shapes or dtypes do not fit or a position is not finite where visible.

    Example:
        >>> target = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]])
        >>> turned = torch.tensor([[[5.0, 5.0], [5.0, 8.0], [-1.0, 5.0]]])  # by 90 degrees, three times as large
        >>> procrustes_align(turned, target, torch.ones(1, 3, dtype=torch.bool)).round(decimals=4).abs()
        tensor([[[0., 0.],
                 [1., 0.],
                 [0., 2.]]])
    """
    seen, wanted = (x.detach() for x in masked(predicted, target, visible, validate))
    dtype = seen.dtype
    seen, wanted = seen.double(), wanted.double()
    there = visible[..., None]
    num = there.sum(dim=1, keepdim=True).clamp(min=1)
    center, wanted_center = (x.sum(dim=1, keepdim=True) / num for x in (seen, wanted))
    a, b = ((x - c).masked_fill(~there, 0) for x, c in ((seen, center), (wanted, wanted_center)))
    left, strength, right = torch.linalg.svd(a.mT @ b)
    sign = torch.ones_like(strength)
    sign[:, -1] = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0)
    spread = a.square().sum(dim=(1, 2))
    # Equal positions differ from their mean by its rounding.
    rounding = (1e-12 * seen.abs().amax(dim=(1, 2))).square()
    scale = torch.where(spread > rounding, (strength * sign).sum(dim=1) / spread, 0.0)
    turned = (predicted.detach().double() - center) @ ((left * sign[:, None]) @ right)
    return (scale[:, None, None] * turned + wanted_center).to(dtype)


def pa_mpjpe(
    predicted: Float[Tensor, "B K D"],
    target: Float[Tensor, "B K D"],
    visible: Bool[Tensor, "B K"],
    *,
    validate: bool = True,
) -> CountedError:
    """Per joint position error after :func:`procrustes_align`; ``mean_error(*error)`` is PA-MPJPE.

    Human3.6M's protocol 2.

    Args:
        predicted: Predicted positions, in millimeters for Human3.6M's usual figures.
        target: Annotated positions in the same unit; may hold anything where not visible.
        visible: Which joints each pose has. Poses with fewer than three do not count: any two joints can be brought
            onto any two others.
        validate: Check values (synchronizes with the device).

    Returns:
        :class:`CountedError`, at least float32. Not differentiable.

    Shapes:
        - **predicted**, **target:** :math:`(B, K, D)`
        - **visible**, **output:** :math:`(B, K)`

    Raises:
        ValueError: If shapes or dtypes do not fit or a position is not finite where visible.
    """
    aligned = procrustes_align(predicted, target, visible, validate=validate)
    counted = visible & (visible.sum(dim=1, keepdim=True) >= 3)
    return CountedError(keypoint_error(aligned, target.detach(), counted, validate=False), counted)


def surface_error(
    predicted: Float[Tensor, "B K W"],
    target: Float[Tensor, "B K W"],
    visible: Bool[Tensor, "B K W"],
    spacing: float = 1.0,
    *,
    validate: bool = True,
) -> SurfaceError:
    """Mean absolute distance of surfaces along the columns (A-scans) of retinal scans, and its standard deviation.

    The figures of `"Fully Convolutional Boundary Regression for Retina OCT Segmentation"
    <https://doi.org/10.1007/978-3-030-32239-7_14>`_ (He et al., MICCAI 2019). Columns of all scans weigh the same.
    The standard deviation is that of the absolute distances over all labeled columns, of the population (divided by
    their number, as NumPy's).

    Args:
        predicted: Predicted row of each surface in each column.
        target: Annotated row; may hold anything where not visible.
        visible: Which columns are labeled.
        spacing: Height of a row in the unit wanted: 1 for pixels, else millimeters or micrometers.
        validate: Check values (synchronizes with the device).

    Returns:
        :class:`SurfaceError`, float64 and int64. Not differentiable.

    Shapes:
        - **predicted**, **target**, **visible:** :math:`(B, K, W)`
        - **output:** three times :math:`(K)`, two scalars

    Raises:
        ValueError: If shapes or dtypes do not fit, a position is not finite where visible, or ``spacing`` is not
            positive.

    Example:
        >>> target = torch.zeros(1, 2, 2)
        >>> predicted = torch.tensor([[[1.0, -3.0], [2.0, 2.0]]])
        >>> error = surface_error(predicted, target, torch.ones(1, 2, 2, dtype=torch.bool))
        >>> error.mean.tolist(), error.std.tolist(), error.overall_mean.item()
        ([2.0, 2.0], [1.0, 0.0], 2.0)
    """
    if predicted.ndim != 3 or predicted.shape != target.shape:
        raise ValueError(
            f"`predicted` {list(predicted.shape)} and `target` {list(target.shape)} must both be [B, K, W]"
        )
    check_mask("visible", visible, predicted.shape)
    if isinstance(spacing, bool) or not isinstance(spacing, (int, float)) or not 0 < spacing < math.inf:
        raise ValueError(f"`spacing` (={spacing!r}) must be a number above 0 and finite")
    # A row is a position on one axis.
    rows, wanted = (x.detach().flatten(1).unsqueeze(2) for x in (predicted, target))
    distance = keypoint_error(rows, wanted, visible.flatten(1), validate=validate).double() * spacing
    distance = distance.view(visible.shape)
    num_columns = visible.sum(dim=(0, 2))
    mean = distance.sum(dim=(0, 2)) / num_columns
    overall = distance.sum() / num_columns.sum()
    away = torch.where(visible, distance - mean[:, None], 0.0).square().sum(dim=(0, 2))
    away_overall = torch.where(visible, distance - overall, 0.0).square().sum()
    return SurfaceError(
        mean,
        (away / num_columns).sqrt(),
        num_columns,
        overall,
        (away_overall / num_columns.sum()).sqrt(),
    )


def _check_per_shape(name: str, value: Tensor, visible: Tensor, needed: Tensor, validate: bool) -> None:
    if value.shape != visible.shape[:1]:
        raise ValueError(f"`{name}` {list(value.shape)} must be [{len(visible)}], one for each row of `visible`")
    check_floating(name, value)
    if checks(validate) and (needed & ~((value >= 0) & value.isfinite())).any():
        raise ValueError(f"`{name}` must be at least 0 and finite where it is needed")


def _check_sigmas(sigmas: Sequence[float], num_joints: int) -> None:
    if len(sigmas) != num_joints:
        raise ValueError(f"`sigmas` (={list(sigmas)}) must be {num_joints} numbers, one for each joint")
    if not all(0 < sigma < math.inf for sigma in sigmas):
        raise ValueError(f"`sigmas` (={list(sigmas)}) must be above 0 and finite")


def _coco_annotations(annotations: Path | str | Mapping[str, Any]) -> dict[str, Any]:
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
        missing = {"id", "image_id", "category_id", "bbox", "area", "keypoints", "num_keypoints"} - set(annotation)
        if missing:
            raise ValueError(f"`annotations` lacks {sorted(missing)} for the person at place {i}")
        if len(annotation["keypoints"]) != 3 * num_joints:
            raise ValueError(
                f"`annotations` has {len(annotation['keypoints'])} numbers as keypoints of the person at place {i}, "
                f"must be 3 for each of {num_joints} joints, as many as `sigmas`"
            )
    for i, result in enumerate(results):
        missing = {"image_id", "category_id", "keypoints", "score"} - set(result)
        if missing:
            raise ValueError(f"`results[{i}]` lacks {sorted(missing)}")
        for name, known in (("image_id", images), ("category_id", categories)):
            if result[name] not in known:
                raise ValueError(f"`results[{i}]` has {name} {result[name]!r}, which `annotations` do not have")
        if len(result["keypoints"]) != 3 * num_joints:
            raise ValueError(
                f"`results[{i}]` has {len(result['keypoints'])} numbers as keypoints, must be 3 for each of "
                f"{num_joints} joints"
            )
        if not all(map(math.isfinite, (*result["keypoints"], result["score"]))):
            raise ValueError(f"`results[{i}]` must have finite keypoints and score")
