"""Whatever moves keypoints moves their marks."""

import pytest
import torch
from torch_geometric.data import Data

from pcsa.datasets import corruptions
from pcsa.datasets.rotations import random_turn
from pcsa.datasets.thinning import Thin, thin_cloud
from pcsa.datasets.transforms import Augment, Normalize, denormalize, item_generator, random_mirror
from pcsa.datasets.turning import in_a_frame, turned


def cloud(dtype=torch.float32):
    """A cloud whose marks are its keypoints: two of the first, none of the second, one of the others."""
    g = torch.Generator().manual_seed(0)
    half = torch.rand(40, 3, generator=g, dtype=dtype) + torch.tensor([0.01, 0.0, 0.0], dtype=dtype)
    pos = torch.cat([half, half * torch.tensor([-1.0, 1, 1], dtype=dtype)])
    visible = torch.tensor([[True, True, True, True]])
    index = torch.tensor([[3, 43, 5, 45]])
    keypoints = pos[index]
    marked = torch.tensor([[[True, True], [False, False], [False, True], [True, False]]])
    marks = torch.where(marked.unsqueeze(-1), keypoints.unsqueeze(2), 0.0)
    return Data(
        pos=pos,
        keypoints=keypoints,
        visible=visible,
        keypoint_index=index,
        marks=marks,
        marked=marked,
        reflection=torch.tensor([[[0, 1], [2, 3]]]),
        model_id="a",
    )


def moved_with(out):
    """Whether marks are where their keypoints are, and zeros where there are none."""
    assert out.marked.any()
    there = out.marked & out.visible.unsqueeze(-1)
    torch.testing.assert_close(out.marks[there], out.keypoints.unsqueeze(2).expand_as(out.marks)[there])
    assert (out.marks[~out.marked] == 0).all()
    return out


def bends(data, generator):
    for name in ("pos", "keypoints", "marks"):
        data[name] = data[name] + 1 + data[name][..., :1].square()
    return data


def forgets(data, generator):
    data.pos, data.keypoints = data.pos + 1, data.keypoints + 1
    return data


def hides(data, generator):
    data.visible = torch.zeros_like(data.visible)
    return data


@pytest.mark.parametrize(
    "options",
    [
        {"mirror": 1.0},
        {"mirror": 1.0, "mirror_poses": True},
        {"other_side": 1.0},
        {"tilt": 90.0},
        {"rotate": 90.0},
        {"scale": 0.5},
        {"axis_scale": 0.5},
        {"shift": 0.5},
        {"jitter": 0.1},
        {"drop": 0.8},
        {"resample": 200},
        {"custom": f"{__name__}:bends"},
        {"mirror": 0.5, "rotate": 20.0, "scale": 0.1, "axis_scale": 0.1, "shift": 0.1, "jitter": 0.01, "drop": 0.3},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_augmentation(options):
    for seed in range(5):
        out = moved_with(Augment(**options)(cloud(), item_generator(seed, 0, 0)))
        if set(options) & {"other_side", "rotate", "tilt", "scale", "axis_scale", "shift", "custom"}:
            assert not torch.equal(out.marks, cloud().marks)


def test_a_mirror_exchanges_marks_with_their_keypoints():
    out = moved_with(random_mirror(cloud(), torch.Generator().manual_seed(0), probability=1.0))
    assert out.marked[0].sum(1).tolist() == [0, 2, 1, 1]


@pytest.mark.parametrize("mode", ["unit_sphere", "unit_box", "min_max"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalization_and_back(mode, dtype):
    data = cloud(dtype)
    out = moved_with(Normalize(mode)(data))
    # What a network takes has one type.
    assert out.marks.dtype == out.keypoints.dtype == torch.float32
    back = denormalize(out.marks, out.offset, out.scale)
    torch.testing.assert_close(back[data.marked].to(dtype), data.marks[data.marked], atol=1e-6, rtol=1e-5)


def test_turns_thinning_and_frames():
    moved_with(turned(cloud(), random_turn(torch.Generator().manual_seed(0))))
    moved_with(thin_cloud(cloud(), Thin(num_points=20, falloff=4.0, occlude=True)))
    seen = set()
    for seed in range(8):
        out = in_a_frame(cloud(), torch.Generator().manual_seed(seed))
        right = bool(out.visible.all())
        seen.add(right)
        if right:
            moved_with(out)
        else:
            assert not out.marked.any()
            assert not out.marks.any()
    assert seen == {True, False}


@pytest.mark.parametrize("kind", corruptions.CORRUPTIONS)
def test_corruptions(kind):
    level = {"rotation": 90.0, "thinning": 20, "density": 4.0, "occlusion": 1}.get(kind, 0.3)
    out = corruptions.CORRUPTIONS[kind](cloud(), level, 0).cloud
    if kind == "missing":
        assert not (out.marked & ~out.visible.unsqueeze(-1)).any()
    moved_with(out)


def test_a_function_that_leaves_marks_behind_is_refused():
    with pytest.raises(ValueError, match="moved `keypoints` and left `marks` where they were"):
        Augment(custom=f"{__name__}:forgets")(cloud(), item_generator(0, 0, 0))
    # Who hides keypoints moves nothing.
    out = Augment(custom=f"{__name__}:hides")(cloud(), item_generator(0, 0, 0))
    assert not out.visible.any()
