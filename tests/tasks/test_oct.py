"""What is special to retinal surfaces: every column is an item of its own, and surfaces come in order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa.models.surface_unet import SurfaceUNet
from pcsa.tasks import get_task
from pcsa.tasks.oct import OctConfig, OctData, columns_of

TASK = get_task("oct")


def test_columns_are_items_of_their_own():
    values = torch.arange(24).view(2, 3, 4)  # two scans, three surfaces, four columns
    columns = columns_of(values)
    assert columns.shape == (8, 3)
    assert columns[0].tolist() == [0, 4, 8]
    assert columns[5].tolist() == [13, 17, 21]  # column 1 of scan 1
    maps = torch.arange(2 * 3 * 5 * 4).view(2, 3, 5, 4)
    columns = columns_of(maps)
    assert columns.shape == (8, 3, 5)
    assert torch.equal(columns[6], maps[1, :, :, 2])


class _Surfaces(SurfaceUNet):
    """Surfaces of given rows."""

    def __init__(self, rows, height):
        super().__init__(len(rows), channels=(4, 8))
        self.maps = torch.full((1, len(rows), height, rows.shape[1]), -1000.0)
        self.maps.scatter_(2, rows[None, :, None], 0.0)

    def forward(self, image):
        return {"logits": self.maps.expand(len(image), -1, -1, -1)}


def test_surfaces_come_in_order():
    rows = torch.tensor([[1, 2, 5], [3, 1, 4], [6, 6, 2]])  # columns 1 and 2 are not in order
    found = TASK.locate(OctConfig(), _Surfaces(rows, 8), torch.zeros(2, 1, 8, 3))
    assert found.position.shape == found.peak.shape == (2, 3, 3)
    torch.testing.assert_close(found.position[1], torch.tensor([[1.0, 2, 5], [3, 2, 5], [6, 6, 5]]))
    torch.testing.assert_close(found.peak, torch.ones(2, 3, 3))


def test_targets_and_errors_are_of_columns():
    boundaries = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]])
    batch = {"boundaries": boundaries, "visible": torch.tensor([[[True, True], [False, True]]])}
    rows = torch.tensor([[1, 2], [4, 4]])
    maps, target, visible = TASK.targets(OctConfig(), batch, torch.zeros(1, 2, 8, 2))
    assert maps.shape == (2, 2, 8)
    assert target.tolist() == [[[1.0], [3.0]], [[2.0], [5.0]]]
    assert visible.tolist() == [[True, False], [True, True]]
    found = TASK.locate(OctConfig(), _Surfaces(rows, 8), torch.zeros(1, 1, 8, 2))
    distance, counted = TASK.errors(batch, found)
    torch.testing.assert_close(distance, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    assert torch.equal(counted, visible)
    assert not TASK.mirrors(OctConfig())


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("data", {"num_scans": -1}, r"`data.num_scans` \(=-1\) must be at least 1"),
        ("data", {"layout": "mshc"}, r"`data.layout` \(='mshc'\) must come with `data.root`"),
        ("data", {"value_range": (0, 255)}, r"`data.value_range` \(=\(0, 255\)\) must come with `data.root`"),
        (
            "data",
            {"root": Path("a"), "value_range": (2, 1)},
            r"`data.value_range` \(=\(2, 1\)\) must be finite, and rise",
        ),
        (
            "data",
            {"root": Path("a"), "layout": "mshc", "value_range": (0, 1)},
            "must not be given with `data.layout` 'mshc'",
        ),
        ("data", {"root": Path("a"), "train_columns": (0, 9)}, "must be given both or neither"),
        ("data", {"train_columns": (0, 9), "test_columns": (9, 12)}, "with a `data.root` of scans as arrays"),
        (
            *("data", {"root": Path("a"), "train_columns": (0, 9), "test_columns": (8, 12)}),
            r"`data.test_columns` \(=\(8, 12\)\) must have no column of `data.train_columns`",
        ),
        ("objective", {"form": "released"}, r"`objective.form` \(='released'\) must be 'paper' for surfaces"),
        ("objective", {"regularization_sigma": 0.0}, r"`objective.regularization_sigma` \(=0.0\)"),
        ("objective", {"regularization_weight": -1.0}, r"`objective.regularization_weight` \(=-1.0\)"),
        ("objective", {"method": "mixture", "norm": "l2"}, r"`objective.norm` \(='l2'\) has no closed form"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(section, values, message):
    config = OctConfig()
    with pytest.raises(ValueError, match=message):
        replace(config, **{section: replace(getattr(config, section), **values)})


def test_what_files_count_from_and_stand_for_is_configured(tmp_path):
    deep = np.random.default_rng(0).integers(0, 4096, (40, 32)).astype(np.uint16)
    np.savez(tmp_path / "a.npz", image=deep, boundaries=np.full((2, 32), 8.0) + [[0], [6]])
    data = OctData(root=tmp_path, input_size=(40, 8), value_range=(0, 4095), one_based=True)
    source = TASK.open(OctConfig(data=data), "train").source(0)
    assert source["boundaries"][:, 0].tolist() == [7, 13]
    np.testing.assert_allclose(source["image"][0], deep[:, : source["image"].shape[2]] / 4095, rtol=1e-6)
    assert TASK.open(OctConfig(data=replace(data, one_based=None)), "train").source(0)["boundaries"][0, 0] == 8
