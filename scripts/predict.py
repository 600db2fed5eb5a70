"""``pcsa predict``: keypoints of clouds and meshes, in their own units."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
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
from pcsa.scripts.evaluate import COMPARED, names_grid_checkpoint, pick_device
from pcsa.skeleton import segment_pairs
from pcsa.training import load_about, load_detector, write_json
from pcsa.unsupervised import SKELETON_KIND, load_skeleton_merger
from pcsa.viz import Scene, keypoint_scene, save_html, save_pngs

CLOUDS = (".pcd", ".npy", ".npz")
MESHES = (".obj", ".off", ".stl", ".ply")  # a .ply without faces is a cloud


@dataclass(frozen=True)
class PredictConfig:
    """Keypoints of clouds (.pcd, .ply, .npy, .npz) and meshes (.obj, .off, .stl, .ply), in their own units.

    A checkpoint of pose2d, pose3d, oct or landmarks has other options: pcsa predict CHECKPOINT --help.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Written by `pcsa train`."""
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
    png: Path | None = None
    """Folder for a picture of every input."""
    html: Path | None = None
    """A page with every input, to turn and look into."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def main(argv: list[str]) -> int:
    """Parse options, predict, write."""
    if names_grid_checkpoint(argv):
        # Imported here: it needs libraries of its own, and functions of this module.
        from pcsa.scripts.predict_grid import main as predict_grid

        return predict_grid(argv)
    config = tyro.cli(PredictConfig, args=argv, prog="pcsa predict")
    result = predict(config)
    print(f"{len(result['clouds'])} clouds, {len(result['names'])} keypoints each: {config.out}")
    for written in (config.png, config.html):
        if written:
            print(f"written: {written}")
    return 0


def predict(config: PredictConfig) -> dict[str, Any]:
    """Predict for every input and write the result to ``config.out``."""
    if config.out.suffix not in (".json", ".npz"):
        raise ValueError(f"`out` (={config.out}) must end in .json or .npz")
    if config.num_points < 1:
        raise ValueError(f"`num-points` (={config.num_points}) must be at least 1")
    if config.seed < 0:
        raise ValueError(f"`seed` (={config.seed}) must be at least 0")
    files = input_files(config.inputs)
    device = pick_device(config.device)
    model, about = open_model(config.checkpoint, device)
    clouds: list[dict[str, Any]] = []
    kept: list[Scene] = []

    def pictures() -> Iterator[tuple[Path, Scene]]:
        names = picture_names(files)
        for file, name in zip(files, names, strict=True):
            pos = read_points(file, config.num_points, config.seed)
            found, logits = locate(model, pos, config.read_out, device)
            clouds.append({"input": str(file), "num_points": len(pos), **found})
            if config.png or config.html:
                scene = unlabelled_scene(pos, logits, found, about, file.name, config.read_out)
                if config.html:
                    kept.append(scene)
                yield (config.png or Path()) / name, scene

    # As they are predicted: a thousand clouds with their maps need not lie in memory.
    if config.png:
        save_pngs(pictures(), layers=COMPARED)
    else:
        deque(pictures(), maxlen=0)
    if config.html:
        save_html(config.html, kept, title=f"{about['category']}: {len(kept)} clouds", layers=COMPARED)
    extra: dict[str, Any]
    if "semantic_ids" in about:
        extra = {"semantic_ids": about["semantic_ids"]}
    else:  # which keypoints each activation joins
        extra = {"segments": segment_pairs(len(about["names"])).t().tolist()}
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


def input_files(inputs: Sequence[Path]) -> list[Path]:
    """The clouds and meshes that are named, and those in the folders that are named."""
    return files_of(inputs, (*CLOUDS, *MESHES))


def files_of(inputs: Sequence[Path], known: Sequence[str]) -> list[Path]:
    """The files of known suffixes that are named, and those in the folders that are named."""
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


def picture_names(files: Sequence[Path]) -> list[str]:
    """One for each file, also where two folders have files of one name."""
    seen: Counter[str] = Counter()
    names = []
    for file in files:
        seen[file.name] += 1
        names.append(f"{file.name}.png" if seen[file.name] == 1 else f"{file.name}-{seen[file.name]}.png")
    return names


def open_model(path: Path, device: torch.device) -> tuple[KeypointDetector | SkeletonMerger, dict[str, Any]]:
    """The trained model of a checkpoint of either training, and what the checkpoint says of itself."""
    if load_about(path)["kind"] == SKELETON_KIND:
        return load_skeleton_merger(path, device)
    return load_detector(path, device)


def unlabelled_scene(
    pos: Tensor,
    logits: Tensor,
    found: dict[str, Any],
    about: dict[str, Any],
    title: str,
    read_out: ReadOut,
    **options: Any,
) -> Scene:
    """Of what :func:`locate` found: the keypoints that the cloud is thought to have, or those of a skeleton and it."""
    if "presence" in found:
        known: dict[str, Any] = {"ids": about["semantic_ids"], "present": np.asarray(found["presence"]) > 0.5}
    else:
        known = {"segments": segment_pairs(len(about["names"])).t(), "activation": found["activation"]}
    names = [str(n) for n in about["names"]]
    return keypoint_scene(pos, logits, title=title, names=names, read_out=read_out, **known, **options)


@torch.inference_mode()
def locate(
    model: KeypointDetector | SkeletonMerger, pos: Tensor, read_out: ReadOut, device: torch.device
) -> tuple[dict[str, Any], Tensor]:
    """What is written of a cloud, in its units, and the scores of its points [N, K]."""
    merger = isinstance(model, SkeletonMerger)
    cloud = Normalize("min_max" if merger else "unit_sphere")(Data(pos=pos))
    normal = cloud.pos.float().to(device)
    predicted = model(None, normal)
    found = pcsa.localize(predicted["logits"], normal, pcsa.knn_bandwidth(normal), read_out=read_out)
    numbers = {
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
    return numbers, predicted["logits"].float().cpu()
