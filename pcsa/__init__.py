"""pcsa: point-cloud sampling-argmax. Per-point scores to continuous, trainable keypoints."""

from pcsa import grid as grid
from pcsa import losses as losses
from pcsa import neighbors as neighbors
from pcsa.bandwidth import knn_bandwidth as knn_bandwidth
from pcsa.localization import Localization as Localization
from pcsa.localization import localize as localize
from pcsa.sampling import (
    SamplingArgmax as SamplingArgmax,
)
from pcsa.sampling import (
    SoftArgmax as SoftArgmax,
)
from pcsa.sampling import (
    sampling_argmax as sampling_argmax,
)
from pcsa.sampling import (
    soft_argmax as soft_argmax,
)
from pcsa.schedules import TemperatureSchedule as TemperatureSchedule

__version__ = "0.1.0"
