import contextlib
import functools
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa.datasets.human36m import Human36M
from pcsa.datasets.procedural import FigureImages3D, Figures2D, Figures3D
from pcsa.datasets.procedural.pictures.body import draw_person, draw_view, pose
from pcsa.datasets.procedural.pictures.figure_images import draw_picture
from pcsa.datasets.procedural.pictures.render import Canvas, add_capsule, add_ellipsoid

MAKERS = {
    "Figures2D": lambda split, count, **more: Figures2D(split, num_images=count, **more),
    "FigureImages3D": lambda split, count, **more: FigureImages3D(split, num_images=count, **more),
    "Figures3D": lambda split, count, **more: Figures3D(split, num_volumes=count, **more),
}


@functools.cache
def made(name: str):
    """The first items of a training set, which the tests share."""
    return MAKERS[name]("train", 40)


def swapped(pairs) -> list[int]:
    order = list(range(17))
    for left, right in pairs:
        order[left], order[right] = right, left
    return order


def front_canvas(height: int = 21, width: int = 31) -> Canvas:
    return Canvas(np.zeros((height, width, 3), np.float32), np.array([0.0, 0.0, -1.0]))


# What is drawn


def test_a_capsule_covers_the_pixels_within_its_radius():
    canvas = front_canvas()
    start, end = np.array([8.0, 10.0, 0.0]), np.array([22.0, 6.0, 0.0])
    canvas.capsule(start, end, (3.0, 3.0), np.ones(3))
    y, x = np.mgrid[:21, :31].astype(float)
    t = np.clip(((x - 8) * 14 + (y - 10) * -4) / (14**2 + 4**2), 0, 1)
    np.testing.assert_array_equal(canvas.mask, np.hypot(x - 8 - 14 * t, y - 10 + 4 * t) <= 3)
    # The surface over the axis is one radius nearer than the axis.
    assert canvas.depth[10, 8] == pytest.approx(-3)


def test_an_ellipsoid_covers_the_pixels_of_its_outline():
    canvas = front_canvas()
    canvas.ellipsoid(np.array([15.0, 10.0, 5.0]), np.eye(3), np.array([9.0, 5.0, 2.0]), lambda q: np.ones_like(q))
    y, x = np.mgrid[:21, :31].astype(float)
    outline = np.hypot((x - 15) / 9, (y - 10) / 5)
    # Half a pixel of doubt along the edge, where the distance to an ellipse is an approximation.
    assert canvas.mask[outline <= 0.97].all()
    assert not canvas.mask[outline > 1.03].any()
    assert canvas.depth[10, 15] == pytest.approx(5 - 2)


def test_the_nearer_limb_hides_the_farther_one_whatever_the_order():
    near = (np.array([3.0, 10.0, -8.0]), np.array([27.0, 10.0, -8.0]), (2.0, 2.0), np.array([1.0, 0.0, 0.0]))
    far = (np.array([15.0, 2.0, 8.0]), np.array([15.0, 18.0, 8.0]), (2.0, 2.0), np.array([0.0, 1.0, 0.0]))
    for order in ((near, far), (far, near)):
        canvas = front_canvas()
        for limb in order:
            canvas.capsule(*limb)
        assert canvas.color[10, 15, 0] > 0.5
        assert canvas.color[10, 15, 1] == 0
        assert canvas.color[4, 15, 1] > 0.5


def test_a_limb_that_points_at_the_viewer_shows_its_near_end():
    for a, b in ((-9.0, 9.0), (9.0, -9.0)):
        canvas = front_canvas()
        canvas.capsule(np.array([15.0, 10.0, a]), np.array([15.0, 10.0, b]), (3.0, 3.0), np.ones(3))
        assert canvas.depth[10, 15] == pytest.approx(-9 - 3)


def test_density_falls_over_one_voxel():
    volume = np.zeros((9, 9, 21), np.float32)
    add_capsule(volume, np.array([4.0, 4.0, 4.0]), np.array([16.0, 4.0, 4.0]), (2.0, 2.0), 0.8)
    # Distances 0, 1, 2, 3 from the axis, radius 2: full, full, half, none.
    np.testing.assert_allclose(volume[4, 4:8, 10], [0.8, 0.8, 0.4, 0], atol=1e-6)
    np.testing.assert_allclose(volume[4:8, 4, 10], [0.8, 0.8, 0.4, 0], atol=1e-6)
    np.testing.assert_allclose(volume[4, 4, 16:20], [0.8, 0.8, 0.4, 0], atol=1e-6)
    ball = np.zeros((9, 9, 9), np.float32)
    add_ellipsoid(ball, np.array([4.0, 4.0, 4.0]), np.eye(3), np.array([2.0, 2.0, 2.0]), 0.8)
    np.testing.assert_allclose(ball[4, 4, 4:8], [0.8, 0.8, 0.4, 0], atol=1e-6)


