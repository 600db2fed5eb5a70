"""Distances along clouds that are kept as ratios, through every augmentation that a cloud may go through."""

from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Batch

from pcsa.datasets.transforms import Augment
from pcsa.metrics import geodesic_distances
from pcsa.tasks import get_task
from pcsa.tasks.common.clouds import open_annotated
from pcsa.tasks.common.detours import Detours, distance_along, open_detours, search
from pcsa.tasks.supervised import DetectionItems, ObjectiveConfig, SupervisedData, normalized


@pytest.fixture(scope="module")
def chairs(clouds_root):
    return open_annotated(SupervisedData(root=clouds_root), "train")


def along(items):
    """Distances of a batch as the loss finds them, and as a search in the very same clouds does."""
    batch = Batch.from_data_list(items)
    found = distance_along(batch.detour, batch.pos, batch.keypoints, batch.ptr)
    wanted = []
    for item in items:
        distances = torch.zeros(item.num_nodes, item.visible.shape[1])
        for k in item.visible[0].nonzero()[:, 0]:
            row = (item.pos - item.keypoints[0, k]).norm(dim=1).argmin()
            distances[:, k] = geodesic_distances(item.pos, row[None])[0]
        wanted.append(distances)
    visible = batch.visible.repeat_interleave(batch.ptr.diff(), 0)
    return found[visible], torch.cat(wanted)[visible]


@pytest.mark.parametrize(
    "augment",
    [Augment(), Augment(mirror=1.0), Augment(rotate=180.0, scale=0.3, shift=0.2)],
    ids=lambda a: f"{a.mirror}",
)
def test_they_are_those_of_the_augmented_cloud(chairs, augment):
    items = DetectionItems(chairs, augment, 0, None, open_detours(chairs))
    found, wanted = along([items.varied(i, torch.Generator().manual_seed(i)) for i in range(3)])
    assert found.isfinite().all()
    # Kept in half precision.
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=1e-5)
    assert (found == 0).sum() >= 3


def test_a_cloud_stretched_along_one_axis_changes_them_little(chairs):
    items = DetectionItems(chairs, Augment(axis_scale=0.15), 0, None, open_detours(chairs))
    found, wanted = along([items.varied(i, torch.Generator().manual_seed(i)) for i in range(3)])
    near = (wanted > 0) & (wanted < 0.5)
    assert (found - wanted)[near].abs().mean() < 0.02 * wanted[near].mean()


def test_points_that_are_dropped_take_theirs_along(chairs):
    items = DetectionItems(chairs, Augment(drop=0.5, resample=100), 0, None, open_detours(chairs))
    whole = DetectionItems(chairs, Augment(), 0, None, open_detours(chairs)).varied(0, torch.Generator())
    part = items.varied(0, torch.Generator().manual_seed(0))
    assert part.detour.shape == (100, chairs.num_keypoints)
    rows = torch.cdist(part.pos, whole.pos, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    assert torch.equal(part.detour, whole.detour[rows])


def test_a_search_is_done_once(chairs, monkeypatch):
    first = open_detours(chairs)
    monkeypatch.setattr("pcsa.tasks.common.detours.search", lambda clouds: pytest.fail("searches again"))
    again = open_detours(chairs)
    data = normalized(chairs[2])
    assert torch.equal(first.attach(data, 2).detour, again.attach(data, 2).detour)
    assert "detour" not in data
    with pytest.raises(ValueError, match=r"`data` has 256 points, cloud 0 has 10"):
        Detours({"detour": torch.ones(10, 2).numpy(), "ptr": torch.tensor([0, 10]).numpy()}).attach(data, 0)


def test_copies_of_a_point_parts_out_of_reach_and_missing_keypoints(chairs):
    cloud = chairs[0].clone()
    # A second part, far off, a copy of the first keypoint, and no second keypoint.
    cloud.pos = torch.cat([cloud.pos, cloud.pos + 100, cloud.keypoints[0, :1]])
    cloud.keypoint_index[0, 1] = -1
    detour = torch.from_numpy(search([cloud])["detour"])
    assert detour[-1, 0] == 1
    assert detour[256:512, 0].isinf().all()
    assert (detour[:, 1] == 1).all()
    assert (detour >= 1).all()
    far = distance_along(detour.float(), cloud.pos, cloud.keypoints, torch.tensor([0, len(cloud.pos)]))
    assert far[-1, 0] == 0
    assert not far.isnan().any()


def test_a_training_searches_only_where_its_labels_go_along_the_surface(tiny):
    config = tiny("supervised")
    for objective, wanted in [
        (ObjectiveConfig(method="soft_label"), False),
        (ObjectiveConfig(label_distance="geodesic"), False),
        (ObjectiveConfig(plus=(("soft_label", 1.0),), label_distance="geodesic"), True),
    ]:
        training = get_task("supervised").training(replace(config, objective=objective))
        item = training.data.train_items.varied(0, torch.Generator())
        assert ("detour" in item) == wanted


def test_maps_have_no_surface(tiny):
    config = tiny("pose2d")
    with pytest.raises(ValueError, match=r"`objective\.label_distance` \(='geodesic'\) must be 'euclidean'"):
        replace(config, objective=replace(config.objective, label_distance="geodesic"))
