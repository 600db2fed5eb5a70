import shutil
from pathlib import Path
from typing import Any

import pytest

from pcsa.datasets.keypointnet import CLASS_IDS, KeypointNet, download

BED = CLASS_IDS["bed"]


def test_download_asks_for_the_right_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    calls: list[tuple[tuple, dict]] = []

    def fetch(*args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))
        shutil.copytree(root, kwargs["local_dir"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    download(tmp_path / "new", ["bed"], meshes=True)
    (args, kwargs) = calls[0]
    assert args == ("qq456cvb/KeypointNet",)
    assert kwargs["repo_type"] == "dataset"
    assert kwargs["allow_patterns"] == [
        "splits/*.txt",
        "annotations/bed.json",
        "pcds/02818832/*",
        "ShapeNetCore.v2.ply/02818832/*",
    ]
    assert len(KeypointNet(tmp_path / "new", "bed", "train")) == 2


def test_download_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ConnectionError, match=r"qq456cvb/KeypointNet.*Name or service.*by hand"):
        download(tmp_path, ["bed"])
    # Some versions of the client return what is there, which is nothing.
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **kwargs: None)
    with pytest.raises(ConnectionError, match="did not deliver `bed`"):
        download(tmp_path, ["bed"])

    def no_space(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_space)
    with pytest.raises(OSError, match="No space"):
        download(tmp_path, ["bed"])
    for categories in (["sofa"], []):
        with pytest.raises(ValueError, match="airplane"):
            download(tmp_path, categories)


def test_the_knives_come_with_the_list_of_misaligned_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patterns: list[str] = []

    def fetch(*_: Any, allow_patterns: list[str], local_dir: str, **__: Any) -> None:
        patterns.extend(allow_patterns)
        for name in ("bed", "knife"):
            folder = Path(local_dir, "pcds", CLASS_IDS[name])
            folder.mkdir(parents=True)
            (folder / "x.pcd").write_text("")
            Path(local_dir, "annotations").mkdir(exist_ok=True)
            Path(local_dir, "annotations", f"{name}.json").write_text("[]")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    download(tmp_path / "new", ["bed", "knife"])
    assert patterns.count("knife_misaligned.txt") == 1
