"""What tells two runs of a study apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from pcsa.scripts.reproduce.digests import ROOT, digest, shown_config
from pcsa.tasks.supervised import SupervisedConfig

CONFIG = SupervisedConfig()


def key(config):
    return digest("supervised", "val", shown_config(config), "1")


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, out=Path("elsewhere"), resume=True),
        replace(CONFIG, trainer=replace(CONFIG.trainer, accelerator="cpu", num_workers=3, progress=False)),
        # That launches the same kernels.
        replace(CONFIG, trainer=replace(CONFIG.trainer, cuda_graph=False, save_seconds=0.0)),
    ],
)
def test_what_changes_no_number(other):
    assert key(other) == key(CONFIG)


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, seed=1),
        replace(CONFIG, trainer=replace(CONFIG.trainer, precision="bf16-mixed")),
        replace(CONFIG, optimizer=replace(CONFIG.optimizer, lr=0.1)),
        replace(CONFIG, data=replace(CONFIG.data, fold=0)),
        replace(CONFIG, data=replace(CONFIG.data, root=Path("a"))),
    ],
)
def test_what_changes_some(other):
    assert key(other) != key(CONFIG)


def test_a_root_is_the_same_data_wherever_it_lies():
    here, there = (replace(CONFIG, data=replace(CONFIG.data, root=Path(root))) for root in ("/here", "there"))
    assert key(here) == key(there)
    assert shown_config(here)["data"]["root"] == ROOT


def test_what_a_row_lacks_has_its_default_and_what_there_is_no_more_is_another_run():
    old = shown_config(CONFIG)
    del old["data"]["num_folds"]
    assert digest("supervised", "val", old, "1") == key(CONFIG)
    old["data"]["gone"] = 3
    assert digest("supervised", "val", old, "1") != key(CONFIG)
    assert digest("supervised", "test", shown_config(CONFIG), "1") != key(CONFIG)
    assert digest("supervised", "val", shown_config(CONFIG), "2") != key(CONFIG)
