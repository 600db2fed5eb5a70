import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest
import torch

import pcsa.metrics

MODULES = sorted(module.name for module in pkgutil.iter_modules(pcsa.metrics.__path__))
WITHOUT_EXAMPLES = {"modules", "per_shape", "symmetry"}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"pcsa.metrics.{name}")
    done = doctest.testmod(module, extraglobs={"torch": torch})
    assert done.failed == 0
    assert bool(done.attempted) == (name not in WITHOUT_EXAMPLES)


@pytest.mark.slow
def test_torchmetrics_is_imported_for_modules_alone():
    code = (
        "import sys, pcsa.metrics as m; assert 'torchmetrics' not in sys.modules; "
        "m.pck, m.PCK, m.KeypointMetrics, m.MeanKeypointError; assert 'torchmetrics' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Calibration'"):
        pcsa.metrics.Calibration  # noqa: B018
