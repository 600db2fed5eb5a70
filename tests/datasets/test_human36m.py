from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from pcsa.datasets.human36m import Human36M, back_project, check_human36m, project, to_camera

CAMERA = {
    "f": [[1100.0], [1110.0]],
    "c": [[50.0], [60.0]],
    "k": [[-0.2], [0.24], [-0.003]],
    "p": [[-0.0014], [-0.00098]],
}


def naive_pixel(x: float, y: float, z: float) -> tuple[float, float]:
    x, y = x / z, y / z
    r = x * x + y * y
    k1, k2, k3 = (k[0] for k in CAMERA["k"])
    p1, p2 = (p[0] for p in CAMERA["p"])
    q = 1 + k1 * r + k2 * r * r + k3 * r * r * r + p1 * y + p2 * x
    return 1100 * (q * x + p2 * r) + 50, 1110 * (q * y + p1 * r) + 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    names = [f"{s}/{s}_Walk.54138969/{s}_Walk.54138969_{i:06d}.jpg" for s, i in (("S1", 1), ("S8", 2), ("S9", 3))]
    positions = np.ones((3, 17, 4))
    positions[:, :, :2] = rng.uniform(-0.09, 0.09, (3, 17, 2))
    positions[:, :, 2] = 4 + rng.uniform(-0.5, 0.5, (3, 17))
    positions[:, [1, 3, 4, 6], 2], positions[:, [2, 5], 2] = 3.8, 4.2  # legs of 0.4 m to each bone
    positions[:, 0, :2] = (positions[:, 1, :2] + positions[:, 4, :2]) / 2
    positions[:, 0, 2] = 3.8
    part = np.ones((3, 17, 3))
    for i in range(3):
        for k in range(17):
            part[i, k, :2] = naive_pixel(*positions[i, k, :3])
    center = np.tile([50.0, 60.0], (3, 1))
    scale = np.full(3, 0.4)
    np.savez(tmp_path / "frames.npz", imgname=np.array(names), center=center, scale=scale, part=part, S=positions)
    write_cameras(tmp_path, {f"('{s}', '54138969')": CAMERA for s in ("S1", "S8", "S9", "S11")})
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(np.full((120, 100, 3), 90, dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def write_cameras(root: Path, cameras: Any) -> None:
    (root / "cameras.json").write_text(json.dumps(cameras))


def edit(root: Path, **changes: Any) -> None:
    with np.load(root / "frames.npz") as data:
        content = dict(data)
    for name, value in changes.items():
        content[name] = value(content[name]) if callable(value) else value
    np.savez(root / "frames.npz", **{k: v for k, v in content.items() if v is not None})


def test_splits(root: Path) -> None:
    assert len(Human36M(root, "train")) == 2
    assert len(Human36M(root, "val")) == 1
    assert len(Human36M(root, "test")) == 1
    assert len(Human36M(root, "test", subjects=("S1", "S9"))) == 2


def test_source_by_hand(root: Path) -> None:
    dataset = Human36M(root, "train", input_size=(32, 64, 64))
    with np.load(root / "frames.npz") as data:
        positions, part = data["S"][1], data["part"][1]
    source = dataset.source(1)
    assert source["image"].shape == (3, 120, 100)
    np.testing.assert_allclose(source["keypoints"][:, :2], part[:, :2], rtol=1e-6)
    # 1000 mm behind the root are half of 32 cells behind the middle, 15.5.
    expected = (positions[:, 2] - positions[0, 2]) * 16 + 15.5
    np.testing.assert_allclose(source["keypoints"][:, 2], expected, atol=1e-4)
    assert source["keypoints"][0, 2] == 15.5
    # 80 pixels around the center, whose pixel reaches half a pixel on.
    assert source["box"].tolist() == pytest.approx([10.5, 20.5, 80, 80])
    assert source["root_depth"] == pytest.approx(positions[0, 2] * 1000)
    assert source["camera"].tolist() == [1100, 1110, 50, 60]
    assert source["distortion"].tolist() == pytest.approx([-0.2, 0.24, -0.003, -0.0014, -0.00098])
    np.testing.assert_allclose(source["positions"], positions[:, :3] * 1000, rtol=1e-6)


def test_from_the_network_to_millimeters(root: Path) -> None:
    dataset = Human36M(root, "train", input_size=(32, 64, 48))
    batch = default_collate([dataset[i] for i in range(2)])
    assert batch["image"].shape == (2, 3, 64, 48)
    assert batch["visible"].all()
    arguments = (batch["keypoints"], batch["to_source"], batch["root_depth"], batch["camera"], 32)
    found = to_camera(*arguments, batch["distortion"])
    torch.testing.assert_close(found, batch["positions"], rtol=0, atol=0.05)
    # The depth is right without the lens too, the rest is nearly so.
    plain = to_camera(*arguments)
    torch.testing.assert_close(plain[..., 2], batch["positions"][..., 2], rtol=0, atol=0.01)
    assert 1e-3 < (plain - batch["positions"]).norm(dim=2).max() < 1


def test_augmented_samples_go_back_too(root: Path) -> None:
    dataset = Human36M(root, "train", input_size=(32, 64, 64))
    for seed in range(6):
        sample = dataset.augmented(0, torch.Generator().manual_seed(seed))
        batch = default_collate([sample])
        found = to_camera(
            batch["keypoints"], batch["to_source"], batch["root_depth"], batch["camera"], 32, batch["distortion"]
        )[0]
        expected = sample["positions"]
        if torch.det(sample["to_source"][:, :2]) < 0:
            order = list(range(17))
            for left, right in dataset.pairs:
                order[left], order[right] = right, left
            expected = expected[order]
        seen = sample["visible"]
        assert seen.sum() > 5
        torch.testing.assert_close(found[seen], expected[seen], rtol=0, atol=0.1)


def test_pairs_are_left_and_right() -> None:
    for left, right in Human36M.pairs:
        assert {Human36M.names[left][:4], Human36M.names[right][:4]} == {"left", "righ"}
        assert Human36M.names[left].split("_")[1] == Human36M.names[right].split("_")[1]
    assert len(Human36M.bones) == 16


def test_projection_by_hand_and_back() -> None:
    rng = np.random.default_rng(1)
    positions = torch.tensor(rng.uniform([-1500, -1500, 3000], [1500, 1500, 7000], (1, 40, 3)))
    camera = torch.tensor([[1100.0, 1110.0, 50.0, 60.0]], dtype=torch.float64)
    distortion = torch.tensor([[-0.2, 0.24, -0.003, -0.0014, -0.00098]], dtype=torch.float64)
    pixels = project(positions, camera, distortion)
    expected = [naive_pixel(*row) for row in positions[0].tolist()]
    np.testing.assert_allclose(pixels[0], expected, rtol=1e-12)
    back = back_project(pixels, positions[..., 2], camera, distortion)
    torch.testing.assert_close(back, positions, rtol=0, atol=0.01)
    plain = project(positions, camera)
    np.testing.assert_allclose(plain[0, 0], positions[0, 0, :2] / positions[0, 0, 2] * camera[0, :2] + camera[0, 2:])
    torch.testing.assert_close(back_project(plain, positions[..., 2], camera), positions, rtol=0, atol=1e-9)


def test_gradients_reach_the_prediction() -> None:
    points = torch.tensor([[[10.0, 12.0, 9.0], [3.0, 4.0, 20.0]]], dtype=torch.float64, requires_grad=True)
    matrix = torch.tensor([[[2.0, 0.1, 3.0], [-0.1, 2.0, 5.0]]], dtype=torch.float64)
    camera = torch.tensor([[1100.0, 1110.0, 50.0, 60.0]], dtype=torch.float64)
    distortion = torch.tensor([[-0.2, 0.24, -0.003, -0.0014, -0.00098]], dtype=torch.float64)
    depth = torch.tensor([4000.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: to_camera(p, matrix, depth, camera, 32, distortion), (points,))


def test_what_cannot_be_shown(root: Path) -> None:
    def change(positions: np.ndarray) -> np.ndarray:
        positions[0, 5, 2] = positions[0, 0, 2] + 1.01  # behind the volume
        positions[1, 6, 3] = 0  # not labeled
        return positions

    edit(root, S=change)
    dataset = Human36M(root, "train")
    assert dataset.source(0)["visible"].tolist() == [k != 5 for k in range(17)]
    assert dataset.source(1)["visible"].tolist() == [k != 6 for k in range(17)]
    assert dataset.source(1)["keypoints"][6].tolist() == [0, 0, 0]

    def hide(part: np.ndarray) -> np.ndarray:
        part[0, :, 2] = 0
        part[1, 0, 2] = 0
        return part

    edit(root, part=hide)
    both = Human36M(root, "train", subjects=("S1", "S8", "S9"))
    assert len(both) == 1
    assert both.skipped == {"no visible joint": 1, "root joint not visible": 1}


def test_bad_files(root: Path) -> None:
    with pytest.raises(ValueError, match=r"`subjects`.*S1, S8, S9"):
        Human36M(root, "test", subjects=("S11",))
    with pytest.raises(ValueError, match="`split`"):
        Human36M(root, "all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`input_size`.*depth, height, width"):
        Human36M(root, "train", input_size=(64, 64))  # type: ignore[arg-type]
    write_cameras(root, {"('S1', '54138969')": CAMERA})
    with pytest.raises(ValueError, match=r"cameras\.json.*54138969.*S8"):
        Human36M(root, "train")
    for bad in ({"S1": CAMERA}, {"('S1', '1')": {"f": [1]}}, {"('S1', '1')": CAMERA | {"k": [[1.0]]}}, [1]):
        write_cameras(root, bad)
        with pytest.raises(ValueError, match=r"cameras\.json"):
            Human36M(root, "train")
    (root / "cameras.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"cameras\.json"):
        Human36M(root, "train")
    edit(root, scale=lambda s: s * np.nan)
    with pytest.raises(ValueError, match=r"frames\.npz.*scale.*finite"):
        Human36M(root, "train")
    edit(root, scale=np.ones(3), part=np.ones((3, 16, 3)))
    with pytest.raises(ValueError, match=r"frames\.npz`: `part` \(float64 \[3, 16, 3\]\) must be numbers \[3, 17, 3\]"):
        Human36M(root, "train")
    edit(root, part=None)
    with pytest.raises(ValueError, match=r"frames\.npz.*part"):
        Human36M(root, "train")
    (root / "frames.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"frames\.npz"):
        Human36M(root, "train")


def meters(change: Any) -> Any:
    """Change positions, but for their flag."""

    def edited(positions: np.ndarray) -> np.ndarray:
        positions[..., :3] = change(positions[..., :3])
        return positions

    return edited


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Human3.6M in millimeters: of 17 joints, 16 would be too deep for the volume.
        (
            {"S": meters(lambda x: 1000 * x)},
            r"bones of the legs of S1 \(=4\d\d(\.\d)?\) must be from 0.2 to 0.8 long: `S` is in m",
        ),
        ({"S": meters(lambda x: x / 100)}, r"bones of the legs of S1 \(=0.004\d*\)"),
        ({"S": meters(lambda x: x[:, [*range(7), *range(16, 6, -1)]])}, "distance to the projection of `S`"),
        ({"S": meters(lambda x: x[:, [8, *range(1, 17)]])}, r"pelvis of S1 is off the hips' middle \(=\d+"),
        ({"S": meters(lambda x: x - x[:, :1])}, r"depth of the root \(=0\) must be from 1 to 20 m before the camera"),
        ({"S": meters(lambda x: x[..., [0, 2, 1]])}, "depth of the root"),
        (
            {"S": meters(lambda x: x * [-1, 1, 1])},
            r"distance to the projection of `S` \(=\d+(\.\d+)?\) must be at most",
        ),
        ({"scale": lambda x: 200 * x}, r"200 `scale`, the box's side \(=1.6e\+04\) must be from 0.5 to 5 times"),
        ({"scale": lambda x: x / 200}, "200 `scale`"),
        ({"center": lambda x: x / 100}, r"`center`: its distance \(=\d+(\.\d+)?\) must be within half the box"),
        ({"part": lambda x: x / [100, 100, 1]}, "200 `scale`, the box's side"),
        ({"part": lambda x: x + np.array([20, 0, 0])}, "distance to the projection of `S`"),
    ],
)
def test_another_unit_or_frame(root: Path, changes: dict, message: str) -> None:
    edit(root, **changes)
    with pytest.raises(ValueError, match=rf"frames\.npz`: .*{message}"):
        Human36M(root, "train")
    problems = check_human36m(root)
    assert any(re.search(message, p.message) for p in problems)
    # One of them for all frames, or one for each subject.
    assert len(problems) <= 4


def test_pictures_of_another_size(root: Path) -> None:
    names = sorted(root.glob("S*/*/*.jpg"))
    for name in names:
        Image.open(name).resize((50, 60)).save(name)
    with pytest.raises(
        ValueError, match=r"S1_Walk\.54138969_000001\.jpg`: the camera's center \(=50\) must be at 0.4 to 0.6"
    ):
        Human36M(root, "train")
    assert [Path(p.path) for p in check_human36m(root)] == names
    for name, orientation in zip(names, (6, 3, 1), strict=True):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (100, 120)).save(name, exif=exif)
    with pytest.raises(ValueError, match=r"000001\.jpg`: EXIF orientation \(=6\) must be 1"):
        Human36M(root, "train")
    assert [Path(p.path) for p in check_human36m(root)] == names[:2]
    names[2].unlink()
    assert "missing" in check_human36m(root)[2].message
    assert "(=6)" in check_human36m(root)[0].message


def test_check_lists_every_fault(root: Path) -> None:
    assert check_human36m(root) == []
    write_cameras(root, {"('S1', '54138969')": CAMERA})
    found = [str(p) for p in check_human36m(root)]
    assert len(found) == 2
    assert all("has no camera '54138969' of" in text for text in found)
    (root / "cameras.json").write_text("{")
    (root / "frames.npz").write_text("nonsense")
    assert [Path(p.path).name for p in check_human36m(root)] == ["frames.npz", "cameras.json"]


def test_names_and_keys_of_other_programs(root: Path) -> None:
    edit(root, imgname=lambda names: np.char.replace(names, "/", "\\").astype("S"))
    content = json.dumps({'("S1","54138969")': CAMERA, "S8, 54138969": CAMERA})
    (root / "cameras.json").write_bytes(b"\xef\xbb\xbf" + content.encode())
    dataset = Human36M(root, "train")
    assert dataset.source(0)["image"].shape == (3, 120, 100)
    for bad in (CAMERA | {"k": [["a"], [1], [2]]}, CAMERA | {"c": [float("nan"), 1]}, CAMERA | {"f": [True, 1]}):
        write_cameras(root, {"('S1', '1')": bad})
        with pytest.raises(ValueError, match=r"cameras\.json`: the camera \('S1', '1'\): `[kcf]` .* finite numbers"):
            Human36M(root, "train")


def test_bad_arguments() -> None:
    points, camera = torch.zeros(2, 3, 3), torch.ones(2, 4)
    matrix, depth = torch.zeros(2, 2, 3), torch.zeros(2)
    with pytest.raises(ValueError, match="`points`"):
        to_camera(points[..., :2], matrix, depth, camera, 64)
    with pytest.raises(ValueError, match="`root_depth`"):
        to_camera(points, matrix, depth[:1], camera, 64)
    with pytest.raises(ValueError, match="`camera`"):
        to_camera(points, matrix, depth, camera[:, :3], 64)
    with pytest.raises(ValueError, match="`distortion`"):
        to_camera(points, matrix, depth, camera, 64, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="`depth_mm`"):
        back_project(points[..., :2], torch.zeros(2, 4), camera)
    with pytest.raises(ValueError, match="`pixels`"):
        back_project(points, torch.zeros(2, 3), camera)
    with pytest.raises(ValueError, match="`positions`"):
        project(points[0], camera)


# The real data


@pytest.fixture(scope="module")
def real(real_data: Path) -> Human36M:
    return Human36M(real_data / "h36m", "train")


def test_real_projection(real: Human36M) -> None:
    assert len(real) == 4
    assert check_human36m(real.root) == []
    batch = default_collate([{k: v for k, v in real.source(i).items() if k != "image"} for i in range(4)])
    assert batch["visible"].all()
    positions, camera, distortion = (batch[k].double() for k in ("positions", "camera", "distortion"))
    with_lens = project(positions, camera, distortion) - batch["keypoints"][..., :2]
    assert with_lens.norm(dim=2).max() < 1e-3
    without = (project(positions, camera) - batch["keypoints"][..., :2]).norm(dim=2)
    np.testing.assert_allclose(without.mean(1), [0.374, 0.572, 1.096, 1.244], atol=2e-3)
    assert without.max() == pytest.approx(3.376, abs=2e-3)


def test_real_sides(real: Human36M) -> None:
    place = {name: i for i, name in enumerate(real.names)}
    for i in range(4):
        positions = real.source(i)["positions"].double()

        def at(name: str, positions: torch.Tensor = positions) -> torch.Tensor:
            return positions[place[name]]

        up = at("thorax") - at("pelvis")
        for part, middle, lower, sign in (("hip", "knee", "ankle", 1), ("shoulder", "elbow", "wrist", -1)):
            # Left times up is forward; x is to the right, y down and z away, which is right-handed.
            forward = torch.linalg.cross(at(f"left_{part}") - at(f"right_{part}"), up)
            forward = forward / forward.norm()
            bend = sum(
                at(f"{side}_{middle}") - (at(f"{side}_{part}") + at(f"{side}_{lower}")) / 2
                for side in ("left", "right")
            )
            assert isinstance(bend, torch.Tensor)
            assert sign * float(bend @ forward) > 0
            assert float((at("nose") - (at("thorax") + at("head_top")) / 2) @ forward) > 0


def test_real_crops_hold_the_person(real: Human36M) -> None:
    for i in range(4):
        sample = real[i]
        assert sample["visible"].all()
        assert math.isclose(sample["keypoints"][0, 2], 31.5)
        span = sample["keypoints"][:, :2].amax(0) - sample["keypoints"][:, :2].amin(0)
        assert 0.7 * 256 < span.max() < 0.95 * 256
