"""pcsa: point-cloud sampling-argmax. Per-point scores to continuous, trainable keypoints."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pcsa import (
        bandwidth as bandwidth,
        certainty as certainty,
        datasets as datasets,
        distribution as distribution,
        exported as exported,
        grid as grid,
        localization as localization,
        losses as losses,
        metrics as metrics,
        models as models,
        neighbors as neighbors,
        sampling as sampling,
        schedules as schedules,
        scripts as scripts,
        skeleton as skeleton,
        tasks as tasks,
        viz as viz,
    )
    from pcsa.bandwidth import knn_bandwidth as knn_bandwidth, surface_bandwidth as surface_bandwidth
    from pcsa.certainty import expected_distance as expected_distance
    from pcsa.distribution import KeypointDistribution as KeypointDistribution
    from pcsa.localization import Localization as Localization, ball_mass as ball_mass, localize as localize
    from pcsa.sampling import (
        SamplingArgmax as SamplingArgmax,
        SoftArgmax as SoftArgmax,
        sampling_argmax as sampling_argmax,
        soft_argmax as soft_argmax,
    )
    from pcsa.schedules import TemperatureSchedule as TemperatureSchedule
    from pcsa.tasks.detectors.loading import load as load
else:
    # The same names, imported where they are first used: `import pcsa` then needs no torch, and `pcsa --help`
    # answers at once.
    _HOMES = {
        "KeypointDistribution": "distribution",
        "Localization": "localization",
        "SamplingArgmax": "sampling",
        "SoftArgmax": "sampling",
        "TemperatureSchedule": "schedules",
        "ball_mass": "localization",
        "expected_distance": "certainty",
        "knn_bandwidth": "bandwidth",
        "load": "tasks.detectors.loading",
        "localize": "localization",
        "sampling_argmax": "sampling",
        "soft_argmax": "sampling",
        "surface_bandwidth": "bandwidth",
    }
    _MODULES = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}

    def __getattr__(name):
        if name in _HOMES:
            value = getattr(importlib.import_module(f"pcsa.{_HOMES[name]}"), name)
        elif name in _MODULES:
            value = importlib.import_module(f"pcsa.{name}")
        else:
            raise AttributeError(f"module 'pcsa' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():
        return sorted([*_HOMES, *_MODULES, "__version__"])
