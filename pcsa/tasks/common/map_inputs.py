"""Images, volumes and scans of users: what is read of them, and what is found."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from torch import Tensor

from pcsa._core.checks import check_interval, check_number
from pcsa._core.json_text import parse_json
from pcsa.datasets.crops import crop, to_source
from pcsa.datasets.images import IMAGES, KeypointImages, clipped_box, read_image
from pcsa.datasets.values import ValueRange
from pcsa.tasks.common.maps import (
    LocatedMaps,
    MapLabels,
)
from pcsa.tasks.common.task import Prediction, PredictOptions, Predictor, Run
from pcsa.viz import Overlay

log = logging.getLogger(__name__)

Box = list[float]
"""x, y, width and height, from the upper left corner of the picture, which spans 0 to its width."""
Locate = Callable[[Tensor, Sequence[tuple[int, int]] | None], LocatedMaps]
"""Finds the keypoints of a batch of inputs; with left and right keypoints, by the flip test."""


@dataclass(frozen=True)
class ImagePredictOptions(PredictOptions):
    """Keypoints of people or faces in your own images, in pixels of the input; also joints of volumes."""

    boxes: Path | None = None
    """JSON of lists of boxes [x, y, width, height] in pixels, as EXIF turns the image, by file name, or by the end of
    the path where names repeat; default the whole image."""
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
    """Reads images and cuts boxes out of them, as the items of the training are cut out.

    Args:
        locate: Finds the keypoints of an input.
        run: The network and what it was trained with.
        options: What ``pcsa predict`` was given.
        padding: How much larger than its box a crop is; without boxes, it is the image.
        clips: Whether boxes end where the image ends.
    """

    suffixes: tuple[str, ...] = IMAGES

    def __init__(
        self,
        locate: Locate,
        run: Run[Any, MapLabels],
        options: ImagePredictOptions,
        *,
        padding: float = KeypointImages.padding,
        clips: bool = True,
    ) -> None:
        self.locate, self.run, self.options = locate, run, options
        self.value_range = value_range_of(run, options)
        self.padding, self.clips = padding, clips
        self.boxes = None if options.boxes is None else read_boxes(options.boxes)
        self._known: dict[Path, list[Box]] = {}

    def expected(self, files: Sequence[Path]) -> Sequence[Path]:
        """The files that have a box."""
        if self.boxes is None:
            return files
        try:
            self._known = boxes_of(self.boxes, files)
        except ValueError as error:
            raise ValueError(f"`{self.options.boxes}`: {error}") from None
        named = [file for file in files if self._known[file]]
        if not named:
            raise ValueError(
                f"`boxes` (={str(self.options.boxes)!r}) must have a box for one of the inputs, by their file names"
            )
        without = [file.name for file in files if not self._known[file]]
        if without:
            log.info("%d inputs have no box and are left out, first %s", len(without), without[0])
        return named

    def predict(self, file: Path) -> Iterator[Prediction]:
        """A prediction for each box, all of them in one picture, which the first one has."""
        boxes = None
        if self.boxes is not None:
            boxes = self._known[file] if file in self._known else boxes_of(self.boxes, [file])[file]
        return self.find(self.open(file), boxes, file)

    def open(self, file: Path) -> Tensor:
        """Read an image ``[3, H, W]`` from 0 to 1."""
        return read_image(file, self.value_range)

    def find(self, image: Tensor, given: Sequence[Box] | None, file: Path) -> Iterator[Prediction]:
        """The same of an image ``[3, H, W]`` from 0 to 1; without boxes, of all of it. Messages name the file."""
        width, height = image.shape[-1], image.shape[-2]
        boxes = [[0.0, 0.0, float(width), float(height)]] if given is None else list(given)
        labels = self.run.labels
        cuts = []
        for i, box in enumerate(boxes):
            inside = clipped_box(box, width, height)
            if inside is None:
                raise ValueError(f"`{file}`: box {i} (={box}) must touch the picture of {width} x {height} pixels")
            source = {
                "image": image,
                "keypoints": torch.zeros(len(labels.names), 2),
                "visible": torch.zeros(len(labels.names), dtype=torch.bool),
                "box": torch.tensor(inside if self.clips else box),
            }
            padding = 1.0 if given is None else self.padding
            cuts.append(crop(source, self.run.config.data.input_size[-2:], padding=padding))
        found = [self.locate(cut["image"][None], labels.pairs if self.options.flip_test else None) for cut in cuts]
        positions = [to_source(f.position.cpu(), c["to_source"][None])[0] for f, c in zip(found, cuts, strict=True)]
        drawn: dict[str, Any] = {} if given is None else {"boxes": boxes}
        picture = None
        if positions:
            several = positions[0] if len(positions) == 1 else torch.stack(positions)
            picture = _drawn(image, labels, file, predicted=several, bones=labels.bones, **drawn)
        for i, (box, position) in enumerate(zip(boxes, positions, strict=True)):
            fields = {"box": box, "position": position[:, :2].tolist(), **self.extra(position)}
            # Along the depth, if there is one, pixels are others.
            turn = cuts[i]["to_source"][:, :2]
            fields["covariance"] = (turn @ found[i].covariance[0, :, :2, :2].cpu() @ turn.T).tolist()
            fields["confidence"] = found[i].confidence[0].cpu().tolist()
            yield Prediction(fields, picture if i == 0 else None)

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
        return self.find(self.read(file), file)

    def find(self, image: Tensor, file: Path) -> Iterator[Prediction]:
        """The same of an input ``[1, *input_size]`` from 0 to 1. Messages name the file."""
        labels = self.labels
        try:
            found = self.locate(image[None], None)
        except ValueError as error:  # a size that the network cannot take
            raise ValueError(f"`{file}`: {error}") from None
        position = found.position[0].cpu()
        covariance = found.covariance[0].cpu()
        # A row has a variance only.
        spread = {"variance": covariance[..., 0, 0]} if self.field == "rows" else {"covariance": covariance}
        fields = {
            self.field: position.tolist(),
            **{name: value.tolist() for name, value in spread.items()},
            "confidence": found.confidence[0].cpu().tolist(),
        }
        drawn = {"surfaces": position} if self.field == "rows" else {"predicted": position, "bones": labels.bones}
        yield Prediction(fields, _drawn(image, labels, file, **drawn))


def _drawn(image: Tensor, labels: MapLabels, file: Path, **drawn: Any) -> Callable[[], Overlay]:
    return lambda: Overlay(image, names=labels.names, title=file.name, **drawn)


def boxes_of(boxes: Mapping[str, list[Box]], files: Sequence[Path]) -> dict[Path, list[Box]]:
    """The boxes of each file: those under the longest end of its path that has any, at least its name.

    Raises:
        ValueError: If two files share boxes, or two names are one path.

    Example:
        >>> boxes_of({"a/0.png": [[0, 0, 1, 1]], "1.png": []}, [Path("a/0.png"), Path("b/0.png"), Path("a/1.png")])
        {PosixPath('a/0.png'): [[0, 0, 1, 1]], PosixPath('b/0.png'): [], PosixPath('a/1.png'): []}
    """
    names: dict[tuple[str, ...], str] = {}
    for name in boxes:
        end = PurePosixPath(name.replace("\\", "/")).parts
        if end in names:
            raise ValueError(f"`{name}` must be written once, is `{names[end]}` too")
        names[end] = name
    used: dict[str, Path] = {}
    found: dict[Path, list[Box]] = {}
    for file in files:
        parts = file.absolute().parts
        ends = (parts[i:] for i in range(len(parts)))
        key = next((names[end] for end in ends if end in names), None)
        if key is None:
            found[file] = []
            continue
        other = used.setdefault(key, file)
        if other.absolute() != file.absolute():
            raise ValueError(
                f"`{key}` must be the name of one input, is that of {other} and {file}: "
                "write more of their paths, as in 'folder/picture.png'"
            )
        found[file] = boxes[key]
    unused = [name for name in boxes if name not in used]
    if unused:
        log.info("%d names of boxes are of no input, first %s", len(unused), unused[0])
    return found


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Boxes ``[x, y, width, height]`` in pixels of each file name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"`boxes` (={str(path)!r}) must be a file: there is none")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = Counter(name for name, _ in pairs)
        repeated = [name for name, count in names.items() if count > 1]
        if repeated:
            raise ValueError(f"{repeated[0]!r} is there {names[repeated[0]]} times, with boxes of its own each")
        return dict(pairs)

    try:
        boxes = parse_json(path.read_bytes(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`boxes` (={str(path)!r}) must be JSON, each name once: {error}") from None
    listed = isinstance(boxes, dict) and all(isinstance(rows, list) for rows in boxes.values())
    if not listed or not all(isinstance(box, list) and len(box) == 4 for rows in boxes.values() for box in rows):
        raise ValueError(f"`boxes` (={str(path)!r}) must map file names to lists of [x, y, width, height]")
    for name, rows in boxes.items():
        for i, box in enumerate(rows):
            try:
                for value in box:
                    check_number("box", value)
                x, y, width, height = map(float, box)
                fits = math.isfinite(x + y + width + height) and min(width, height) > 0
            except (ValueError, OverflowError):
                fits = False
            if not fits:
                rule = "must be numbers x, y, width, height, with a width and a height above 0, all finite"
                raise ValueError(f"`{path}`: {name}[{i}] (={box}) {rule}")
    return {name: [[float(x) for x in box] for box in rows] for name, rows in boxes.items()}
