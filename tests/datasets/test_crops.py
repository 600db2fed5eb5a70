from __future__ import annotations

import math

import pytest
import torch

from pcsa.datasets.crops import CropAugment, crop, flip_back, to_source

PAIRS = ((0, 1), (2, 3))


def dots(positions: list[list[float]], height: int = 120, width: int = 90) -> dict:
    """One channel and one bright spot per keypoint, smooth so that its centroid survives any sampling."""
    x, y = torch.tensor(positions).T[..., None]
    profile_x = torch.exp(-((torch.arange(width) - x) ** 2) / 4)
    profile_y = torch.exp(-((torch.arange(height) - y) ** 2) / 4)
    image = profile_y[:, :, None] * profile_x[:, None, :]
    return {
        "image": image,
        "keypoints": torch.tensor(positions),
        "visible": torch.ones(len(positions), dtype=torch.bool),
        "box": torch.tensor([15.0, 20.0, 60.0, 80.0]),
    }


POSITIONS = [[30.0, 40.0], [60.0, 41.0], [33.0, 80.0], [57.0, 83.0], [44.0, 60.0]]


def centroids(image: torch.Tensor) -> torch.Tensor:
    total = image.sum((1, 2))
    x = (image.sum(1) * torch.arange(image.shape[2])).sum(1) / total
    y = (image.sum(2) * torch.arange(image.shape[1])).sum(1) / total
    return torch.stack([x, y], 1)


def flipped_source(source: dict) -> dict:
    width = source["image"].shape[2]
    order = [1, 0, 3, 2, 4]
    keypoints = source["keypoints"][order].clone()
    keypoints[:, 0] = width - 1 - keypoints[:, 0]
    x, y, w, h = source["box"].tolist()
    box = torch.tensor([width - x - w, y, w, h])
    # Channel k shows keypoint k, so the channels are exchanged as well.
    return {
        "image": source["image"].flip(2)[order],
        "keypoints": keypoints,
        "visible": source["visible"][order],
        "box": box,
    }


def only(**changes: float) -> CropAugment:
    return CropAugment(**({"flip": 0.0, "scale": 0.0, "rotation": 0.0} | changes))


@pytest.mark.parametrize("size", [(64, 48), (96, 96), (33, 200), (17, 13), (300, 240)])
@pytest.mark.parametrize(
    "augment",
    [
        None,
        only(flip=1.0),
        only(rotation=180.0),
        only(scale=0.3),
        only(shift=0.2),
        CropAugment(flip=0.5, scale=0.3, rotation=40.0, shift=0.1),
    ],
)
def test_bright_pixels_go_where_the_keypoints_go(size: tuple[int, int], augment: CropAugment | None) -> None:
    source = dots(POSITIONS)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        sample = crop(source, size, pairs=PAIRS, augment=augment, generator=generator)
        assert sample["image"].shape == (5, *size)
        found = centroids(sample["image"])
        if torch.det(sample["to_source"][:, :2]) < 0:
            found = found[[1, 0, 3, 2, 4]]  # a flip: keypoint 0 is where channel 1 shines
        # A pixel that lies across the edge of the crop has lost a part of its light.
        height, width = size
        inner = sample["visible"] & (sample["keypoints"] > 2).all(1)
        inner &= (sample["keypoints"] < torch.tensor([width - 3, height - 3])).all(1)
        assert inner.sum() >= 4 or augment is not None
        torch.testing.assert_close(sample["keypoints"][inner], found[inner], rtol=0, atol=0.05)


def test_places_of_a_crop_by_hand() -> None:
    # The box of 60 x 80 in the ratio 1:1 is 80 x 80, times 1.25 100 x 100, around (44.5, 59.5): from -5.5 to 94.5 in x.
    # On 50 pixels, two source pixels each: x = (44 - (-5.5)) / 2 - 0.5 = 24.25, y = (60 - 9.5) / 2 - 0.5 = 24.75.
    sample = crop(dots(POSITIONS), (50, 50))
    torch.testing.assert_close(sample["keypoints"][4], torch.tensor([24.25, 24.75]))
    expected = torch.tensor([[2.0, 0.0, 44 - 24.25 * 2], [0.0, 2.0, 60 - 24.75 * 2]])
    torch.testing.assert_close(sample["to_source"], expected)


