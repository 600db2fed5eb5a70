"""``pcsa predict``: keypoints of clouds and meshes, in their own units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor
from torch_geometric.data import Data

import pcsa
from pcsa.datasets.pcd import read_pcd
from pcsa.datasets.transforms import Normalize, denormalize
from pcsa.localization import ReadOut
from pcsa.models.detector import KeypointDetector
from pcsa.models.skeleton_merger import SkeletonMerger
from pcsa.scripts.evaluate import pick_device
from pcsa.skeleton import segment_pairs
from pcsa.training import load_about, load_detector, write_json
from pcsa.unsupervised import SKELETON_KIND, load_skeleton_merger

CLOUDS = (".pcd", ".npy", ".npz")
MESHES = (".obj", ".off", ".stl", ".ply")  # a .ply without faces is a cloud


@dataclass(frozen=True)
class PredictConfig:
    """Keypoints of clouds (.pcd, .ply, .npy, .npz) and meshes (.obj, .off, .stl, .ply), in their own units."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Written by `pcsa train supervised` or `unsupervised`."""
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files, or folders of such files. They must stand as in the training data: same up axis, same heading."""
    out: Path = Path("predictions.json")
    """Written as .json or .npz."""
    read_out: ReadOut = "expectation"
    """See pcsa.localize."""
    num_points: int = 2048
    """Points sampled on a mesh, by area."""
    seed: int = 0
    """Of the sampling on meshes."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def main(argv: list[str]) -> int:
    """Parse options, predict, write."""
    config = tyro.cli(PredictConfig, args=argv, prog="pcsa predict")
    result = predict(config)
    print(f"{len(result['clouds'])} clouds, {len(result['names'])} keypoints each: {config.out}")
    return 0


def predict(config: PredictConfig) -> dict[str, Any]:
    """Predict for every input and write the result to ``config.out``."""
    if config.out.suffix not in (".json", ".npz"):
        raise ValueError(f"`out` (={config.out}) must end in .json or .npz")
    if config.num_points < 1:
        raise ValueError(f"`num-points` (={config.num_points}) must be at least 1")
    if config.seed < 0:
        raise ValueError(f"`seed` (={config.seed}) must be at least 0")
    files = _files(config.inputs)
    device = pick_device(config.device)
    model: KeypointDetector | SkeletonMerger
    if load_about(config.checkpoint)["kind"] == SKELETON_KIND:
        model, about = load_skeleton_merger(config.checkpoint, device)
        # Which keypoints each activation joins.
        extra = {"segments": segment_pairs(model.num_keypoints).t().tolist()}
    else:
        model, about = load_detector(config.checkpoint, device)
        extra = {"semantic_ids": about["semantic_ids"]}
    clouds = []
    for file in files:
        pos = read_points(file, config.num_points, config.seed)
        clouds.append({"input": str(file), "num_points": len(pos), **_locate(model, pos, config.read_out, device)})
    result = {
        "checkpoint": str(config.checkpoint),
        "category": about["category"],
        **extra,
        "names": about["names"],
        "read_out": config.read_out,
        "clouds": clouds,
    }
    if config.out.suffix == ".json":
        write_json(config.out, result)
    else:
        fields = [name for name in clouds[0] if name not in ("input", "num_points")]
        arrays: dict[str, Any] = {field: np.asarray([c[field] for c in clouds]) for field in fields}
        arrays["input"] = np.asarray([c["input"] for c in clouds])
        arrays["names"] = np.asarray([str(n) for n in about["names"]])
        arrays |= {name: np.asarray(value) for name, value in extra.items()}
        config.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez(config.out, **arrays)
    return result


def read_points(file: Path, num_points: int = 2048, seed: int = 0) -> Tensor:
    """Points [N, 3] of a cloud, or sampled by area on a mesh; float64, so that far from the origin nothing is lost.

    Raises:
        ValueError: If the file cannot be read, has no points, or values that are not finite; names the file.
    """
    import trimesh

    suffix = file.suffix.lower()
    try:
        if suffix == ".pcd":
            points = read_pcd(file).points
        elif suffix == ".npy":
            points = np.load(file)
        elif suffix == ".npz":
            points = _npz_points(file)
        else:
            loaded = trimesh.load(file, process=False)
            if isinstance(loaded, trimesh.Scene):
                loaded = loaded.to_mesh()
            if isinstance(loaded, trimesh.Trimesh) and len(loaded.faces):
                if not loaded.area > 0:
                    raise ValueError("the mesh has no area to sample")
                points = trimesh.sample.sample_surface(loaded, num_points, seed=seed)[0]
            else:
                points = np.asarray(getattr(loaded, "vertices", ()))
        points = np.asarray(points)
    except Exception as error:
        named = str(error).startswith(f"`{file}`")
        raise ValueError(str(error) if named else f"`{file}` cannot be read: {error}") from None
    if points.ndim != 2 or points.shape[1] < 3 or len(points) == 0 or points.dtype.kind not in "fiu":
        raise ValueError(
            f"`{file}` holds {points.dtype} {list(points.shape)}, must be numbers [N, 3] with N at least 1"
        )
    points = points[:, :3].astype(np.float64)
    if not np.isfinite(points).all():
        raise ValueError(f"`{file}` has {int((~np.isfinite(points)).any(1).sum())} points that are not finite")
    return torch.from_numpy(points)


def _npz_points(file: Path) -> Any:
    with np.load(file) as archive:
        for key in ("pos", "points", "xyz"):
            if key in archive:
                return archive[key]
        if len(archive.files) == 1:
            return archive[archive.files[0]]
        raise ValueError(f"arrays {archive.files}, none of them named pos, points or xyz")


def _files(inputs: Sequence[Path]) -> list[Path]:
    known = (*CLOUDS, *MESHES)
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(f for f in path.iterdir() if f.suffix.lower() in known)
            if not inside:
                raise FileNotFoundError(f"`{path}` is a folder without any file of {', '.join(known)}")
            files += inside
        elif not path.exists():
            raise FileNotFoundError(f"`{path}` does not exist")
        elif path.suffix.lower() not in known:
            raise ValueError(f"`{path}` must be a file of {', '.join(known)}")
        else:
            files.append(path)
    if not files:
        raise ValueError("`inputs` must name at least one file or folder")
    return files


@torch.inference_mode()
def _locate(
    model: KeypointDetector | SkeletonMerger, pos: Tensor, read_out: ReadOut, device: torch.device
) -> dict[str, Any]:
    merger = isinstance(model, SkeletonMerger)
    cloud = Normalize("min_max" if merger else "unit_sphere")(Data(pos=pos))
    normal = cloud.pos.float().to(device)
    predicted = model(None, normal)
    found = pcsa.localize(predicted["logits"], normal, pcsa.knn_bandwidth(normal), read_out=read_out)
    return {
        "position": denormalize(found.position.cpu(), cloud.offset, cloud.scale)[0].tolist(),
        "covariance": (found.covariance.cpu() * cloud.scale.square().view(-1, 1, 1, 1))[0].tolist(),
        "confidence": found.peak[0].tolist(),
        "entropy": found.entropy[0].tolist(),
        **(
            {"activation": predicted["activation"][0].tolist()}
            if merger
            else {"presence": predicted["presence"].sigmoid()[0].tolist()}
        ),
        "index": found.index[0].tolist(),
        "point": pos[found.index[0].cpu()].tolist(),
    }
