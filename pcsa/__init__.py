"""pcsa: point-cloud sampling-argmax. Per-point scores to continuous, trainable keypoints."""

from pcsa import grid as grid, losses as losses, neighbors as neighbors
from pcsa.bandwidth import knn_bandwidth as knn_bandwidth
from pcsa.localization import Localization as Localization, localize as localize
from pcsa.sampling import (
    SamplingArgmax as SamplingArgmax,
    SoftArgmax as SoftArgmax,
    sampling_argmax as sampling_argmax,
    soft_argmax as soft_argmax,
)
from pcsa.schedules import TemperatureSchedule as TemperatureSchedule

__version__ = "0.1.0"
