"""Images, volumes and scans varied by a function of one's own: coordinates follow, and what it returns is checked."""

import random

import numpy as np
import pytest
import torch

from pcsa.datasets.crops import CropAugment, crop
from pcsa.datasets.own_samples import vary_sample
from pcsa.datasets.procedural import Figures3D
from pcsa.datasets.scans import ScanAugment, window
from pcsa.datasets.transforms import item_generator


def picture():
    image = torch.rand(3, 8, 10, generator=torch.Generator().manual_seed(0))
    keypoints = torch.tensor([[0.0, 7.0], [9.4, 1.0], [0.0, 0.0]])
    return {"image": image, "keypoints": keypoints, "visible": torch.tensor([True, True, False]), "index": 3}


def scan():
    image = torch.rand(1, 8, 10, generator=torch.Generator().manual_seed(0))
    rows = torch.stack([torch.full((10,), 2.0), torch.full((10,), 6.5)])
    return {"image": image, "boundaries": rows, "visible": torch.ones(2, 10, dtype=torch.bool)}


def moves(sample, generator):
    """Shifts everything down and brightens it, by what every generator says."""
    assert set(sample) in ({"image", "keypoints", "visible"}, {"image", "boundaries", "visible"})
    light = torch.rand((), generator=generator) + torch.rand(()) + float(np.random.rand()) + random.random()  # noqa: NPY002
    sample["image"] = sample["image"].roll(1, -2) + light / 8
    if "boundaries" in sample:
        sample["boundaries"] += 1
    else:
        sample["keypoints"][:, 1] += 1
    return sample


def nothing(sample, generator):
    return None


def raises(sample, generator):
    raise RuntimeError("out of\nideas")


def loses(sample, generator):
    return {"image": sample["image"]}


def shrinks(sample, generator):
    return {**sample, "image": sample["image"][:, 1:]}


def doubles(sample, generator):
    return {**sample, "keypoints": sample["keypoints"].double()}


def counts(sample, generator):
    return {**sample, "visible": sample["visible"].float()}


def divides(sample, generator):
    return {**sample, "image": sample["image"] / 0}


def loses_a_place(sample, generator):
    sample["keypoints"][0] = torch.nan
    return sample


def hides_a_place(sample, generator):
    sample["keypoints"][0] = torch.nan
    sample["visible"][0] = False
    return sample


def arrays(sample, generator):
    return {**sample, "image": sample["image"].numpy()}


def path(function):
    return f"{__name__}:{getattr(function, '__name__', function)}"


def test_it_is_seeded_and_leaves_the_sample_as_it_was():
    before = picture()
    states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    first = vary_sample(path(moves), before, item_generator(0, 1, 2))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]
    assert torch.equal(before["keypoints"], picture()["keypoints"])
    torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    again, other = (vary_sample(path(moves), picture(), item_generator(0, epoch, 2)) for epoch in (1, 3))
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
    assert first["index"] == 3


def test_what_leaves_the_image_is_not_visible_and_values_stay_within_0_and_1():
    out = vary_sample(path(moves), picture(), item_generator(0, 0, 0))
    # The first keypoint was in the last row, and is below the image now; the third was never there.
    assert out["visible"].tolist() == [False, True, False]
    torch.testing.assert_close(out["keypoints"], torch.tensor([[0.0, 0.0], [9.4, 2.0], [0.0, 0.0]]))
    assert out["image"].amax() == 1
    # A depth has no end.
    deep = {**picture(), "keypoints": torch.tensor([[0.0, 0.0, -50.0], [1.0, 1.0, 99.0], [2.0, 2.0, 5.0]])}
    assert vary_sample(path(moves), deep, item_generator(0, 0, 0))["visible"].tolist() == [True, True, False]
    rows = vary_sample(path(moves), scan(), item_generator(0, 0, 0))
    assert rows["visible"].tolist() == [[True] * 10, [True] * 10]
    torch.testing.assert_close(rows["boundaries"], scan()["boundaries"] + 1)
    lower = vary_sample(path(moves), {**scan(), "boundaries": scan()["boundaries"] + 0.5}, item_generator(0, 0, 0))
    assert lower["visible"].tolist() == [[True] * 10, [False] * 10]
    assert (lower["boundaries"][1] == 0).all()
    hidden = vary_sample(path(hides_a_place), picture(), item_generator(0, 0, 0))
    assert (hidden["keypoints"][0] == 0).all()


def test_it_comes_last_in_crops_windows_and_volumes():
    whole = picture() | {"box": torch.tensor([0.0, 0.0, 10.0, 8.0])}
    cuts = [
        crop(whole, (16, 20), augment=CropAugment(flip=1.0, custom=custom), generator=item_generator(0, 0, 0))
        for custom in (None, path(moves))
    ]
    seen = cuts[1]["visible"]
    torch.testing.assert_close(cuts[1]["keypoints"][seen], cuts[0]["keypoints"][seen] + torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(cuts[1]["to_source"], cuts[0]["to_source"])
    views = [
        window(scan(), (8, 4), augment=ScanAugment(shift=0.0, custom=custom), generator=item_generator(0, 0, 0))
        for custom in (None, path(moves))
    ]
    torch.testing.assert_close(views[1]["boundaries"], views[0]["boundaries"] + 1)
    volumes = [
        Figures3D("train", num_volumes=2, input_size=(16, 16, 16), custom=custom) for custom in (None, path(moves))
    ]
    plain, varied = (items.augmented(1, item_generator(0, 0, 0)) for items in volumes)
    seen = varied["visible"]
    assert seen.any()
    torch.testing.assert_close(varied["keypoints"][seen], plain["keypoints"][seen] + torch.tensor([0.0, 1.0, 0.0]))
    assert varied["index"] == 1
    # Validation leaves it out.
    assert torch.equal(volumes[0][1]["image"], volumes[1][1]["image"])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (nothing, "must return a dict, returned a NoneType"),
        (raises, "failed: RuntimeError, out of ideas"),
        (loses, "must return all that it was given, lost `keypoints`"),
        (shrinks, r"returned `image` \[3, 7, 10\], must be \[3, 8, 10\]"),
        (arrays, r"returned `image` as a ndarray, must be a tensor \[3, 8, 10\]"),
        (doubles, r"returned `keypoints` as torch\.float64 on cpu, must be torch\.float32 on cpu"),
        (counts, r"returned `visible` as torch\.float32 on cpu, must be torch\.bool on cpu"),
        (divides, "returned `image` with numbers that are not finite"),
        (loses_a_place, "returned `keypoints` with numbers that are not finite"),
        ("number", "must name something in its module"),
    ],
)
def test_what_it_returns_is_checked(function, message):
    with pytest.raises(ValueError, match=rf"`augment.custom` \(='{__name__}:.*'\) {message}"):
        vary_sample(path(function), picture(), item_generator(0, 0, 0))


@pytest.mark.parametrize("augment", [CropAugment, ScanAugment])
def test_a_mistake_is_known_before_the_first_item(augment):
    augment(custom=path(moves)).prepare()
    augment().prepare()
    with pytest.raises(ValueError, match="has no `missing`"):
        augment(custom=path("missing")).prepare()
    for wrong in ("everything", 3, "a:b:c"):
        with pytest.raises(ValueError, match=r"`augment.custom` \(=.*\) must be a name like package\.module:"):
            augment(custom=wrong)
