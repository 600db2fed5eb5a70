import math

import numpy as np
import pytest

from pcsa.datasets.hidden_points import seen_points


def sphere(n=2048):
    # Even, so that nothing is left to chance: a Fibonacci lattice.
    i = np.arange(n) + 0.5
    z, turn = 1 - 2 * i / n, i * math.pi * (3 - math.sqrt(5))
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], 1)


def test_a_sphere_shows_the_cap_that_its_tangents_bound():
    points = sphere()
    # From a distance of 3 radii the tangents touch at cos(angle) = 1/3.
    seen = seen_points(points, [0.0, 0.0, 3.0])
    assert seen[points[:, 2] > 1 / 3].all()
    assert not seen[points[:, 2] < 1 / 3 - 0.2].any()


def test_a_plate_hides_what_is_behind_it():
    # From (0, 0, 5) the plate at z = 0, x < 0 hides of the one at z = -1 what has x < 0.
    rows = np.linspace(-1, 1, 41)
    x, y = (side.reshape(-1) for side in np.meshgrid(rows, rows))
    back = np.stack([x, y, np.full_like(x, -1.0)], 1)
    front = np.stack([x, y, np.zeros_like(x)], 1)[x < 0]
    seen = seen_points(np.concatenate([front, back]), [0.0, 0.0, 5.0])
    assert seen[: len(front)].mean() > 0.95
    behind = seen[len(front) :]
    inner = np.abs(y) < 0.9
    assert not behind[(x < -0.05) & (x > -0.95) & inner].any()
    # The step of depth hides a strip beside the edge, which is the method's error.
    assert behind[(x > 0.4) & inner].all()


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_place_scale_and_order_do_not_matter(shift, scale):
    points, view = sphere(300), np.array([2.0, 1.0, 2.0])
    order = np.random.default_rng(0).permutation(300)
    moved = seen_points(points[order] * scale + shift * scale, view * scale + shift * scale)
    assert (moved == seen_points(points, view)[order]).all()


def test_copies_are_seen_together():
    points = np.concatenate([sphere(200), sphere(200)[::-1]])
    seen = seen_points(points, [0.0, 4.0, 0.0])
    assert (seen[:200] == seen[200:][::-1]).all()
    assert 0 < seen.sum() < 300


@pytest.mark.parametrize(
    ("points", "seen"),
    [
        ([[1.0, 2.0, 3.0]], [True]),
        ([[1.0, 2.0, 3.0]] * 3, [True] * 3),
        # On a line to the view point the nearest hides the others; beside it all are seen.
        ([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.5, 0.0, 0.0]], [False, True, False]),
        ([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, -1.0, 0.0]], [True] * 3),
        ([[5.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [True] * 2),
    ],
)
def test_points_without_volume(points, seen):
    assert seen_points(np.array(points), [5.0, 0.0, 0.0]).tolist() == seen


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"points": np.zeros((0, 3))}, "`points`"),
        ({"points": np.full((2, 3), np.nan)}, "`points`"),
        ({"points": np.zeros(3)}, "`points`"),
        ({"view_point": [1.0, 2.0]}, "`view_point`"),
        ({"view_point": [1.0, 2.0, np.inf]}, "`view_point`"),
        ({"radius": 1.0}, "`radius`"),
        ({"radius": np.nan}, "`radius`"),
    ],
)
def test_bad_arguments_are_named(change, name):
    with pytest.raises(ValueError, match=name):
        seen_points(**{"points": np.eye(3), "view_point": [1.0, 2.0, 3.0], **change})