def test_rotation_is_about_the_center_of_the_box() -> None:
    source = dots(POSITIONS)
    augment = only(rotation=180.0)
    generator = torch.Generator().manual_seed(3)
    draw = torch.rand(5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)[2]
    angle = math.radians(180 * (2 * draw.item() - 1))
    sample = crop(source, (100, 100), augment=augment, generator=generator)
    offset = torch.tensor([44.0, 60.0]) - torch.tensor([44.5, 59.5])
    cos, sin = math.cos(angle), math.sin(angle)
    turned = torch.stack([cos * offset[0] - sin * offset[1], sin * offset[0] + cos * offset[1]])
    torch.testing.assert_close(sample["keypoints"][4], turned + 49.5, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_to_source_takes_keypoints_back(seed: int) -> None:
    source = dots(POSITIONS)
    generator = torch.Generator().manual_seed(seed)
    augment = CropAugment(flip=0.5, scale=0.2, rotation=30.0, shift=0.05)
    sample = crop(source, (64, 48), pairs=PAIRS, augment=augment, generator=generator)
    back = to_source(sample["keypoints"][None], sample["to_source"][None])[0]
    mirrored = torch.det(sample["to_source"][:, :2]) < 0
    expected = source["keypoints"][[1, 0, 3, 2, 4]] if mirrored else source["keypoints"]
    torch.testing.assert_close(back[sample["visible"]], expected[sample["visible"]], rtol=0, atol=1e-3)
    assert sample["visible"].sum() >= 4


def test_depths_stay() -> None:
    source = dots(POSITIONS)
    source["keypoints"] = torch.cat([source["keypoints"], torch.arange(5.0)[:, None]], 1)
    sample = crop(source, (64, 48), pairs=PAIRS, augment=only(flip=1.0), generator=torch.Generator())
    assert sample["keypoints"][:, 2].tolist() == [1, 0, 3, 2, 4]
    back = to_source(sample["keypoints"][None], sample["to_source"][None])
    assert back[0, :, 2].tolist() == [1, 0, 3, 2, 4]


@pytest.mark.parametrize("size", [(64, 48), (65, 31), (200, 160)])
def test_crop_of_a_flipped_source_is_the_flip_of_the_crop(size: tuple[int, int]) -> None:
    source = dots(POSITIONS)
    source["image"] = torch.rand(source["image"].shape, generator=torch.Generator().manual_seed(0))
    source["visible"][2] = False
    ahead = crop(flipped_source(source), size)
    after = crop(source, size, pairs=PAIRS, augment=only(flip=1.0), generator=torch.Generator())
    order = [1, 0, 3, 2, 4]
    torch.testing.assert_close(ahead["image"][order], after["image"], rtol=0, atol=2e-4)
    torch.testing.assert_close(ahead["keypoints"], after["keypoints"], rtol=0, atol=1e-4)
    assert ahead["visible"].tolist() == after["visible"].tolist() == [True, True, True, False, True]
    plain = crop(source, size)
    torch.testing.assert_close(plain["image"].flip(2), after["image"], rtol=0, atol=2e-4)
    assert not torch.equal(plain["image"], after["image"])


def test_without_change_the_picture_stays_as_it_is() -> None:
    source = dots(POSITIONS)
    source["image"] = torch.rand(3, 120, 90, generator=torch.Generator().manual_seed(0))
    source["box"] = torch.tensor([0.0, 0.0, 90.0, 120.0])
    sample = crop(source, (120, 90), padding=1.0)
    torch.testing.assert_close(sample["image"], source["image"], rtol=0, atol=1e-4)
    torch.testing.assert_close(sample["keypoints"], source["keypoints"])
    # Single bright pixels stay single, and pixels of a box are those of the slice.
    source["image"] = torch.zeros(1, 120, 90)
    for x, y in POSITIONS:
        source["image"][0, int(y), int(x)] = 1.0
    source["box"] = torch.tensor([20.0, 30.0, 50.0, 60.0])
    sample = crop(source, (60, 50), padding=1.0)
    torch.testing.assert_close(sample["image"], source["image"][:, 30:90, 20:70], rtol=0, atol=1e-4)
    for x, y in sample["keypoints"].tolist():
        assert sample["image"][0, round(y), round(x)] > 0.999


def test_half_the_size_by_hand() -> None:
    # Triangle weights 1, 3, 3, 1 (of 8) on four pixels around the new pixel's center.
    source = dots(POSITIONS)
    source["image"] = torch.rand(1, 120, 90, generator=torch.Generator().manual_seed(0))
    source["box"] = torch.tensor([0.0, 0.0, 90.0, 120.0])
    half = crop(source, (60, 45), padding=1.0)["image"][0]
    weights = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    for row, column in [(3, 5), (40, 21)]:
        patch = source["image"][0, 2 * row - 1 : 2 * row + 3, 2 * column - 1 : 2 * column + 3]
        torch.testing.assert_close(half[row, column], weights @ patch @ weights, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 9), (7, 1), (1, 1)])
