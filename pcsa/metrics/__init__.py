"""Scores of predicted keypoints: functions on tensors, and torchmetrics modules that accumulate and sync them.

Distances and thresholds are in the units of the positions that the caller passes. Pass the dataset's own
units (undo the normalization first): thresholds such as PCK@0.01 mean nothing else.
"""

from typing import TYPE_CHECKING

from pcsa.metrics.alignment import (
    DualAlignment as DualAlignment,
    alignment_per_shape as alignment_per_shape,
    dual_alignment as dual_alignment,
)
from pcsa.metrics.bootstrap import Interval as Interval, paired_bootstrap as paired_bootstrap
from pcsa.metrics.calibration import (
    ReliabilityCurve as ReliabilityCurve,
    confidence_correlation as confidence_correlation,
    reliability_curve as reliability_curve,
)
from pcsa.metrics.coco import (
    COCO_SIGMAS as COCO_SIGMAS,
    coco_average_precision as coco_average_precision,
    object_keypoint_similarity as object_keypoint_similarity,
)
from pcsa.metrics.confusion import Confusion as Confusion, confused_keypoints as confused_keypoints
from pcsa.metrics.correct_keypoints import THRESHOLDS as THRESHOLDS, pck as pck
from pcsa.metrics.ellipsoids import (
    SpreadCorrelation as SpreadCorrelation,
    covariance_factor as covariance_factor,
    ellipsoid_coverage as ellipsoid_coverage,
    gaussian_log_likelihood as gaussian_log_likelihood,
    mixture_log_likelihood as mixture_log_likelihood,
    pooled_covariance as pooled_covariance,
    spread_correlation as spread_correlation,
)
from pcsa.metrics.errors import (
    CountedError as CountedError,
    failure_rate as failure_rate,
    keypoint_error as keypoint_error,
    mean_error as mean_error,
)
from pcsa.metrics.floors import (
    collapsed_keypoints as collapsed_keypoints,
    from_box as from_box,
    random_keypoints as random_keypoints,
    template_keypoints as template_keypoints,
    to_box as to_box,
)
from pcsa.metrics.geodesic import geodesic_distances as geodesic_distances, geodesic_error as geodesic_error
from pcsa.metrics.miou import (
    geodesic_keypoint_distances as geodesic_keypoint_distances,
    keypoint_distances as keypoint_distances,
    keypoint_miou as keypoint_miou,
)
from pcsa.metrics.normalized import (
    SegmentLength as SegmentLength,
    normalized_error as normalized_error,
    segment_length as segment_length,
)
from pcsa.metrics.poses import mpjpe as mpjpe, pa_mpjpe as pa_mpjpe, procrustes_align as procrustes_align
from pcsa.metrics.presence import presence_average_precision as presence_average_precision
from pcsa.metrics.raters import rater_error as rater_error
from pcsa.metrics.registration import Registration as Registration, register_cloud as register_cloud
from pcsa.metrics.selection import (
    RiskCoverage as RiskCoverage,
    area_under_risk_coverage as area_under_risk_coverage,
    expected_calibration_error as expected_calibration_error,
    risk_coverage as risk_coverage,
    shape_interval as shape_interval,
)
from pcsa.metrics.shape_floors import (
    MeanShape as MeanShape,
    NearestShape as NearestShape,
    TrainingShapes as TrainingShapes,
    mean_shape as mean_shape,
    mean_shape_keypoints as mean_shape_keypoints,
    nearest_shape_keypoints as nearest_shape_keypoints,
)
from pcsa.metrics.spread import (
    Separation as Separation,
    coverage as coverage,
    inclusivity as inclusivity,
    separation as separation,
)
from pcsa.metrics.stability import repeatability as repeatability
from pcsa.metrics.surfaces import SurfaceError as SurfaceError, surface_error as surface_error
from pcsa.metrics.symmetry import SymmetricError as SymmetricError, symmetric_error as symmetric_error
from pcsa.metrics.temperature import fit_temperature as fit_temperature

if TYPE_CHECKING:
    from pcsa.metrics.modules import (
        PCK as PCK,
        KeypointMetrics as KeypointMetrics,
        MeanKeypointError as MeanKeypointError,
    )
else:

    def __getattr__(name):
        # torchmetrics takes seconds to import, and a plain `pip install pcsa` does not bring it.
        if name in ("PCK", "KeypointMetrics", "MeanKeypointError"):
            from pcsa.metrics import modules

            return getattr(modules, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
