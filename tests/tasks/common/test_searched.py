"""Searches that a graph can hold find what the library's own find."""

import pytest
import torch

import pcsa
from pcsa.models import MULTI_SCALE, SINGLE_SCALE, KeypointDetector, Level, PointNet2, SkeletonMerger, build_geometry
from pcsa.tasks.common.clouds import locate
from pcsa.tasks.common.programs import ReadingOf, Searched, Searching, normalized, packed
from pcsa.tasks.common.searched import search_all

KEEPS_ALL = (Level(None, (0.3,), (8,), ((4,),)), Level(20, (0.5,), (8,), ((4,),)))


def cloud(n):
    points = 3 * torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) + 5
    if n > 5:
        points[n // 2 : n // 2 + 3] = points[0]
    return points


@pytest.mark.parametrize("n", [1, 2, 20, 130, 700])
def test_levels_and_bandwidths(n):
    pos = cloud(n) / 10
    ptr = torch.tensor([0, n])
    geometry, bandwidth = search_all(pos, SINGLE_SCALE, 6)
    torch.testing.assert_close(bandwidth, pcsa.knn_bandwidth(pos, ptr=ptr))
    for mine, theirs in zip(geometry, build_geometry(pos, ptr, SINGLE_SCALE, 6), strict=True):
        kept = len(theirs.index)
        assert torch.equal(mine.index[:kept], theirs.index)
        # What is left of the level repeats its first point.
        assert (mine.index[kept:] == 0).all()
        assert mine.inside[:kept].sum() == theirs.inside.sum()


@pytest.mark.parametrize("levels", [SINGLE_SCALE, MULTI_SCALE, KEEPS_ALL])
@pytest.mark.parametrize("frame", ["unit_sphere", "min_max"])
def test_programs_find_what_the_library_finds(levels, frame):
    torch.manual_seed(0)
    network = KeypointDetector(PointNet2(levels=levels, out_channels=8, local_blocks=1), 3).eval()
    reading = ReadingOf(frame, "local", 0.5, 2.0)
    alone, several = Searching(network, reading).eval(), Searched(network, reading).eval()
    for sizes in ([1], [30], [2, 300, 45]):
        clouds = [cloud(n) for n in sizes]
        found = locate(network, [x.double() for x in clouds], frame, "local", 0.5, temperature=2.0)
        expected = [found.position, found.covariance, found.confidence, found.entropy]
        expected += [found.outputs["presence"].sigmoid(), torch.cat(found.logits)]
        points, ptr = torch.cat(clouds), torch.tensor([0, *sizes]).cumsum(0)
        batch = torch.searchsorted(ptr, torch.arange(len(points)), right=True) - 1
        pos = normalized(points, batch, ptr, frame)[0]
        geometry = packed(build_geometry(pos, ptr, levels, 16), levels, True)
        with torch.no_grad():
            together = several(points, ptr, pcsa.knn_bandwidth(pos, ptr=ptr), *geometry)
            each = [torch.cat(part) for part in zip(*(alone(x) for x in clouds), strict=True)]
        for one, other, value in zip(each, together, expected, strict=True):
            for mine in (one, other):
                torch.testing.assert_close(mine.double(), value.double(), rtol=1e-4, atol=2e-5)


def test_clouds_far_off_and_without_extent():
    for points in (torch.full((5, 3), 7.0), torch.rand(50, 3) + torch.tensor([3000.0, 0.0, -80.0])):
        ptr, batch = torch.tensor([0, len(points)]), torch.zeros(len(points), dtype=torch.long)
        for frame in ("unit_sphere", "min_max"):
            from torch_geometric.data import Data

            from pcsa.datasets.transforms import Normalize

            expected = Normalize(frame)(Data(pos=points.double()))
            pos, offset, scale = normalized(points, batch, ptr, frame)
            torch.testing.assert_close(pos, expected.pos)
            torch.testing.assert_close(offset, expected.offset)
            torch.testing.assert_close(scale, expected.scale)


def test_a_skeleton_merger():
    torch.manual_seed(0)
    network = SkeletonMerger(PointNet2(3, out_channels=8), 4, box_features=True, anchors=torch.rand(4, 3)).eval()
    points = cloud(90)
    with torch.no_grad():
        found = Searching(network, ReadingOf("min_max", "expectation", None, 1.0)).eval()(points)
    expected = locate(network, [points.double()], "min_max", "expectation")
    torch.testing.assert_close(found[0].double(), expected.position, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[4], expected.outputs["activation"])
