"""What a row says of the devices of its run."""

from dataclasses import replace
from pathlib import Path

import pytest

from pcsa.scripts.reproduce.devices import device_option, note_device, said_devices
from pcsa.tasks.supervised import SupervisedConfig


@pytest.fixture
def on(monkeypatch, tmp_path):
    """A configuration, and what makes this machine one with an accelerator, or one without."""
    config = replace(SupervisedConfig(), out=tmp_path / "run")

    def here(gpu):
        monkeypatch.setattr("torch.cuda.is_available", lambda: gpu is not None)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda: gpu)
        monkeypatch.setattr("torch.get_num_threads", lambda: 3)
        monkeypatch.setattr("platform.machine", lambda: "x86")

    return config, here


@pytest.mark.parametrize(
    ("accelerator", "device"), [("auto", "auto"), ("cpu", "cpu"), ("gpu", "cuda"), ("cuda", "cuda"), ("tpu", "auto")]
)
def test_scores_are_made_where_trainings_are(accelerator, device):
    config = SupervisedConfig()
    assert device_option(replace(config, trainer=replace(config.trainer, accelerator=accelerator))) == device


def test_a_run_says_all_devices_it_was_trained_on_and_where_it_is_scored(on):
    config, here = on
    here("H100")
    note_device(config)
    note_device(config)
    assert said_devices([config]) == "H100"
    here(None)
    # Trained there, scored here.
    assert said_devices([config]) == "H100; scored on x86"
    # It was cut off there, and goes on here.
    note_device(config)
    assert said_devices([config]) == "H100 and x86, 3 threads; scored on x86"


def test_without_notes_it_is_this_device(on):
    config, here = on
    other = replace(config, out=Path("elsewhere"))
    here("H100")
    assert said_devices([other]) == "H100"
    assert said_devices([config, other]) == "H100"
    cpu = replace(config, trainer=replace(config.trainer, accelerator="cpu"))
    assert said_devices([cpu]) == "x86, 3 threads"
