"""Variation of an image, a volume or a scan by a function of one's own."""

from collections.abc import Mapping
from typing import Any

import torch

from pcsa.datasets.own_function import call, called, check_finite, check_same

# Half a thousandth of a pixel, as for crops.
_EDGE = 0.5005


def vary_sample(path: str, sample: Mapping[str, Any], generator: torch.Generator) -> dict[str, Any]:
    """Call a function of one's own on copies of what a network sees and shall find, and check what it returns.

    Args:
        path: The function, called as ``function(sample, generator)`` with a dict of ``image`` ``[C, *spatial]``,
            ``visible`` and either ``keypoints`` ``[K, D]`` or, of scans, ``boundaries`` ``[K, W]``; it returns one. See
            :func:`pcsa.datasets.own_function.call`.
        sample: These, and whatever else the sample has, which stays as it is.
        generator: The source of randomness.

    Returns:
        The sample as the function left it. Values are cut off at 0 and 1; keypoints and boundaries outside of the image
        are not visible, and what is not visible is zero.

    Raises:
        ValueError: Naming what is missing or of another shape, or not finite; or saying what the function raised.
    """
    said, places = called(path), "boundaries" if "boundaries" in sample else "keypoints"
    given = {name: sample[name] for name in ("image", places, "visible")}
    out = call(path, {name: value.clone() for name, value in given.items()}, generator)
    if not isinstance(out, Mapping):
        raise ValueError(f"{said} must return a dict, returned a {type(out).__name__}")
    for name, value in given.items():
        if name not in out:
            raise ValueError(f"{said} must return all that it was given, lost `{name}`")
        check_same(path, name, value, out[name])
    image, visible, place = out["image"], out["visible"], out[places]
    shown = visible if places == "boundaries" else visible[:, None]
    place = torch.where(shown, place, 0.0)
    check_finite(path, "image", image)
    check_finite(path, places, place)
    size = list(image.shape[:0:-1])  # x first
    if places == "boundaries":
        inside = (place >= -_EDGE) & (place <= size[1] - 1 + _EDGE)
    else:
        # Of an image, the depth of a joint has no end.
        upper = torch.tensor(size) - 1 + _EDGE
        seen = place[:, : len(size)]
        inside = ((seen >= -_EDGE) & (seen <= upper)).all(1)
    visible = visible & inside
    place = torch.where(visible if places == "boundaries" else visible[:, None], place, 0.0)
    return {**sample, "image": image.clamp(0, 1), places: place, "visible": visible}
