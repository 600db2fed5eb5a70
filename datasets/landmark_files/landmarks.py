"""What a file of landmarks holds, whichever tool wrote it: names, places, frame and units."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsa._core.checks import check_one_of

Frame = Literal["LPS", "RAS"]
"""Axes of medical images: x to the patient's left, y to the back, z to the head; or right, front, head."""
FRAMES: tuple[Frame, ...] = get_args(Frame)

UNITS = {"um": 1e-6, "mm": 1e-3, "cm": 1e-2, "in": 0.0254, "ft": 0.3048, "m": 1.0, "km": 1e3}
"""Lengths in meters, by their names."""

_PREFIXES = {"": "m", "milli": "mm", "centi": "cm", "micro": "um", "kilo": "km"}
_UNIT_NAMES = {
    **{
        f"{prefix}{base}": short
        for prefix, short in _PREFIXES.items()
        for base in ("meter", "meters", "metre", "metres")
    },
    **{
        "[in_i]": "in",
        "inch": "in",
        "inches": "in",
        "[ft_i]": "ft",
        "foot": "ft",
        "feet": "ft",
        "µm": "um",
        "μm": "um",
    },
}


@dataclass(frozen=True, eq=False)
class Landmarks:
    """One list of landmarks.

    Args:
        names: `k` different names.
        positions: `[k, 3]`, float64. Where a landmark is not defined they are NaN, or a place that means nothing.
        defined: `[k]` bool: whether the landmark was set. Default: where its position is finite.
        visible: `[k]` bool: whether the tool shows it, which says nothing of the shape. Default: all are.
        frame: ``"LPS"`` or ``"RAS"``; None where the file does not say.
        units: A key of :data:`UNITS`; None where the file does not say.
        descriptions: `k` texts. Default: empty ones.
        scan: Name of the scan that they belong to; None where the file does not say.
        rater: Who set them, and which time; None where the file does not say.
        source: Where they come from, for messages: the file, and the list in it.

    Raises:
        ValueError: If shapes do not fit, names repeat, or a defined position is not finite.

    Example:
        >>> Landmarks(["nose", "tail"], [[1, 2, 3], [np.nan] * 3], frame="LPS").in_frame("RAS").positions.tolist()
        [[-1.0, -2.0, 3.0], [nan, nan, nan]]

    """

    names: Sequence[str]
    positions: ArrayLike
    defined: ArrayLike | None = None
    visible: ArrayLike | None = None
    frame: Frame | None = None
    units: str | None = None
    descriptions: Sequence[str] = field(default=())
    scan: str | None = None
    rater: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        names, K = tuple(self.names), len(self.names)
        positions = np.asarray(self.positions, dtype=np.float64).reshape(-1, 3)
        defined = np.isfinite(positions).all(axis=1) if self.defined is None else np.asarray(self.defined, dtype=bool)
        visible = np.ones(K, dtype=bool) if self.visible is None else np.asarray(self.visible, dtype=bool)
        descriptions = tuple(self.descriptions) or ("",) * K
        for name, value in (("positions", positions), ("defined", defined), ("visible", visible)):
            if value.shape[0] != K or value.ndim != (2 if name == "positions" else 1):
                raise ValueError(f"`{name}` {list(value.shape)} must have a row for each of the {K} `names`")
        if len(descriptions) != K:
            raise ValueError(f"`descriptions` ({len(descriptions)}) must be as many as `names` ({K})")
        if self.frame is not None:
            check_one_of("frame", self.frame, FRAMES)
        if self.units is not None:
            check_one_of("units", self.units, tuple(UNITS))
        repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < K else []
        if repeated:
            raise ValueError(f"`names` (has {repeated[0]!r} {names.count(repeated[0])} times) must be different")
        lost = defined & ~np.isfinite(positions).all(axis=1)
        if lost.any():
            raise ValueError(f"`positions` of {names[int(lost.argmax())]!r} must be finite where `defined`")
        values = {"names": names, "positions": positions, "defined": defined, "visible": visible}
        for name, kept in {**values, "descriptions": descriptions}.items():
            object.__setattr__(self, name, kept)

    @property
    def points(self) -> NDArray[np.float64]:
        """``positions`` as an array."""
        return np.asarray(self.positions)

    @property
    def there(self) -> NDArray[np.bool_]:
        """``defined`` as an array."""
        return np.asarray(self.defined)

    def in_frame(self, frame: Frame) -> "Landmarks":
        """Return the landmarks in a frame: x and y change their signs between LPS and RAS."""
        check_one_of("frame", frame, FRAMES)
        factor = 1.0 if self.frame in (None, frame) else -1.0
        return replace(self, positions=self.points * (factor, factor, 1.0), frame=frame)

    def in_units(self, units: str) -> "Landmarks":
        """Return the landmarks in units, a key of :data:`UNITS`."""
        check_one_of("units", units, tuple(UNITS))
        factor = 1.0 if self.units in (None, units) else UNITS[self.units or units] / UNITS[units]
        return replace(self, positions=self.points * factor, units=units)


def unit_name(text: str) -> str:
    """Return the key of :data:`UNITS` that a text names.

    Raises:
        ValueError: If it names none.

    Example:
        >>> unit_name("millimeters"), unit_name("M"), unit_name("[in_i]")
        ('mm', 'm', 'in')

    """
    plain = text.strip().lower()
    found = _UNIT_NAMES.get(plain, plain)
    check_one_of("units", found, tuple(UNITS))
    return found


def frame_name(text: str) -> Frame:
    """Return the frame that a text names, a word or Slicer's number: RAS is 0, LPS is 1.

    Raises:
        ValueError: If it names none; IJK, 2, counts voxels of an image that is not there.

    Example:
        >>> frame_name("lps"), frame_name("0")
        ('LPS', 'RAS')

    """
    known: dict[str, Frame] = {"RAS": "RAS", "0": "RAS", "LPS": "LPS", "1": "LPS"}
    word = text.strip().upper()
    if word in ("IJK", "2"):
        raise ValueError(f"the frame (={text!r}) must be LPS or RAS: IJK counts voxels of an image")
    if word not in known:
        raise ValueError(f"the frame (={text!r}) must be LPS or RAS")
    return known[word]


def with_names(labels: Sequence[str], places: Sequence[Any]) -> list[str]:
    """Return the names of landmarks: their labels, or, where none has one, their numbers from 1.

    Args:
        labels: The labels, without blanks around them.
        places: Where each stands in the file, for messages: ``"line 3"``.

    Raises:
        ValueError: If only some have a label, or two have the same.

    Example:
        >>> with_names(["", ""], ["line 1", "line 2"])
        ['1', '2']

    """
    names = [label.strip() for label in labels]
    if not any(names):
        return [str(i + 1) for i in range(len(names))]
    first: dict[str, Any] = {}
    for name, place in zip(names, places, strict=True):
        if not name:
            raise ValueError(f"{place}: the name (='') must not be empty where others have one")
        if name in first:
            raise ValueError(f"{place}: the name (={name!r}) must be another than that of {first[name]}")
        first[name] = place
    return names
