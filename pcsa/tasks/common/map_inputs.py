"""Images, volumes and scans of users: what is read of them, and what is found."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pcsa._core.checks import check_interval
from pcsa.datasets.crops import crop, to_source
from pcsa.datasets.images import IMAGES, read_image
from pcsa.datasets.values import ValueRange
from pcsa.tasks.common.maps import (
    LocatedMaps,
    MapLabels,
)
from pcsa.tasks.common.task import Prediction, PredictOptions, Predictor, Run
from pcsa.viz import Overlay

log = logging.getLogger(__name__)

Locate = Callable[[Tensor, Sequence[tuple[int, int]] | None], LocatedMaps]
"""Finds the keypoints of a batch of inputs; with left and right keypoints, by the flip test."""


@dataclass(frozen=True)
class ImagePredictOptions(PredictOptions):
    """Keypoints of people or faces in your own images, in pixels of the input; also joints of volumes."""

    boxes: Path | None = None
    """JSON of lists of boxes [x, y, width, height] in pixels by file name; default the whole image."""
    flip_test: bool = True
    """Take the mean of the maps of the input and of its mirror image."""
    value_range: ValueRange | None = None
    """What 0 and 1 stand for in the files, such as 0 4095 for 12 bits in 16. Default: as in the training's data."""


def value_range_of(run: Run[Any, MapLabels], options: Any) -> ValueRange | None:
    """What 0 and 1 stand for in the files to predict: what the options say, or else as in the training's data."""
    given: ValueRange | None = options.value_range
    if given is not None:
        check_interval("value_range", given)
        return given
    own: ValueRange | None = run.config.data.value_range
    return own


class ImagePredictor(Predictor):
    """Reads images and cuts boxes out of them."""

    suffixes: tuple[str, ...] = IMAGES

    def __init__(self, locate: Locate, run: Run[Any, MapLabels], options: ImagePredictOptions) -> None:
        self.locate, self.run, self.options = locate, run, options
        self.value_range = value_range_of(run, options)
        self.boxes = None if options.boxes is None else read_boxes(options.boxes)

    def expected(self, files: Sequence[Path]) -> Sequence[Path]:
        if self.boxes is None:
            return files
        places = [file for file in files for _ in self.boxes.get(file.name, [])]
        if not places:
            raise ValueError(
                f"`boxes` (={str(self.options.boxes)!r}) must have a box for one of the inputs, by their file names"
            )
        without = [file.name for file in files if not self.boxes.get(file.name)]
        if without:
            log.info("%d inputs have no box and are left out, first %s", len(without), without[0])
        return places

    def predict(self, file: Path) -> Iterator[Prediction]:
        """A prediction for each box."""
        image = read_image(file, self.value_range)
        whole = [0.0, 0.0, float(image.shape[-1]), float(image.shape[-2])]
        labels = self.run.labels
        for box in [whole] if self.boxes is None else self.boxes.get(file.name, []):
            source = {
                "image": image,
                "keypoints": torch.zeros(len(labels.names), 2),
                "visible": torch.zeros(len(labels.names), dtype=torch.bool),
                "box": torch.tensor(box),
            }
            try:
                cut = crop(source, self.run.config.data.input_size[-2:], padding=1.0 if box is whole else 1.25)
            except ValueError as error:
                raise ValueError(f"`{file}`: {error}") from None
            found = self.locate(cut["image"][None], labels.pairs if self.options.flip_test else None)
            position = to_source(found.position.cpu(), cut["to_source"][None])[0]
            fields = {"box": box, "position": position[:, :2].tolist(), **self.extra(position)}
            fields["confidence"] = found.peak[0].cpu().tolist()
            yield Prediction(fields, _drawn(image, labels, file, predicted=position, bones=labels.bones))

    def extra(self, position: Tensor) -> dict[str, Any]:
        """What a position says beside its place in the image, as JSON types."""
        return {}


class WholePredictor(Predictor):
    """Reads inputs that are taken whole.

    Args:
        locate: Finds the keypoints or surfaces of an input.
        labels: Labels of the network.
        suffixes: Endings of the files.
        read: Reads a file as ``[1, *input_size]``.
        field: Name of what is found.
    """

    def __init__(
        self,
        locate: Locate,
        labels: MapLabels,
        suffixes: tuple[str, ...],
        read: Callable[[Path], Tensor],
        field: Literal["position", "rows"] = "position",
    ) -> None:
        self.locate, self.labels = locate, labels
        self.suffixes, self.read, self.field = suffixes, read, field

    def predict(self, file: Path) -> Iterator[Prediction]:
        """One prediction."""
        image, labels = self.read(file), self.labels
        try:
            found = self.locate(image[None], None)
        except ValueError as error:  # a size that the network cannot take
            raise ValueError(f"`{file}`: {error}") from None
        position = found.position[0].cpu()
        fields = {self.field: position.tolist(), "confidence": found.peak[0].cpu().tolist()}
        drawn = {"surfaces": position} if self.field == "rows" else {"predicted": position, "bones": labels.bones}
        yield Prediction(fields, _drawn(image, labels, file, **drawn))


def _drawn(image: Tensor, labels: MapLabels, file: Path, **drawn: Any) -> Callable[[], Overlay]:
    return lambda: Overlay(image, names=labels.names, title=file.name, **drawn)


def read_boxes(path: Path) -> dict[str, list[list[float]]]:
    """Boxes ``[x, y, width, height]`` in pixels of each file name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
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