# The body


def test_bones_of_a_person_are_the_same_in_all_poses_and_plausible():
    names, bones = FigureImages3D.names, FigureImages3D.bones
    # A head that nods and turns moves its front against the thorax.
    nod = bones.index((names.index("thorax"), names.index("nose")))
    for seed in range(5):
        person = draw_person(np.random.default_rng(seed))
        lengths = []
        for k in range(6):
            rng = np.random.default_rng([seed, k])
            body = pose(person, rng, draw_view(rng))
            at = [body.place(name) for name in FigureImages3D.joints]
            lengths.append([np.linalg.norm(at[a] - at[b]) for a, b in bones])
        others = np.delete(lengths, nod, axis=1)
        np.testing.assert_allclose(others, np.broadcast_to(others[0], (6, 15)))
        assert 60 < np.min(lengths, axis=0)[nod] < np.max(lengths, axis=0)[nod] < 220
        length = {(names[a], names[b]): value for (a, b), value in zip(bones, lengths[0], strict=True)}
        assert 320 < length["left_hip", "left_knee"] < 520
        assert 310 < length["left_knee", "left_ankle"] < 510
        assert 220 < length["left_shoulder", "left_elbow"] < 350
        assert 200 < length["left_elbow", "left_wrist"] < 320
        for (a, b), value in length.items():
            if a.startswith("left"):
                assert value == pytest.approx(length[a.replace("left", "right"), b.replace("left", "right")])


def test_unturned_the_left_is_at_plus_x_and_the_face_looks_at_the_viewer():
    rng = np.random.default_rng(0)
    for _ in range(20):
        body = pose(draw_person(rng), rng, np.eye(3))
        joints = body.joints
        assert joints["left_hip"][0] > joints["right_hip"][0]
        assert joints["nose"][2] < joints["head"][2]
        assert joints["head"][1] < joints["thorax"][1] < joints["pelvis"][1]
        # Knees bend backwards: about the axis from the right to the left hip, thighs turn to shins in one sense.
        axis = joints["left_hip"] - joints["right_hip"]
        for side in ("left", "right"):
            thigh = joints[f"{side}_knee"] - joints[f"{side}_hip"]
            shin = joints[f"{side}_ankle"] - joints[f"{side}_knee"]
            assert np.cross(thigh, shin) @ axis >= 0


# What the datasets say


@pytest.mark.parametrize("name", MAKERS)
def test_attributes_fit_each_other(name):
    data = made(name)
    assert len(data) == 40
    assert len(data.names) == len(set(data.names)) == data.num_keypoints == 17
    assert data.skipped == {}
    for pair in data.pairs:
        left, right = sorted(data.names[k] for k in pair)
        assert left.startswith("left_")
        assert right == left.replace("left_", "right_")
    assert sum("left" in n for n in data.names) == len(data.pairs)
    assert {k for bone in data.bones for k in bone} == set(range(17))


@pytest.mark.parametrize("name", ["Figures2D", "FigureImages3D"])
def test_joints_are_where_the_person_is(name):
    data = made(name)
    seen = covered = 0
    for seed in range(40):
        picture = draw_picture(np.random.default_rng(seed), data.joints, cut_off=True)
        x, y, width, height = picture.box
        points = picture.points[picture.inside & ~picture.hidden & ~picture.averted, :2]
        assert (points >= (x - 1.5, y - 1.5)).all()
        assert (points <= (x + width + 0.5, y + height + 0.5)).all()
        assert 0 <= x <= x + width <= 160
        assert 0 <= y <= y + height <= 160
        assert 0.05 < picture.area / (width * height) < 0.95
        seen += len(points)
        covered += int((picture.hidden & picture.inside).sum())
    assert seen > 250
    assert covered > 40


