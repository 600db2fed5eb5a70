"""What is special to poses in three dimensions: volumes, and images whose joints have a depth."""

from dataclasses import replace

import pytest
import torch

from pcsa.tasks import get_task
from pcsa.tasks.common.maps import MapLabels
from pcsa.tasks.pose3d import Pose3dConfig, Pose3dData

TASK = get_task("pose3d")


@pytest.mark.parametrize(
    ("data", "image", "shape"),
    [
        # 64 pixels of depth in 16 cells, 4 pixels a cell on the other axes.
        (Pose3dData(procedural="image", input_size=(64, 32, 24)), (3, 32, 24), (16, 8, 6)),
        (Pose3dData(input_size=(16, 16, 16)), (1, 16, 16, 16), (8, 8, 8)),
    ],
    ids=["image", "volume"],
)
def test_networks_that_configurations_describe(data, image, shape):
    network = TASK.build(Pose3dConfig(data=data), MapLabels(("a", "b", "c", "d", "e"))).eval()
    with torch.no_grad():
        assert network(torch.rand(1, *image))["logits"].shape == (1, 5, *shape)


def test_volumes_are_not_mirrored():
    assert TASK.mirrors(Pose3dConfig(data=Pose3dData(procedural="image")))
    assert not TASK.mirrors(Pose3dConfig())


@pytest.mark.parametrize(
    ("name", "section", "values", "message"),
    [
        ("pose3d", "data", {"num_items": 0}, r"`data.num_items` \(=0\) must be at least 1"),
        ("pose3d", "data", {"input_size": (-4, 8, 8)}, r"`data.input_size` \(=\(-4, 8, 8\)\) must be at least 1"),
        ("pose3d-image", "model", {"network": "unet"}, r"`model.network` \(='unet'\) must be 'simple_pose' for images"),
        ("pose3d-unet", "data", {"procedural": "image"}, r"`model.network` \(='unet'\) must be 'simple_pose'"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(tiny, name, section, values, message):
    config = tiny(name)
    with pytest.raises(ValueError, match=message):
        replace(config, **{section: replace(getattr(config, section), **values)})
