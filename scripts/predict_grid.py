"""``pcsa predict`` of the grid tasks: images, volumes and scans in, positions and overlays out."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from pcsa.datasets.arrays import ARRAYS, read_volume
from pcsa.datasets.crops import crop, to_source
from pcsa.datasets.files import files_of, picture_names
from pcsa.datasets.human36m import DEPTH_RANGE
from pcsa.datasets.images import IMAGES, read_image
from pcsa.datasets.scans import read_scan_file
from pcsa.grid_training import depth_of, load_grid_network, locate
from pcsa.localization import ReadOut
from pcsa.scripts.evaluate import pick_device
from pcsa.training import write_json
from pcsa.viz import Overlay, save_overlay

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictGridConfig:
    """Joints, landmarks or surfaces of your own images, volumes and scans."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Written by `pcsa train pose2d|pose3d|oct|landmarks`."""
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Images; volumes [D, H, W] from 0 to 1 (.npy, .npz); scans as images or arrays [H, W]. Or folders of them."""
    boxes: Path | None = None
    """JSON of file name to a list of boxes [x, y, width, height] in pixels, one for each person or face. Without it the
    whole image is the box."""
    out: Path = Path("predictions.json")
    """Positions, in pixels of the input, and confidences."""
    png: Path | None = Path("predictions")
    """Folder for a picture of every input, or of every box."""
    read_out: ReadOut = "expectation"
    """See pcsa.localize."""
    flip_test: bool = True
    """Images: mean of the maps of the input and of its mirror image."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def main(argv: list[str]) -> int:
    """Parse options, predict, write."""
    config = tyro.cli(PredictGridConfig, args=argv, prog="pcsa predict")
    result = predict_grid(config)
    print(f"{len(result['items'])} predictions of {len(result['names'])}: {config.out}")
    if config.png:
        print(f"written: {config.png}")
    return 0


def predict_grid(config: PredictGridConfig) -> dict[str, Any]:
    """Predict for every input and write the result to ``config.out``."""
    if config.out.suffix != ".json":
        raise ValueError(f"`out` (={config.out}) must end in .json")
    device = pick_device(config.device)
    network, trained, about = load_grid_network(config.checkpoint, device)
    task, size, depth = about["kind"].removeprefix("pcsa "), trained.data.input_size, depth_of(trained.data)
    volumes = task == "pose3d" and depth is None
    files = files_of(config.inputs, ARRAYS if volumes else (*IMAGES, *ARRAYS) if task == "oct" else IMAGES)
    boxes = None if config.boxes is None else _read_boxes(config.boxes)
    if boxes is not None and (task == "oct" or volumes):
        raise ValueError(f"`boxes` (={str(config.boxes)!r}) must not be given for {task}: whole inputs are taken")
    if boxes is not None and not any(boxes.get(file.name) for file in files):
        raise ValueError(f"`boxes` (={str(config.boxes)!r}) must have a box for one of the inputs, by their file names")
    without = [file.name for file in files if boxes is not None and not boxes.get(file.name)]
    if without:
        log.info("%d inputs have no box and are left out, first %s", len(without), without[0])
    places = [file for file in files for _ in ([None] if boxes is None else boxes.get(file.name, []))]
    names = iter(picture_names(places))
    items: list[dict[str, Any]] = []
    for file in files:
        image = read_volume(file) if volumes else read_scan_file(file) if task == "oct" else read_image(file)
        whole = [0.0, 0.0, float(image.shape[-1]), float(image.shape[-2])]
        for box in [whole] if boxes is None else boxes.get(file.name, []):
            item: dict[str, Any] = {"input": str(file)}
            shown: dict[str, Any] = {"names": about["names"], "title": file.name}
            if task == "oct" or volumes:
                try:
                    found = locate(network, image[None].to(device), read_out=config.read_out)
                except ValueError as error:  # a size that the network cannot take
                    raise ValueError(f"`{file}`: {error}") from None
                position = found.position[0].cpu()
                item["rows" if task == "oct" else "position"] = position.tolist()
            else:
                cut = _cut(file, image, box, size[-2:], len(about["names"]), 1.0 if box is whole else 1.25)
                pairs = [(int(a), int(b)) for a, b in about["pairs"]] if config.flip_test else None
                found = locate(
                    network, cut["image"][None].to(device), depth=depth, read_out=config.read_out, flip_pairs=pairs
                )
                position = to_source(found.position.cpu(), cut["to_source"][None])[0]
                item |= {"box": box, "position": position[:, :2].tolist()}
                if depth is not None:
                    item["depth_mm"] = ((position[:, 2] - position[0, 2]) * DEPTH_RANGE / depth).tolist()
            item["confidence"] = found.peak[0].cpu().tolist()
            items.append(item)
            if config.png:
                drawn = {"surfaces": position} if task == "oct" else {"predicted": position, "bones": about["bones"]}
                save_overlay(config.png / next(names), Overlay(image, **drawn, **shown))
    result = {
        "checkpoint": str(config.checkpoint),
        "task": task,
        "names": about["names"],
        "read_out": config.read_out,
        "items": items,
    }
    write_json(config.out, result)
    return result


def _cut(
    file: Path, image: Tensor, box: list[float], size: tuple[int, int], num_keypoints: int, padding: float
) -> dict[str, Any]:
    """What the network takes of an image."""
    source = {
        "image": image,
        "keypoints": torch.zeros(num_keypoints, 2),
        "visible": torch.zeros(num_keypoints, dtype=torch.bool),
        "box": torch.tensor(box),
    }
    try:
        return crop(source, size, padding=padding)
    except ValueError as error:
        raise ValueError(f"`{file}`: {error}") from None


def _read_boxes(path: Path) -> dict[str, list[list[float]]]:
    if not path.is_file():
        raise FileNotFoundError(f"`boxes` (={str(path)!r}) must be a file: there is none")
    try:
        boxes = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"`boxes` (={str(path)!r}) must be JSON: {error}") from None

    def fits(box: Any) -> bool:
        return isinstance(box, list) and len(box) == 4 and all(isinstance(x, (int, float)) for x in box)

    if not isinstance(boxes, dict) or not all(isinstance(b, list) and all(map(fits, b)) for b in boxes.values()):
        raise ValueError(f"`boxes` (={str(path)!r}) must map file names to lists of [x, y, width, height]")
    return {name: [[float(x) for x in box] for box in rows] for name, rows in boxes.items()}
