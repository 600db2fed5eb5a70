"""Distances of the surfaces of retinal scans."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import check_mask, check_positive
from pcsa.metrics.errors import keypoint_error


class SurfaceError(NamedTuple):
    """Absolute distances along the columns, from :func:`surface_error`.

    Attributes:
        mean: Mean absolute distance of each surface; NaN if it is labeled in no column.
        std: Standard deviation of the absolute distance over the columns; NaN if no column is labeled.
        num_columns: Number of labeled columns.
        overall_mean: Mean over the labeled columns of all surfaces.
        overall_std: Standard deviation over the labeled columns of all surfaces.
    """

    mean: Float[Tensor, " K"]
    std: Float[Tensor, " K"]
    num_columns: Int[Tensor, " K"]
    overall_mean: Float[Tensor, ""]
    overall_std: Float[Tensor, ""]


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
    The standard deviation is that of the absolute distances over all labeled columns, divided by their number (as
    NumPy's).

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
    check_positive("spacing", spacing)
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
