"""What is searched once serves every augmentation that leaves distances in proportion, and no other."""

import dataclasses
import math

import pytest
import torch
from torch_geometric.data import Batch

import pcsa
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.procedural import generate
from pcsa.datasets.transforms import Augment, Normalize, item_generator, resample_points
from pcsa.models.pointnet2 import Level, LevelGeometry, PointNet2, build_geometry
from pcsa.tasks.common import precompute
from pcsa.tasks.common.precompute import Hierarchies, geometry_of, open_hierarchies, search

# The second ball's scales differ, the third level keeps every point, and the last more than a small cloud has.
LEVELS = (
    Level(64, (0.3,), (12,), ((8, 16),)),
    Level(24, (0.4, 0.8), (6, 12), ((8, 16), (8, 12))),
    Level(None, (0.8,), (8,), ((8, 16),)),
    Level(20, (1.0,), (8,), ((8, 16),)),
)
NORMALIZE = Normalize("unit_sphere")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = generate(tmp_path_factory.mktemp("chairs"), "chair", 4)
    return KeypointNet(root, "chair", "all")


@pytest.fixture(scope="module")
def clouds(dataset):
    """Four clouds of different sizes in float64, where rounding makes no other point the nearest."""
    items = [resample_points(NORMALIZE(dataset[i]), item_generator(0, 0, i), 150 + 40 * i) for i in range(4)]
    for item in items:
        item.pos, item.keypoints = item.pos.double(), item.keypoints.double()
    return items


@pytest.fixture(scope="module")
def hierarchies(clouds):
    return Hierarchies(search([cloud.pos for cloud in clouds], LEVELS))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return PointNet2(levels=LEVELS, out_channels=8, norm="group").double()


def test_a_batch_has_the_rows_of_a_search_in_the_batch(clouds, hierarchies, monkeypatch):
    monkeypatch.setattr(precompute, "_CHUNK", 3)  # the last of four clouds is searched for in a chunk of its own
    for kept in (hierarchies, Hierarchies(search([cloud.pos for cloud in clouds], LEVELS))):
        # Another order than they were searched in, one of them twice.
        batch = Batch.from_data_list([kept.attach(clouds[i], i) for i in (2, 0, 3, 2)])
        geometry = geometry_of(batch)
        expected = build_geometry(batch.pos, batch.ptr, LEVELS)
        assert len(geometry) == len(LEVELS)
        for level, other in zip(geometry, expected, strict=True):
            for name, a, b in zip(LevelGeometry._fields, level, other, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=name)
        torch.testing.assert_close(batch.bandwidth, pcsa.knn_bandwidth(batch.pos, ptr=batch.ptr))
    assert geometry_of(Batch.from_data_list(clouds)) is None