def test_the_persons_mask_holds_every_joint(monkeypatch):
    masks = []
    mask = Canvas.mask
    monkeypatch.setattr(Canvas, "mask", property(lambda self: masks.append(mask.fget(self)) or masks[-1]))
    for seed in range(30):
        picture = draw_picture(np.random.default_rng(seed), Figures2D.names, cut_off=True)
        pixels = np.clip(np.rint(picture.points[picture.inside, :2]), 0, 159).astype(int)
        # The tip of the nose is on the outline: the neighbors of its pixel count.
        grown = np.pad(masks[-1], 1)
        grown = np.lib.stride_tricks.sliding_window_view(grown, (3, 3)).any((2, 3))
        assert grown[pixels[:, 1], pixels[:, 0]].all()
        assert picture.area == masks[-1].sum()


def test_some_joints_are_cut_off_hidden_or_averted_and_most_are_not():
    data = made("Figures2D")
    sources = [data.source(i) for i in range(40)]
    visible = torch.stack([s["visible"] for s in sources])
    hidden = torch.stack([s["hidden"] for s in sources])
    assert 0.02 < 1 - visible[:, 5:].float().mean() < 0.25
    assert 0.05 < hidden.float().mean() < 0.4
    assert visible.any(1).all()
    assert not (hidden & ~visible).any()
    for s in sources:
        assert (s["keypoints"][~s["visible"]] == 0).all()
    # Of the two ears, a head in profile shows one.
    assert (visible[:, 3] != visible[:, 4]).sum() > 5


def test_projected_3d_joints_are_the_2d_ones():
    data = made("FigureImages3D")
    root = torch.tensor([0.0, 0.0, 31.5])
    for i in range(20):
        s = data.source(i)
        x, y, z = s["joints"].unbind(1)
        assert s["visible"].sum() >= 16
        expected = torch.stack([x, y, z * 64 / 2000], 1)
        expected[:, :2] /= s["mm_per_pixel"]
        expected += root + torch.cat([s["keypoints"][0, :2], torch.zeros(1)])
        torch.testing.assert_close(s["keypoints"][s["visible"]], expected[s["visible"]], atol=1e-3, rtol=0)
        assert (s["joints"][0] == 0).all()
        assert 6 < s["mm_per_pixel"] < 30
        # A thigh is as long as a thigh.
        assert 320 < (s["joints"][1] - s["joints"][2]).norm() < 520


def test_the_same_person_as_picture_with_either_names():
    inner = FigureImages3D.joints
    a = draw_picture(np.random.default_rng(5), Figures2D.names, cut_off=True)
    b = draw_picture(np.random.default_rng(5), inner, cut_off=True)
    np.testing.assert_array_equal(a.image, b.image)
    for i, name in enumerate(inner):
        if name in Figures2D.names:
            np.testing.assert_array_equal(b.points[i], a.points[Figures2D.names.index(name)])


def test_density_is_high_at_every_joint_and_the_left_is_denser():
    data = made("Figures3D")
    left, right = ([k for k, name in enumerate(data.names) if name.startswith(side)] for side in ("left", "right"))
    values = []
    for i in range(40):
        s = data[i]
        assert s["image"].shape == (1, 32, 32, 32)
        assert 0 <= s["image"].min() <= s["image"].max() <= 1
        assert s["visible"].all()
        # grid_sample's frame has -1 and 1 at the centers of the outer voxels here.
        grid = (s["keypoints"] * 2 / 31 - 1)[None, :, None, None]
        values.append(torch.nn.functional.grid_sample(s["image"][None], grid, align_corners=True).flatten())
        assert 62 < s["voxel_size"] < 95
        length = (s["keypoints"][1] - s["keypoints"][2]).norm() * s["voxel_size"]
        assert 320 < length < 520
    stacked = torch.stack(values)
    assert stacked.min() > 0.35
    # The chin is at the surface of the head.
    nose = data.names.index("nose")
    assert (torch.cat([stacked[:, :nose], stacked[:, nose + 1 :]], 1) > 0.55).float().mean() > 0.97
    assert stacked[:, left].mean() - stacked[:, right].mean() > 0.08
    # Shins and forearms, which no trunk is near to.
    ends = [(6, 3), (13, 16)]
    assert all((stacked[:, a] > stacked[:, b]).float().mean() > 0.85 for a, b in ends)


