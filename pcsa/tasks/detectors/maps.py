"""A detector of keypoints in images and volumes, and of surfaces in scans."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsa.datasets.images import IMAGES
from pcsa.datasets.values import ValueRange, unit_values
from pcsa.localization import ReadOut
from pcsa.tasks.common.map_inputs import ImagePredictor, WholePredictor, value_range_of
from pcsa.tasks.common.task import Prediction, PredictOptions, Run
from pcsa.tasks.detectors.found import Found
from pcsa.tasks.detectors.inputs import as_array

Box = Sequence[float]


@dataclass(frozen=True, eq=False, repr=False)
class MapDetector:
    """A trained network of maps on images, volumes or scans, as a function; made by :func:`pcsa.load`.

    Args:
        run: Network and what its checkpoint says of it.
        options: How inputs are read and maps are read out.
    """

    run: Run[Any, Any]
    options: PredictOptions

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each keypoint or surface."""
        return tuple(self.run.labels.names)

    @property
    def device(self) -> torch.device:
        return self.run.device

    @property
    def input_size(self) -> tuple[int, ...]:
        """Size that the network was trained on: crops are brought to it, volumes and scans may have another."""
        return tuple(self.run.config.data.input_size)

    def __repr__(self) -> str:
        return f"MapDetector({self.run.task.name}: {len(self.names)} keypoints; {self.run.path}, {self.device})"

    def __call__(
        self,
        inputs: Any,
        *,
        boxes: Sequence[Box] | Sequence[Sequence[Box]] | None = None,
        read_out: ReadOut | None = None,
        radius: float | None = None,
    ) -> Any:
        """Find the keypoints of one image, volume or scan, or of several.

        Args:
            inputs: The path of a file, an array or a tensor, or a list of these. Images are arrays ``[H, W]`` or
                ``[H, W, 3]`` and tensors ``[3, H, W]`` or ``[H, W]``, volumes ``[D, H, W]``, scans ``[H, W]``. Values
                follow the rule of :func:`pcsa.datasets.values.unit_values`: bytes, floats from 0 to 1, or others with
                the ``value_range`` of :func:`pcsa.load`.
            boxes: Parts of an image to look at, each x, y, width and height in pixels; for several images, a list for
                each. Default: the whole image.
            read_out: Way to read a keypoint from its map, in place of the detector's; see :func:`pcsa.localize`.
            radius: Radius of that, in pixels of the network's input, in place of the detector's.

        Returns:
            A :class:`Found` for one input; a list of them, one for each box, where boxes are given; and a list of
            either for several inputs. Positions are in pixels of the image, voxels of the volume or rows of the scan.

        Raises:
            FileNotFoundError: If a file is not there.
            ValueError: If an input cannot be read, or a box lies outside of its image; the message names it.
        """
        options = self.options
        if read_out is not None or radius is not None:
            reach = options.radius if radius is None else radius
            options = replace(options, read_out=read_out or options.read_out, radius=reach)
        predictor = self.run.task.predictor(self.run, options)
        several = isinstance(inputs, (list, tuple))
        given = list(inputs) if several else [inputs]
        if boxes is not None and not isinstance(predictor, ImagePredictor):
            raise ValueError(f"`boxes` (={boxes}) must not be given for {self.run.task.name}: inputs are taken whole")
        parts: list[Any] = [None] * len(given) if boxes is None else list(boxes) if several else [boxes]
        if len(parts) != len(given):
            raise ValueError(f"`boxes` must be a list for each of the {len(given)} images, are {len(parts)}")
        found: list[Any] = []
        with torch.inference_mode():
            for i, (one, part) in enumerate(zip(given, parts, strict=True)):
                name = Path(f"inputs[{i}]" if several else "inputs")
                each = [self._found(p, options) for p in self._predictions(predictor, one, part, name)]
                found.append(each[0] if boxes is None else each)
        return found if several else found[0]

    def _predictions(self, predictor: Any, given: Any, boxes: Any, name: Path) -> list[Prediction]:
        """What a predictor says of a file, or of values."""
        is_file = isinstance(given, (str, os.PathLike))
        file = Path(given) if is_file else name
        if isinstance(predictor, ImagePredictor):
            image = predictor.open(file) if is_file else self._image(given, name)
            listed = None if boxes is None else [[float(x) for x in box] for box in boxes]
            return list(predictor.find(image, listed, file))
        assert isinstance(predictor, WholePredictor)
        values = predictor.read(file) if is_file else self._whole(given, name)
        return list(predictor.find(values, file))

    def _image(self, given: Any, name: Path) -> Tensor:
        """An image ``[3, H, W]`` from 0 to 1."""
        values = as_array(given)
        if isinstance(given, Tensor) and values.ndim == 3:
            values = np.moveaxis(values, 0, -1)
        if values.ndim == 3 and values.shape[2] == 1:
            values = values[:, :, 0]
        if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3) or 0 in values.shape:
            shape = list(np.shape(given))
            raise ValueError(
                f"`{name}` ({shape}) must be an image: an array [H, W] or [H, W, 3], a tensor [3, H, W] or [H, W], or "
                f"the path of a file ({', '.join(IMAGES)})"
            )
        unit = self._unit(values, name)
        if unit.ndim == 2:
            unit = np.broadcast_to(unit[:, :, None], (*unit.shape, 3))
        return torch.from_numpy(np.ascontiguousarray(unit.transpose(2, 0, 1)))

    def _whole(self, given: Any, name: Path) -> Tensor:
        """A volume ``[1, D, H, W]`` or a scan ``[1, H, W]`` from 0 to 1."""
        values, axes = as_array(given), len(self.input_size)
        if values.ndim == axes + 1 and values.shape[0] == 1:
            values = values[0]
        if values.ndim != axes or 0 in values.shape:
            raise ValueError(f"`{name}` ({list(values.shape)}) must be numbers of {axes} axes, or the path of a file")
        return torch.from_numpy(self._unit(values, name))[None]

    def _unit(self, values: NDArray[Any], name: Path) -> NDArray[np.float32]:
        value_range: ValueRange | None = value_range_of(self.run, self.options)
        try:
            return unit_values(values, value_range)
        except ValueError as error:
            raise ValueError(f"`{name}`: {error}") from None

    def _found(self, prediction: Prediction, options: PredictOptions) -> Found:
        fields = prediction.fields
        depth, box = fields.get("depth_mm"), None
        if "box" in fields:
            x, y, width, height = fields["box"]
            box = (float(x), float(y), float(width), float(height))
        is_surface = "rows" in fields
        spread = torch.tensor(fields["variance" if is_surface else "covariance"])
        return Found(
            self.names,
            torch.tensor(fields["rows" if is_surface else "position"]),
            torch.tensor(fields["confidence"]),
            spread[..., None, None] if is_surface else spread,
            radius=options.radius,
            box=box,
            depth_mm=None if depth is None else torch.tensor(depth),
        )
