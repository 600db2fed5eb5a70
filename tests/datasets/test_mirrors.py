"""Planes that mirror a category."""

import torch
from torch_geometric.data import Data

from pcsa.datasets.mirrors import category_mirrors

# Four corners of a table and a knob on the middle line of z; columns 0 and 1 differ in x, 0 and 2 in z.
CORNERS = torch.tensor([[-1.0, 0, -1], [1, 0, -1], [-1, 0, 1], [1, 0, 1], [0.5, 1, 0]])
X, Z = (1, 0, 3, 2, 4), (2, 3, 0, 1, 4)
PAIRS = torch.tensor([[0, 1], [2, 3], [0, 2], [1, 3]])


def table(pairs=PAIRS, knob=False):
    visible = torch.ones(1, 5, dtype=torch.bool)
    visible[0, 4] = knob
    return Data(pos=2 * CORNERS[:4], keypoints=CORNERS[None].clone(), visible=visible, reflection=pairs[None])


def test_planes_and_what_each_keypoint_becomes():
    # The knob lies on the plane of z alone; where it is seen, x does not mirror the table.
    clouds = [table(), table(), table(knob=True)]
    assert category_mirrors(clouds, 5) == {0: (*X[:4], -1), 2: Z}
    assert category_mirrors([table()], 4) == {0: X[:4], 2: Z[:4]}


def test_a_keypoint_that_is_never_seen_becomes_nothing():
    assert category_mirrors([table()], 5) == {0: (*X[:4], -1), 2: (*Z[:4], -1)}


def test_most_shapes_with_pairs_must_have_the_plane():
    none = torch.full((1, 2), -1)
    odd = table(pairs=PAIRS[2:])  # not mirrored in x
    assert category_mirrors([table(), odd], 4) == {0: X[:4], 2: Z[:4]}
    assert category_mirrors([table(), odd, odd], 4) == {2: Z[:4]}
    assert category_mirrors([table(), *[table(pairs=none)] * 9], 4) == {0: X[:4], 2: Z[:4]}


def test_no_clouds_have_no_planes():
    assert category_mirrors([], 3) == {}


def test_where_shapes_disagree_a_keypoint_becomes_nothing():
    # A table whose columns 0 and 3 have been exchanged: in x, 3 is the partner of 1, and 0 of 2.
    other = table()
    other.keypoints = other.keypoints[:, [3, 1, 2, 0, 4]]
    other.reflection = torch.tensor([[[3, 1], [2, 0], [3, 2], [1, 0]]])
    assert category_mirrors([other], 4) == {0: (2, 3, 0, 1), 2: (1, 0, 3, 2)}
    assert category_mirrors([table(), other], 4) == {0: (-1,) * 4, 2: (-1,) * 4}