def test_a_mirrored_volume_is_the_volume_with_the_dense_side_kept():
    data = made("Figures3D")
    order = swapped(data.pairs)
    left = [k for k, name in enumerate(data.names) if name.startswith("left")]
    seen = set()
    for i in range(12):
        plain, other = data[i], data.augmented(i, torch.Generator().manual_seed(i))
        mirrored = not torch.equal(plain["image"], other["image"])
        seen.add(mirrored)
        if mirrored:
            back = other["keypoints"][order].clone()
            back[:, 0] = 31 - back[:, 0]
            torch.testing.assert_close(back, plain["keypoints"])
            # The same but for limbs, which are denser or less so.
            difference = (other["image"].flip(-1) - plain["image"]).abs()
            assert (difference < 1 / 255).float().mean() > 0.9
            assert difference.max() > 0.1
            x, y, z = other["keypoints"][left].round().long().clamp(0, 31).unbind(1)
            mean_left = other["image"][0, z, y, x].mean()
            x, y, z = other["keypoints"][[order[k] for k in left]].round().long().clamp(0, 31).unbind(1)
            assert mean_left > other["image"][0, z, y, x].mean()
        else:
            torch.testing.assert_close(plain["keypoints"], other["keypoints"])
    assert seen == {True, False}


# What the network gets


@pytest.mark.parametrize(("name", "size"), [("Figures2D", (64, 48)), ("FigureImages3D", (32, 64, 48))])
def test_samples_lead_back_to_the_source(name, size):
    data = MAKERS[name]("train", 12, input_size=size)
    for i in range(12):
        source = data.source(i)
        for sample in (data[i], data.augmented(i, torch.Generator().manual_seed(i))):
            assert sample["image"].shape == (3, 64, 48)
            assert sample["index"] == i
            keep = sample["visible"]
            matrix = sample["to_source"]
            back = sample["keypoints"][:, :2] @ matrix[:, :2].T + matrix[:, 2]
            expected = source["keypoints"][:, :2]
            if torch.det(matrix[:, :2]) < 0:
                expected = expected[swapped(data.pairs)]
            torch.testing.assert_close(back[keep], expected[keep], atol=1e-3, rtol=0)
        assert keep.any()
        # Without variation the box, and so everything visible, is in the crop.
        torch.testing.assert_close(data[i]["visible"], source["visible"])
        batch = torch.utils.data.default_collate([data[0], data[1]])
        assert batch["keypoints"].shape == (2, 17, len(size))


@pytest.mark.parametrize("name", MAKERS)
def test_augmentation_comes_from_the_generator_alone(name):
    data = made(name)
    images = [data.augmented(3, torch.Generator().manual_seed(k % 2))["image"] for k in range(3)]
    torch.testing.assert_close(images[0], images[2], rtol=0, atol=0)
    several = {data.augmented(3, torch.Generator().manual_seed(k))["image"].sum().item() for k in range(6)}
    assert len(several) == (2 if name == "Figures3D" else 6)


def test_depth_pixels_lead_back_to_millimeters_in_plain_and_varied_crops():
    data = made("FigureImages3D")
    for i in range(12):
        joints = data.source(i)["joints"]
        for sample in (data[i], data.augmented(i, torch.Generator().manual_seed(i))):
            visible = sample["visible"]
            if not visible[0]:
                continue
            found = data.to_mm(sample["keypoints"][None], sample["mm_per_pixel"][None])[0]
            matrix = sample["to_source"][:, :2].double()
            expected = joints
            if torch.det(matrix) < 0:
                expected = joints[swapped(data.pairs)]
            # The crop is turned and perhaps mirrored; undone, millimeters are those of the source.
            turned = found.clone()
            turned[:, :2] = found[:, :2] @ (matrix / torch.det(matrix).abs().sqrt()).float().T
            torch.testing.assert_close(turned[visible], expected[visible], atol=0.05, rtol=0)
            assert sample["mm_per_pixel"].dtype == torch.float32


def test_crops_can_be_kept_from_varying():
    from pcsa.datasets.crops import CropAugment

    data = Figures2D("train", num_images=2, augment=CropAugment(flip=0.0, scale=0.0, rotation=0.0))
    same = data.augmented(1, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same["keypoints"], data[1]["keypoints"])
    torch.testing.assert_close(same["image"], data[1]["image"])


# COCO and Human3.6M


def coco_precision(truth: dict, results: list[dict]) -> float:
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        api = coco.COCO()
        api.dataset = json.loads(json.dumps(truth))
        api.createIndex()
        scorer = evaluation.COCOeval(api, api.loadRes(results), "keypoints")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return float(scorer.stats[0])


