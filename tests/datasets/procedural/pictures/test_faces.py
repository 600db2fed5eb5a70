import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from pcsa.datasets.procedural import Faces
from pcsa.datasets.procedural.pictures import faces
from pcsa.datasets.procedural.pictures.items import Items, stream


@pytest.fixture(scope="module")
def train() -> Faces:
    return Faces("train", num_images=120)


@dataclass
class Pose:
    """Turns a head that was drawn at random to angles (degrees) of our own."""

    yaw: float
    pitch: float = 0.0
    roll: float = 0.0

    def turn(self, head):
        rotation = faces._turn(*(math.radians(a) for a in (self.roll, self.yaw, self.pitch))).astype(np.float32)
        center = head.skull.center

        def turned(part):
            local = head.skull.rotation.T @ (part.center - center)
            return part._replace(center=center + rotation @ local, rotation=rotation)

        return head._replace(
            skull=turned(head.skull),
            hair=turned(head.hair),
            nose=turned(head.nose),
            ears=tuple(turned(ear) for ear in head.ears),
        )


def heads(count: int):
    return list(Items([0, stream("faces/train")], count, faces._head))


def test_left_is_left_in_the_picture_and_up_is_up():
    for head in heads(20):
        left_eye, right_eye, nose, left_mouth, right_mouth = faces.landmarks(Pose(0).turn(head))[:, :2]
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < nose[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_landmarks_turn_with_the_head():
    for head in heads(10):
        straight, right, down, rolled = (
            faces.landmarks(Pose(*p).turn(head)) for p in ((0,), (30,), (0, 20), (0, 0, 90))
        )
        center = head.skull.center
        # The tip of the nose stands out the most, and so moves the most; a turned head keeps its shape.
        move = right - straight
        assert (move[:, 0] > 0).all()
        assert move[:, 0].argmax() == 2
        np.testing.assert_allclose(move[:, 1], 0, atol=1e-4)
        assert (down[:, 1] > straight[:, 1]).all()
        for turned in (right, down, rolled):
            np.testing.assert_allclose(
                np.linalg.norm(turned[:, None] - turned, axis=2),
                np.linalg.norm(straight[:, None] - straight, axis=2),
                atol=1e-3,
            )
        # A quarter clockwise in the picture: (x, y) goes to (-y, x).
        np.testing.assert_allclose(rolled[:, 0] - center[0], -(straight[:, 1] - center[1]), atol=1e-3)


def test_landmarks_are_on_what_is_seen():
    """The surface that a ray meets at a visible landmark is the landmark itself."""
    for head in heads(20):
        points = faces.landmarks(head)
        visible = faces.seen(head, points)
        for k, (x, y, z) in enumerate(points):
            part = head.nose if k == 2 else head.skull
            front, _ = part.hit(x, y)
            if visible[k]:
                assert front == pytest.approx(z, abs=0.05)
            else:
                assert k != 2


@pytest.mark.parametrize("yaw", [-75, -60, 60, 75])
def test_the_far_side_is_hidden_and_the_near_side_seen(yaw):
    hidden = 0
    for head in heads(20):
        turned = Pose(yaw).turn(head)
        points = faces.landmarks(turned)
        visible = faces.seen(turned, points)
        near, far = ([0, 3], [1, 4]) if yaw > 0 else ([1, 4], [0, 3])
        assert visible[near].all()
        assert visible[2]
        hidden += 2 - visible[far].sum()
        # Skin that faces away is behind the head, which holds for about 60 degrees and more.
        facing = turned.skull.normal(*points[far].T)[2]
        assert not visible[far][facing < -0.1].any()
    assert hidden >= 36 if abs(yaw) == 75 else hidden <= 10


@pytest.mark.parametrize("yaw", [-30, 0, 30])
def test_all_is_seen_from_about_the_front(yaw):
    turned = [Pose(yaw).turn(head) for head in heads(20)]
    assert all(faces.seen(head, faces.landmarks(head)).all() for head in turned)


def test_ellipsoid_against_marching_along_the_ray():
    part = faces._ellipsoid((50, 40, 3), (20, 30, 12), faces._turn(0.4, 0.7, -0.3))
    y, x = np.mgrid[:100:5, :100:5].astype(np.float32)
    z, cover = part.hit(x, y)
    depth = np.linspace(-40, 50, 1801, dtype=np.float32)
    place = np.stack(np.broadcast_arrays(x[..., None], y[..., None], depth), -1) - part.center
    inside = (((place @ part.rotation) / part.axes) ** 2).sum(-1) <= 1
    met = inside.any(-1)
    last = depth[inside.shape[-1] - 1 - inside[..., ::-1].argmax(-1)]
    sure = (cover == 0) | (cover == 1)
    assert met.sum() > 30
    assert np.array_equal(met[sure], cover[sure] == 1)
    np.testing.assert_allclose(z[met & sure], last[met & sure], atol=0.06)
    # The coverage of all pixels together is the area of the outline, an ellipse.
    y, x = np.mgrid[:100, :100].astype(np.float32)
    outline = np.linalg.inv(np.linalg.inv(part.matrix)[:2, :2])
    assert part.hit(x, y)[1].sum() == pytest.approx(math.pi / math.sqrt(np.linalg.det(outline)), rel=0.005)


def test_pupils_are_dark_and_the_mouth_ends_at_its_corners():
    """Painted on a flat square in the head's own frame, where nothing is shaded."""
    y, x = np.mgrid[-40:40:0.25, -40:40:0.25].astype(np.float32)
    z = np.ones_like(x)
    skin = np.full(3, 0.8, np.float32)
    checked = 0
    for index, head in enumerate(heads(12)):
        color = np.broadcast_to(skin[:, None, None], (3, *x.shape)).copy()
        faces._paint_mouth(np.random.default_rng(index), color, head.mouth, skin, head.skull.axes[1], x, y, z)
        painted = np.abs(color - 0.8).max(0) > 0.02
        assert x[painted].min() == pytest.approx(head.mouth[0, 0], abs=0.8)
        assert x[painted].max() == pytest.approx(head.mouth[1, 0], abs=0.8)
        for corner in head.mouth:
            at = painted & (np.abs(x - corner[0]) < 0.6)
            assert y[at].mean() == pytest.approx(corner[1], abs=0.6)

        color = np.broadcast_to(skin[:, None, None], (3, *x.shape)).copy()
        faces._paint_eyes(np.random.default_rng(index), color, head, skin, skin, x, y, z)
        for eye in head.eyes:
            near = np.hypot(x - eye[0], y - eye[1]) < 0.15 * head.skull.axes[0]
            pupil = near & (color.max(0) < 0.1)
            if pupil.any():  # not closed; the gaze wanders by less than half of the opening
                assert np.hypot(x[pupil].mean() - eye[0], y[pupil].mean() - eye[1]) < 0.1 * head.skull.axes[0]
                checked += 1
    assert checked >= 16


def test_eyes_are_dark_in_finished_pictures(train):
    darker, count = 0, 0
    for index in range(len(train)):
        source = train.source(index)
        gray = source["image"].mean(0)
        for x, y in source["keypoints"][:2][source["visible"][:2]].tolist():
            column, row = round(x), round(y)
            eye = gray[row - 1 : row + 2, column - 1 : column + 2].mean()
            cheek = gray[row + 7 : row + 10, column - 1 : column + 2].mean()
            darker += int(eye < cheek)
            count += 1
    assert darker > 0.8 * count


def test_shapes_values_and_attributes(train):
    assert train.names == ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    assert train.pairs == ((0, 1), (3, 4))
    assert train.num_keypoints == 5
    assert train.input_size == (64, 64)
    assert len(train) == 120
    assert train.skipped == {}
    hidden = 0
    for index in range(len(train)):
        source = train.source(index)
        assert source["image"].shape == (3, 100, 100)
        assert source["image"].dtype == source["keypoints"].dtype == source["box"].dtype == torch.float32
        assert 0 <= source["image"].min() < source["image"].max() <= 1
        points, visible = source["keypoints"], source["visible"]
        assert (points[~visible] == 0).all()
        assert visible.any()
        hidden += int(not visible.all())
        x, y, width, height = source["box"].tolist()
        assert 20 < width < 80
        assert 30 < height < 90
        # The nose stands out of the head, and so a little of the box, in profile.
        low = torch.tensor([x - 0.5 - 0.2 * width, y - 0.5])
        high = torch.tensor([x - 0.5 + 1.2 * width, y - 0.5 + height])
        assert ((points[visible] > low) & (points[visible] < high)).all()
        assert (points[visible] > 0).all()
        assert (points[visible] < 99).all()
    assert 1 <= hidden < 30


def test_crops_lead_back_to_the_source(train):
    generator = torch.Generator().manual_seed(0)
    for index in range(10):
        source = train.source(index)
        for sample in (train[index], train.augmented(index, generator)):
            visible, matrix = sample["visible"], sample["to_source"]
            assert sample["image"].shape == (3, 64, 64)
            assert sample["index"] == index
            back = sample["keypoints"] @ matrix[:, :2].T + matrix[:, 2]
            # A mirrored crop has the left where the right was.
            order = [1, 0, 2, 4, 3] if torch.linalg.det(matrix[:, :2]) < 0 else [0, 1, 2, 3, 4]
            torch.testing.assert_close(back[visible], source["keypoints"][order][visible], atol=1e-3, rtol=0)
    first, second = (train.augmented(2, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first["image"], second["image"])
    assert not torch.equal(first["image"], train[2]["image"])
    batch = default_collate([train[0], train.augmented(1, generator)])
    assert batch["image"].shape == (2, 3, 64, 64)
