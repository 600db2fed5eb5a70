"""Retinal scans from files, and windows of them: what the datasets of scans, real and procedural, share.

A scan is a dict with ``image [1, H, W]`` (from 0 to 1), ``boundaries [K, W]`` (the row of every surface in every
column, in pixels whose centers are integers) and ``visible [K, W]``; boundaries that are not visible are 0.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pcsa._core.checks import check_between, check_count, check_mask, check_non_negative, check_shape, check_size
from pcsa.datasets.arrays import check_unit_values, read_arrays
from pcsa.datasets.faults import reading
from pcsa.datasets.images import IMAGES, read_image
from pcsa.datasets.own_function import OwnFunction
from pcsa.datasets.own_samples import vary_sample
from pcsa.datasets.samples import parts
from pcsa.datasets.values import ValueRange
from pcsa.datasets.vol import INVALID


@dataclass(frozen=True)
class ScanAugment(OwnFunction):
    """How :func:`window` varies a scan, beside the columns that it draws.

    Args:
        flip: Probability of a left-right flip.
        shift: Largest vertical shift in pixels. Shifts are whole pixels, since others would blur the speckle.
        brightness: Largest relative change of the image's values.
        noise: Standard deviation of the noise added to the image's values.
        custom: Function of your own, as package.module:function, called last as ``function(sample, generator)``; see
            :func:`pcsa.datasets.own_samples.vary_sample` and the guide "Your own backbone".

    Raises:
        ValueError: If an argument is out of its range; the message names it, its value and the rule.

    """

    flip: float = 0.5
    shift: float = 4.0
    brightness: float = 0.1
    noise: float = 0.0
    custom: str | None = None

    def __post_init__(self) -> None:
        for name in ("flip", "brightness"):
            check_between(name, getattr(self, name), 0, 1)
        for name in ("shift", "noise"):
            check_non_negative(name, getattr(self, name))
        self.check_custom()


def shown_scan(path: Path, arrays: dict[str, NDArray[Any]], value_range: ValueRange | None) -> NDArray[np.float32]:
    """Return the picture `[H, W]`, from 0 to 1, that is among the arrays of a file; see :func:`read_scan`."""
    if "bscan" in arrays:
        raw = arrays["bscan"]
        if raw.dtype.kind == "f":
            raw = np.where(raw == INVALID, np.zeros((), raw.dtype), raw)
        elif value_range is None:
            with reading(path, "a scan"):
                raise ValueError(f"`bscan` ({raw.dtype}) must be floats, or `value_range` must say what 1 stands for")
        unit = check_unit_values(path, raw, 2, value_range, "bscan")[0].numpy()
        shown: NDArray[np.float32] = unit ** np.float32(0.25)
        return shown
    if "image" not in arrays:
        with reading(path, "a scan"):
            raise ValueError(f"must hold bscan or image, has {', '.join(arrays) or 'nothing'}")
    image: NDArray[np.float32] = check_unit_values(path, arrays["image"], 2, value_range, "image")[0].numpy()
    return image


def read_scan(path: str | os.PathLike[str], value_range: ValueRange | None = None) -> NDArray[np.float32]:
    """Read the picture of a scan from a `.npz` file, `[H, W]` from 0 to 1 as it is shown.

    The file holds ``bscan``, the raw intensity, which is shown as its fourth root, or ``image``, which is shown as it
    is. The largest float32, by which Heidelberg's devices mark samples without a value, is 0 in ``bscan``.

    Args:
        path: The file.
        value_range: What 0 and 1 stand for in it. Default: see :func:`pcsa.datasets.values.unit_values`.

    Raises:
        ValueError: If the file cannot be read, has neither, or values that are not finite or out of their range; the
            message names the file.

    """
    return shown_scan(Path(path), read_arrays(path), value_range)


def read_scan_file(file: str | os.PathLike[str], value_range: ValueRange | None = None) -> Float[Tensor, "1 H W"]:
    """Read a scan as it is shown, from 0 to 1: a picture, a `.npy` file, or a file of :func:`read_scan`.

    Args:
        file: The file. Of a picture in colors, the mean of the three is taken.
        value_range: What 0 and 1 stand for in it. Default: see :func:`pcsa.datasets.values.unit_values`.

    Raises:
        ValueError: If the file cannot be read or holds anything else; the message names the file.

    """
    file = Path(file)
    suffix = file.suffix.lower()
    if suffix in IMAGES:
        return read_image(file, value_range).mean(0, keepdim=True)
    if suffix == ".npz":
        return torch.from_numpy(read_scan(file, value_range))[None]
    return check_unit_values(file, next(iter(read_arrays(file).values())), 2, value_range)


def window(
    source: dict[str, Any],
    size: tuple[int, int],
    *,
    start: int | None = None,
    augment: ScanAugment | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Cut a window out of a scan, with its boundaries.

    The columns are the central ones or, with `augment`, drawn. A window that is less high than the scan shows the rows
    that hold the most light, which needs no label. A scan that is less high or wide than the window is centered and
    continued by its outermost pixels; columns that are not the scan's own are not visible, and neither are boundaries
    above or below the window.

    Args:
        source: ``image [1, H, W]``, ``boundaries [K, W]``, ``visible [K, W]`` and, optionally, ``spacing``. Stays as
            it is.
        size: (height, width) of the window in pixels.
        start: First column, from 0 to W - width. Default: see above.
        augment: How the window varies at random. Default: not at all.
        generator: The source of randomness, on the CPU; needed with `augment`.

    Returns:
        ``image [1, height, width]``, ``boundaries [K, width]`` (rows of the window), ``visible [K, width]`` and
        ``spacing``.

    Raises:
        ValueError: If an argument is out of its range or the arrays do not fit each other; the message names it.

    Example:
        >>> scan = {"image": torch.zeros(1, 8, 6), "boundaries": torch.arange(6.0)[None],
        ...         "visible": torch.ones(1, 6, dtype=torch.bool)}
        >>> window(scan, (8, 4))["boundaries"]
        tensor([[1., 2., 3., 4.]])

    """
    image, boundaries, visible = _check_source(source)
    check_size("size", size)
    height, width = image.shape[1:]
    if augment is not None and generator is None:
        raise ValueError("`generator` (=None) must be given with `augment`")
    room = width - size[1]
    if start is not None:
        check_count("start", start, 0, max(room, 0))
        first = start if room >= 0 else room // 2
    elif augment is not None and room > 0:
        first = int(torch.randint(room + 1, (), generator=generator))
    else:
        first = room // 2
    top = _first_row(image, size[0])
    flip = False
    if augment is not None:
        flip = bool(torch.rand((), generator=generator) < augment.flip)
        steps = int(augment.shift)
        top += int(torch.randint(-steps, steps + 1, (), generator=generator))

    columns = torch.arange(first, first + size[1])
    if flip:
        columns = columns.flip(0)
    own = (columns >= 0) & (columns < width)
    columns = columns.clamp(0, width - 1)
    rows = torch.arange(top, top + size[0]).clamp(0, height - 1)
    image = image[:, rows][:, :, columns]
    boundaries = boundaries[:, columns] - top
    inside = (boundaries >= -0.5) & (boundaries <= size[0] - 0.5)
    visible = visible[:, columns] & own & inside
    if augment is not None:
        factor = 1 + augment.brightness * (2 * torch.rand((), generator=generator) - 1)
        image = image * factor
        if augment.noise > 0:
            image = image + augment.noise * torch.randn(image.shape, generator=generator)
        image = image.clamp(0, 1)
    sample = {"image": image, "boundaries": torch.where(visible, boundaries, 0.0), "visible": visible}
    if "spacing" in source:
        sample["spacing"] = source["spacing"]
    if augment is None or augment.custom is None:
        return sample
    assert generator is not None
    return vary_sample(augment.custom, sample, generator)


def _first_row(image: Tensor, height: int) -> int:
    room = image.shape[1] - height
    if room <= 0:
        return room // 2
    light = torch.cat([torch.zeros(1, dtype=torch.float64), image.double().mean((0, 2)).cumsum(0)])
    return int((light[height:] - light[:-height]).argmax())


def _check_source(source: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    image, boundaries, visible = parts(source, ("image", "boundaries", "visible"))
    check_shape("image", image, (1, "H", "W"))
    if 0 in image.shape:
        raise ValueError(f"`image` {list(image.shape)} must have no axis of size 0")
    check_shape("boundaries", boundaries, ("K", image.shape[2]))
    check_mask("visible", visible, boundaries.shape)
    return image, boundaries, visible