def test_pycocotools_scores_the_truth_with_one_and_exchanged_sides_with_less():
    truth = made("Figures2D").coco_annotations()
    assert len(truth["images"]) == len(truth["annotations"]) == 40

    def results(change):
        return [
            {
                "image_id": a["image_id"],
                "category_id": 1,
                "score": 1.0,
                "keypoints": change(np.reshape(a["keypoints"], (17, 3))).flatten().tolist(),
            }
            for a in truth["annotations"]
        ]

    assert coco_precision(truth, results(lambda k: k)) == pytest.approx(1.0)
    order = swapped(Figures2D.pairs)
    assert coco_precision(truth, results(lambda k: k[order])) < 0.2
    for a in truth["annotations"]:
        flags = a["keypoints"][2::3]
        assert a["num_keypoints"] == sum(flag > 0 for flag in flags) > 0
        assert set(flags) <= {0, 1, 2}
    assert {flag for a in truth["annotations"] for flag in a["keypoints"][2::3]} == {0, 1, 2}


def test_joints_of_figures_in_space_are_those_of_human36m():
    for figures in (FigureImages3D, Figures3D):
        assert figures.names == Human36M.names
        assert figures.pairs == Human36M.pairs
        assert figures.bones == Human36M.bones
    assert Figures3D("val", num_volumes=1).num_keypoints == 17


@pytest.mark.parametrize("name", ["FigureImages3D", "Figures3D"])
def test_the_left_of_a_figure_is_its_left(name):
    """The bend of the knees says where the front is."""
    data = made(name)
    at = data.names.index
    right_sides = bent = 0
    for i in range(40):
        k = data.source(i)["joints" if name == "FigureImages3D" else "keypoints"].numpy().astype(float)
        side, up = k[at("left_hip")] - k[at("right_hip")], k[at("pelvis")] - k[at("spine")]
        # x to the right, y down, z away: of a body that faces the viewer, left is +x, down +y, and ahead -z.
        ahead = -np.cross(side, up)
        for leg in ("left", "right"):
            knee = k[at(f"{leg}_knee")] - (k[at(f"{leg}_hip")] + k[at(f"{leg}_ankle")]) / 2
            if np.linalg.norm(knee) > 0.1 * np.linalg.norm(k[at(f"{leg}_knee")] - k[at(f"{leg}_hip")]):
                bent += 1
                right_sides += knee @ ahead > 0
        assert (k[at("left_shoulder")] - k[at("right_shoulder")]) @ side > 0
    assert bent > 30
    assert right_sides > 0.95 * bent


def test_the_head_is_where_human36m_has_it():
    rng = np.random.default_rng(0)
    places = []
    for _ in range(40):
        person = draw_person(rng)
        body = pose(person, rng, np.eye(3))
        thorax, nose, top = (body.place(FigureImages3D.joints[i]) for i in (8, 9, 10))
        # Human3.6M's thorax is 116 mm from its nose, and its nose 115 mm from its head_top.
        places.append((np.linalg.norm(nose - thorax), np.linalg.norm(top - nose)))
        head = body.solids[-1]
        for point in (nose, top):
            assert np.linalg.norm(head.frame.T @ (point - head.center) / head.radii) < 1
        # In front of the middle of the head, below it, and the one below the other.
        ahead, down = -head.frame[:, 2], head.frame[:, 1]
        assert (nose - head.center) @ ahead > (top - head.center) @ ahead > 0
        assert (nose - head.center) @ down > (top - head.center) @ down > 0
    assert np.abs(np.mean(places, axis=0) - (116, 115)).max() < 70


def test_names_and_bones_are_those_of_the_real_files():
    folder = os.environ.get("PCSA_TEST_DATA")
    if not folder:
        pytest.skip("PCSA_TEST_DATA is not set: no annotations to compare with")
    (person,) = json.loads(Path(folder, "h36m", "frames_coco.json").read_text())["categories"]
    # The file has the legs' names exchanged, and its own for three joints: the bones between the indexes are the same.
    assert FigureImages3D.bones == tuple(map(tuple, person["skeleton"]))
    own = {"root (pelvis)": "pelvis", "neck_base": "nose", "head": "head_top"}
    names = [own.get(name, name.replace("foot", "ankle")) for name in person["keypoints"]]
    assert FigureImages3D.names == (names[0], *names[4:7], *names[1:4], *names[7:])
    (person,) = json.loads(Path(folder, "coco", "test_coco.json").read_text())["categories"]
    assert Figures2D.names == tuple(person["keypoints"])
    assert Figures2D.bones == tuple((a - 1, b - 1) for a, b in person["skeleton"])


# Bad input


def test_volumes_too_small_for_limbs_are_refused():
    with pytest.raises(ValueError, match=r"`input_size` \(=\(32, 32, 8\)\) must be at least 16"):
        Figures3D("train", num_volumes=2, input_size=(32, 32, 8))
