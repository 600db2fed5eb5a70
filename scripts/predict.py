"""``pcsa predict``: keypoints of clouds and meshes, in their own units."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor
from torch_geometric.data import Data

import pcsa
from pcsa.datasets.files import files_of, picture_names
from pcsa.datasets.points import CLOUDS, MESHES, read_points
from pcsa.datasets.transforms import Normalize, denormalize
from pcsa.localization import ReadOut
from pcsa.models.detector import KeypointDetector
from pcsa.models.skeleton_merger import SkeletonMerger
from pcsa.scripts.evaluate import COMPARED, names_grid_checkpoint, pick_device
from pcsa.skeleton import segment_pairs
from pcsa.training import load_about, load_detector, write_json
from pcsa.unsupervised import SKELETON_KIND, load_skeleton_merger
from pcsa.viz import Scene, keypoint_scene, save_html, save_pngs


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
    files = files_of(config.inputs, (*CLOUDS, *MESHES))
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
