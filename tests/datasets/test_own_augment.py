"""Clouds varied by a function of one's own: it is seeded, and what it returns is checked."""

import random

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from pcsa.datasets.transforms import Augment, item_generator, take_points


def cloud():
    pos = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    visible = torch.tensor([[True, True, False]])
    keypoints = torch.where(visible[..., None], torch.cat([pos[:2], pos[:1]])[None], 0.0)
    return Data(pos=pos, keypoints=keypoints, visible=visible, detour=torch.rand(20, 3), model_id="a")


def everything(data, generator):
    """Moves, shortens, and draws from every generator that there is."""
    shift = torch.rand(3, generator=generator) + torch.rand(3) + float(np.random.rand()) + random.random()  # noqa: NPY002
    data.pos += shift
    data.keypoints = data.keypoints + shift
    return take_points(data, torch.arange(10))


def nothing(data, generator):
    return None


def raises(data, generator):
    raise RuntimeError("out of\nideas")


def loses(data, generator):
    return Data(pos=data.pos)


def flattens(data, generator):
    data.pos = data.pos[:, :2]
    return data


def empties(data, generator):
    return take_points(data, torch.arange(0))


def shortens(data, generator):
    data.pos = data.pos[:5]
    return data


def doubles(data, generator):
    data.keypoints = data.keypoints.double()
    return data


def drops_a_keypoint(data, generator):
    data.keypoints, data.visible = data.keypoints[:, :2], data.visible[:, :2]
    return data


def divides(data, generator):
    data.pos = data.pos / 0
    return data


number = 3


def augment(function):
    return Augment(custom=f"{__name__}:{getattr(function, '__name__', function)}")


def test_a_function_of_ones_own_is_seeded_and_leaves_the_cloud_as_it_was():
    before, vary = cloud(), augment(everything)
    states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    first = vary(before, item_generator(0, 1, 2))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]
    assert torch.equal(before.pos, cloud().pos)
    torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    again, other = (vary(cloud(), item_generator(0, epoch, 2)) for epoch in (1, 3))
    assert torch.equal(first.pos, again.pos)
    assert not torch.equal(first.pos, other.pos)
    assert first.pos.shape == (10, 3)
    assert first.detour.shape == (10, 3)
    shift = first.pos - before.pos[:10]
    torch.testing.assert_close(first.keypoints[0, :2] - before.keypoints[0, :2], shift[:2])
    # Keypoints that are not there stay zeros.
    assert (first.keypoints[0, 2] == 0).all()


def test_it_comes_after_the_changes_of_the_package():
    vary = Augment(shift=0.5, resample=15, custom=f"{__name__}:everything")
    assert len(vary(cloud(), item_generator(0, 0, 0)).pos) == 10
    assert vary.deforming == ("resample", "custom")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (nothing, "must return a Data, returned a NoneType"),
        (raises, "failed: RuntimeError, out of ideas"),
        (loses, "must return all that it was given, lost `detour`"),
        (flattens, r"returned `pos` \[20, 2\], must be \[N, 3\] with at least one point"),
        (empties, r"returned `pos` \[0, 3\], must be \[N, 3\] with at least one point"),
        (shortens, r"returned `detour` \[20, 3\], must be \[5, 3\]: a row for each of the 5 points, see .*take_points"),
        (doubles, r"returned `keypoints` as torch\.float64 on cpu, must be torch\.float32 on cpu"),
        (drops_a_keypoint, r"returned `keypoints` \[1, 2, 3\], must be \[1, 3, 3\]"),
        (divides, "returned `pos` with numbers that are not finite"),
        ("number", "must be a function, is a int"),
        ("missing", "must name something in its module"),
    ],
)
def test_what_it_returns_is_checked(function, message):
    vary = augment(function)
    with pytest.raises(ValueError, match=rf"`augment.custom` \(='{__name__}:.*'\) {message}"):
        vary(cloud(), item_generator(0, 0, 0))


def test_a_mistake_is_known_before_the_first_cloud():
    augment(everything).prepare()
    Augment().prepare()
    with pytest.raises(ValueError, match="has no `missing`"):
        augment("missing").prepare()
    for wrong in ("everything", 3, "a:b:c"):
        with pytest.raises(ValueError, match=r"`augment.custom` \(=.*\) must be a name like package\.module:"):
            Augment(custom=wrong)