@pytest.mark.parametrize(
    "augment",
    [
        Augment(mirror=1.0),
        Augment(rotate=180.0),
        Augment(shift=0.5),
        Augment(scale=0.5),
        Augment(mirror=0.5, rotate=180.0, scale=0.3, shift=0.2),
    ],
    ids=["mirror", "rotate", "shift", "scale", "all"],
)
def test_network_agrees_with_a_search_in_the_augmented_clouds(clouds, hierarchies, net, augment):
    items = []
    for i, cloud in enumerate(clouds):
        item = augment(hierarchies.attach(cloud, i), item_generator(0, 1, i))
        assert (item.pos - cloud.pos).abs().max() > 1e-2
        # How the cloud was scaled, from its positions alone: the radii are scaled with it.
        factor = float((item.pos - item.pos.mean(0)).norm() / (cloud.pos - cloud.pos.mean(0)).norm())
        levels = [dataclasses.replace(x, radii=tuple(r * factor for r in x.radii)) for x in LEVELS]
        ptr = torch.tensor([0, item.num_nodes])
        searched = net(None, item.pos, ptr=ptr, geometry=build_geometry(item.pos, ptr, levels))
        items.append((item, searched))
        torch.testing.assert_close(item.bandwidth, pcsa.knn_bandwidth(item.pos))
        assert (math.isclose(factor, 1.0, rel_tol=1e-6)) == (augment.scale == 0)
    batch = Batch.from_data_list([item for item, _ in items])
    kept = net(None, batch.pos, ptr=batch.ptr, geometry=geometry_of(batch))
    assert kept.std() > 0.01
    torch.testing.assert_close(kept, torch.cat([searched for _, searched in items]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("option", ["axis_scale", "jitter", "drop", "resample"])
def test_a_deformed_cloud_is_refused_for_its_neighbors_are_others(clouds, hierarchies, net, option):
    augment = Augment(**{option: 40 if option == "resample" else 0.2})
    assert augment.deforming == (option,)
    item = hierarchies.attach(clouds[0], 0)
    with pytest.raises(ValueError, match=rf"`{option}` \(={getattr(augment, option)}\) must be 0 .*neighbors"):
        augment(item, item_generator(0, 0, 0))
    deformed = augment(clouds[0], item_generator(0, 0, 0))
    if deformed.num_nodes == item.num_nodes:
        # Why: the network would see something else than the cloud that it is given.
        stale = net(None, deformed.pos, geometry=geometry_of(Batch.from_data_list([item])))
        assert (stale - net(None, deformed.pos)).abs().max() > 1e-3


def test_neighbors_of_local_blocks(clouds, hierarchies):
    torch.manual_seed(0)
    net = PointNet2(levels=LEVELS, out_channels=8, norm="group", local_blocks=2, local_neighbors=7).double()
    kept = Hierarchies(search([cloud.pos for cloud in clouds], LEVELS, 7))
    # Mirrored and turned: the nearest points stay the same.
    augment = Augment(mirror=1.0, rotate=180.0, shift=0.2)
    items = [augment(kept.attach(clouds[i], i), item_generator(0, 1, i)) for i in (2, 0, 3, 2)]
    batch = Batch.from_data_list(items)
    geometry = geometry_of(batch)
    expected = build_geometry(batch.pos, batch.ptr, LEVELS, 7)
    assert [level.around.shape[1] for level in geometry] == [7, 0, 0, 0]
    assert torch.equal(geometry[0].around, expected[0].around)
    out = net(None, batch.pos, ptr=batch.ptr, geometry=geometry)
    torch.testing.assert_close(out, net(None, batch.pos, ptr=batch.ptr), rtol=1e-8, atol=1e-8)
    without = geometry_of(Batch.from_data_list([hierarchies.attach(clouds[0], 0)]))
    with pytest.raises(ValueError, match=r"`geometry` must be built with `local_neighbors` \(=7\)"):
        net(None, clouds[0].pos, geometry=without)


def test_another_cloud_is_refused(clouds, hierarchies):
    with pytest.raises(ValueError, match="`data` has 190 points, cloud 0 has 150"):
        hierarchies.attach(clouds[1], 0)


def test_what_was_found_is_read_again(dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("PCSA_CACHE_DIR", str(tmp_path / "cache"))
    first = open_hierarchies(dataset, NORMALIZE, LEVELS).attach(NORMALIZE(dataset[1]), 1)
    files = set((tmp_path / "cache" / "arrays").glob("*.npz"))
    assert len(files) == 1

    def searches(*_):
        raise RuntimeError("searches")

    monkeypatch.setattr(precompute, "search", searches)
    again = open_hierarchies(dataset, NORMALIZE, LEVELS).attach(NORMALIZE(dataset[1]), 1)
    assert all(torch.equal(first[k], again[k]) for k in first.keys() if isinstance(first[k], torch.Tensor))  # noqa: SIM118
    file = next(path for path in files if "neighbors" in path.name)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError, match="searches"):
        open_hierarchies(dataset, NORMALIZE, LEVELS)
    file.write_bytes(whole)
    for changed in (LEVELS[:1], (dataclasses.replace(LEVELS[0], radii=(0.2,)), *LEVELS[1:])):
        with pytest.raises(RuntimeError, match="searches"):
            open_hierarchies(dataset, NORMALIZE, changed)
    with pytest.raises(RuntimeError, match="searches"):
        open_hierarchies(dataset, Normalize("unit_box"), LEVELS)
