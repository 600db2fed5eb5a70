"""The published sets by the path of own data: the example's files, then the import."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.landmark_import.build import ImportOptions, import_landmarks

EXAMPLE = Path(__file__).parents[3] / "examples" / "landmark_sets.py"


@pytest.fixture(scope="module")
def sets() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


def made(tmp_path: Path, files: list[Path], write: Any, *more: Any) -> tuple[Path, Path, Path]:
    scans, landmarks = tmp_path / "scans", tmp_path / "landmarks"
    for folder in (scans, landmarks):
        folder.mkdir()
    for file in files:
        write(dict(np.load(file)), scans / f"{file.stem}.ply", landmarks / file.stem, *more)
    return scans, landmarks, tmp_path / "root"


def test_skulls(real_data: Path, tmp_path: Path, sets: dict[str, Any]) -> None:
    files = sorted((real_data / "landmarks" / "skull").glob("*.npz"))
    folders = made(tmp_path, files[:2], sets["skull"])
    found = import_landmarks(*folders, ImportOptions(units="mm", up="z", cloud_points=2048))
    assert found.assumed == ["the scans do not name their frame: they are taken for LPS, as the others are"]
    assert found.names == [str(i + 1) for i in range(51)]
    # Points of the surface are 0.2 mm apart.
    assert np.concatenate(list(found.distance.values())).mean() < 0.3
    item = KeypointNet(tmp_path / "root", "root", "all")[0]
    assert item.pos.shape == (2048, 3)
    expected = np.load(next(file for file in files if file.stem == item.model_id))["landmarks"]
    np.testing.assert_allclose(item.keypoints[0].numpy(), expected, atol=1e-5)
    landmarks = np.array([np.load(file)["landmarks"] for file in files])
    pairs = [text.split("=") for text in sets["mirrored"](landmarks, found.names)]
    # Nearly all are in pairs, the others on the middle.
    assert len(pairs) > 15
    assert len({name for pair in pairs for name in pair}) == 2 * len(pairs)


def test_femora(real_data: Path, tmp_path: Path, sets: dict[str, Any]) -> None:
    files = sorted((real_data / "landmarks" / "femur").glob("*.npz"))[:2]
    folders = made(tmp_path, files, sets["femur"])
    found = import_landmarks(*folders, ImportOptions(units="mm", up="z", marks="all", num_points=500))
    assert not found.failed
    item = KeypointNet(tmp_path / "root", "root", "all")[0]
    expected = np.load(next(file for file in files if file.stem == item.model_id))["landmarks"].reshape(20, 22, 3)
    assert item.marks.shape == (1, 22, 20, 3)
    np.testing.assert_allclose(
        item.marks[0].numpy()[item.marked[0]], expected.transpose(1, 0, 2).reshape(-1, 3), rtol=1e-6
    )
    np.testing.assert_allclose(item.keypoints[0].numpy(), expected.mean(0), rtol=1e-5)
    # Means of places on a surface lie beside it, a little.
    assert np.concatenate(list(found.distance.values())).mean() < 1.0


def test_posed_shapes(real_data: Path, tmp_path: Path, sets: dict[str, Any]) -> None:
    folder = real_data / "landmarks" / "shrec07"
    for text in folder.glob("*.txt"):
        names = sets["named"](text.read_text())
        index = np.load(next(text.with_suffix("").glob("*.npz")))["index"]
        assert len(names) == len(set(names)) == len(index), text
    names = sets["named"]((folder / "human.txt").read_text())
    assert names[:3] == ["0 toe in right leg", "1 toe in left leg", "2 heel in right leg"]
    assert names[6] == "6 knee (inside) in right leg"
    folders = made(tmp_path, sorted((folder / "human").glob("*.npz"))[:2], sets["shrec07"], names)
    found = import_landmarks(*folders, ImportOptions(up="none", num_points=500))
    assert max(distance.max() for distance in found.distance.values()) < 1e-6
    assert KeypointNet(tmp_path / "root", "root", "all")[0].visible.sum() == 36
