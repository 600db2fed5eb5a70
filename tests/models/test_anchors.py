"""Places that clouds have in common, against loops over their points."""

import pytest
import torch

from pcsa.models.anchors import cloud_corners, find_anchors, repeated_places


def cube(num_points=600, seed=0, **options):
    """Points on the faces of a cube from -1 to 1, its eight corners among them."""
    g = torch.Generator().manual_seed(seed)
    points = torch.rand(num_points, 3, generator=g) * 2 - 1
    rows, axis = torch.arange(num_points), torch.randint(3, (num_points,), generator=g)
    points[rows, axis] = points[rows, axis].sign()
    return torch.cat([CORNERS, points])


CORNERS = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)


def test_corners_agree_with_a_loop_over_points():
    cloud = torch.rand(80, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    strength, near = [], []
    for x in cloud:
        own = [j for j, y in enumerate(cloud) if (x - y).norm() <= 0.7]
        near.append(own)
        strength.append((sum(cloud[j] for j in own) / len(own) - x).norm().item())
    rows = [i for i in range(80) if all(strength[i] >= strength[j] - 1e-7 for j in near[i])]
    rows.sort(key=lambda i: -strength[i])
    torch.testing.assert_close(cloud_corners(cloud, 0.7, 100), cloud[rows])
    torch.testing.assert_close(cloud_corners(cloud, 0.7, 3), cloud[rows[:3]])


def test_corners_of_a_cube_are_its_eight():
    found = cloud_corners(cube(), most=8)
    away = torch.cdist(found, CORNERS)
    assert sorted(away.argmin(1).tolist()) == list(range(8))
    assert away.amin(1).max() < 0.15
    assert len(cloud_corners(torch.zeros(1, 3))) == 1
    # Points that coincide are all as strong as each other, and as many as are wanted at most.
    assert len(cloud_corners(torch.zeros(50, 3), most=7)) == 7


def test_places_that_most_clouds_repeat_come_first():
    g = torch.Generator().manual_seed(0)
    common, rare = torch.tensor([[0.9, 0.0, 0.0], [-0.9, 0.0, 0.0]]), torch.tensor([[0.0, 0.9, 0.0]])
    clouds = [common[:1] + 0.05 * torch.randn(1, 3, generator=g) for _ in range(9)]
    clouds = [torch.cat([c, common[1:]]) if i < 6 else c for i, c in enumerate(clouds)]
    clouds[0] = torch.cat([clouds[0], *[rare] * 30])  # often, but in one cloud
    places = repeated_places(clouds, 3)
    assert torch.cdist(places, torch.cat([common, rare])).argmin(1).tolist() == [0, 1, 2]
    # The first is the mean of what is around it.
    torch.testing.assert_close(places[0], torch.cat([c[:1] for c in clouds]).mean(0), atol=0.02, rtol=0)
    # More places than there are: some lie nearer to each other.
    assert repeated_places(clouds, 5).shape == (5, 3)
    assert repeated_places([torch.zeros(1, 3)], 2).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("kind", ["corners", "farthest", "repeated"])
def test_anchors_depend_on_nothing_else(kind):
    clouds = [cube(seed=s) for s in range(3)]
    anchors = find_anchors(clouds, 10, kind)
    assert anchors.shape == (10, 3)
    assert torch.equal(find_anchors(clouds, 10, kind), anchors)


def test_repeated_anchors_come_with_their_mirror_images():
    clouds = []
    for s in range(7):
        more = torch.tensor([[1.6, 0.1, 0.0]]) if s < 4 else torch.tensor([[-1.6, 0.1, 0.0]])  # left or right
        clouds.append(torch.cat([cube(seed=s), more]))
    anchors = find_anchors(clouds, 10, "repeated")
    mirrored = anchors * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.cdist(mirrored, anchors).amin(1).max() < 1e-3
    assert torch.cdist(torch.tensor([[1.6, 0.1, 0.0], [-1.6, 0.1, 0.0]]), anchors).amin(1).max() < 0.1