def test_pictures_of_one_pixel(shape: tuple[int, int]) -> None:
    source = dots([[0.0, 0.0]])
    source["image"] = torch.full((3, *shape), 0.75)
    source["box"] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    for size in [(1, 1), (3, 3)]:
        sample = crop(source, size, padding=1.0)
        middle = sample["image"][:, size[0] // 2, size[1] // 2]
        torch.testing.assert_close(middle, torch.full((3,), 0.75), rtol=0, atol=1e-4)
        assert sample["keypoints"].tolist() == [[size[1] // 2, size[0] // 2]]


def test_fine_stripes_become_grey() -> None:
    source = dots(POSITIONS)
    source["image"] = (torch.arange(90) % 2).float().expand(3, 120, 90).contiguous()
    sample = crop(source, (16, 12), padding=1.0)
    assert (sample["image"][:, 1:-1, 1:-1] - 0.5).abs().max() < 0.11


def test_keypoints_outside_of_the_crop() -> None:
    source = dots([[14.5, 19.5], [74.5, 99.5], [14.0, 60.0], [75.0, 60.0], [44.0, 60.0]])
    sample = crop(source, (80, 60), padding=1.0)
    # The corners of the box are its edge: still inside.
    assert sample["visible"].tolist() == [True, True, False, False, True]
    assert sample["keypoints"][2:4].tolist() == [[0, 0], [0, 0]]
    torch.testing.assert_close(sample["keypoints"][:2], torch.tensor([[-0.5, -0.5], [59.5, 79.5]]))


def test_box_partly_outside_is_padded_by_zeros() -> None:
    source = dots(POSITIONS)
    source["image"] = torch.ones(3, 120, 90)
    source["box"] = torch.tensor([-30.0, -40.0, 60.0, 80.0])
    sample = crop(source, (80, 60), padding=1.0)
    assert sample["image"][:, :40].max() < 1e-4
    assert sample["image"][:, :, :30].max() < 1e-4
    torch.testing.assert_close(sample["image"][:, 40:, 30:], torch.ones(3, 40, 30), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "box",
    [
        [90.0, 0.0, 10.0, 10.0],
        [0.0, 120.0, 10.0, 10.0],
        [-10.0, 0.0, 10.0, 10.0],
        [0.0, -50.0, 10.0, 10.0],
        [1.0, 1.0, 0.0, 5.0],
        [1.0, 1.0, 5.0, -2.0],
        [1.0, math.nan, 5.0, 5.0],
        [1.0, 1.0, math.inf, 5.0],
        [1.0, 2.0, 3.0],
    ],
)
def test_bad_boxes(box: list[float]) -> None:
    with pytest.raises(ValueError, match="`box`"):
        crop(dots(POSITIONS) | {"box": torch.tensor(box)}, (8, 8))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size": (0, 4)}, r"`size` \(=\(0, 4\)\)"),
        ({"size": (4,)}, "`size`"),
        ({"size": (4.0, 4)}, "`size`"),
        ({"padding": 0.0}, "`padding`"),
        ({"padding": math.nan}, "`padding`"),
        ({"pairs": ((0, 0),)}, "`pairs`"),
        ({"pairs": ((0, 1), (1, 2))}, "`pairs`"),
        ({"pairs": ((0, 5),)}, "`pairs`"),
        ({"augment": CropAugment()}, "`generator`"),
        ({"visible": torch.ones(5)}, "`visible`"),
        ({"visible": torch.ones(4, dtype=torch.bool)}, "`visible`"),
        ({"keypoints": torch.zeros(5, 1)}, "`keypoints`"),
        ({"image": torch.zeros(4, 4)}, "`image`"),
        ({"image": torch.zeros(3, 4, 4, dtype=torch.uint8)}, "`image`"),
    ],
)
def test_bad_arguments(changes: dict, match: str) -> None:
    arguments = {"size": (8, 8)} | {k: v for k, v in changes.items() if k in ("size", "padding", "pairs", "augment")}
    source = dots(POSITIONS) | {k: v for k, v in changes.items() if k in ("visible", "keypoints", "image")}
    with pytest.raises(ValueError, match=match):
        crop(source, **arguments)


def test_source_without_a_box() -> None:
    source = dots(POSITIONS)
    del source["box"]
    with pytest.raises(ValueError, match="must have box"):
        crop(source, (8, 8))


@pytest.mark.parametrize(
    "changes",
    [
        {"flip": 1.5},
        {"flip": -0.1},
        {"scale": 1.0},
        {"scale": -0.1},
        {"rotation": -1.0},
        {"rotation": 181.0},
        {"shift": -0.1},
        {"shift": math.nan},
        {"scale": math.nan},
    ],
)
def test_bad_augment(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(changes))}`"):
        CropAugment(**changes)


def test_augment_is_the_generators_alone() -> None:
    source = dots(POSITIONS)
    torch.manual_seed(0)
    state = torch.get_rng_state()

    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return crop(source, (32, 24), augment=CropAugment(), generator=generator)["to_source"]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.get_rng_state(), state)
    # The share of flips, and the ranges of scale and angle.
    generator = torch.Generator().manual_seed(0)
    augment = CropAugment(flip=0.25, scale=0.2, rotation=30.0)
    matrices = torch.stack(
        [crop(source, (4, 3), augment=augment, generator=generator)["to_source"][:, :2] for _ in range(400)]
    )
    det = torch.det(matrices)
    assert 0.17 < (det < 0).float().mean() < 0.33
    scale = det.abs().sqrt() / (80 * 1.25 / 4)
    assert 0.8 <= scale.min() < 0.82
    assert 1.18 < scale.max() <= 1.2 + 1e-6
    angle = torch.rad2deg(torch.asin(matrices[:, 0, 1] / det.abs().sqrt()))
    assert -30.001 <= angle.min() < -28
    assert 28 < angle.max() <= 30.001


def test_extras_are_handed_on() -> None:
    sample = crop(dots(POSITIONS) | {"image_id": 7}, (8, 8))
    assert sample["image_id"] == 7
    assert set(sample) == {"image", "keypoints", "visible", "to_source", "image_id"}


@pytest.mark.parametrize("spatial", [(6, 8), (4, 6, 8), (8,)])
def test_flip_back_undoes_a_flip(spatial: tuple[int, ...]) -> None:
    # A "network" that commutes with flips: what it says of left and right follows from what is left and right of it.
    maps = torch.rand(2, 5, *spatial, generator=torch.Generator().manual_seed(0))

    def network(scene: torch.Tensor) -> torch.Tensor:
        smooth = (scene + scene.roll(1, -1) + scene.roll(-1, -1)) / 3
        return smooth * 2

    order = [1, 0, 3, 2, 4]
    flipped_scene = maps.flip(-1)[:, order]
    torch.testing.assert_close(flip_back(network(flipped_scene), PAIRS), network(maps))
    assert not torch.allclose(network(flipped_scene), network(maps))
    # Twice is nothing.
    assert torch.equal(flip_back(flip_back(maps, PAIRS), PAIRS), maps)


def test_bad_flip_back_and_to_source() -> None:
    with pytest.raises(ValueError, match="`logits`"):
        flip_back(torch.zeros(2, 3), ())
    with pytest.raises(ValueError, match="`pairs`"):
        flip_back(torch.zeros(1, 3, 4), [(0, 3)])
    with pytest.raises(ValueError, match="`points`"):
        to_source(torch.zeros(3, 2), torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="`matrix`"):
        to_source(torch.zeros(2, 3, 2), torch.zeros(1, 2, 3))
