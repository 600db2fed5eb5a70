"""Predictions as landmark files of other tools, for ``pcsa predict``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcsa.datasets.faults import some
from pcsa.datasets.files import Found
from pcsa.datasets.landmark_files.files import SEVERAL, landmark_suffix, write_landmarks
from pcsa.datasets.landmark_files.landmarks import Frame, Landmarks
from pcsa.datasets.landmark_import.scan import stated_frame
from pcsa.tasks.common.clouds import CloudPredictOptions
from pcsa.tasks.common.task import PredictOptions

_NAME = "{name}"


class Output(NamedTuple):
    """Where the landmarks of an input go."""

    file: Path
    name: str
    """Of the input, unlike those of others."""


def landmark_outputs(options: PredictOptions, found: Found) -> dict[Path, Output] | None:
    """Return which landmark file each input gets; None where ``out`` is no landmark file.

    Raises:
        ValueError: If the task finds no landmarks, ``out`` has no place for several inputs, or, without ``overwrite``,
            one of the files exists.
    """
    suffix = landmark_suffix(options.out)
    if suffix is None:
        return None
    if not isinstance(options, CloudPredictOptions):
        raise ValueError(f"`out` (={options.out}) must end in .json or .npz: landmarks are those of clouds")
    if _NAME in str(options.out.parent):
        raise ValueError(f"`out` (={options.out}) must have {_NAME} in the name of the file, not in that of its folder")
    if _NAME not in options.out.name and len(found.files) > 1 and suffix not in SEVERAL:
        raise ValueError(
            f"`out` (={options.out}) must have {_NAME} for several inputs, such as "
            f"{options.out.parent / _NAME}{suffix}; one {' or '.join(SEVERAL)} holds all of them"
        )
    plain = {file: file.relative_to(found.base).with_suffix("").as_posix() for file in found.files}
    times = Counter(plain.values())
    # Of files that differ by their suffix alone, it is part of the name.
    names = {f: name if times[name] == 1 else f.relative_to(found.base).as_posix() for f, name in plain.items()}
    files = {f: Output(options.out.parent / options.out.name.replace(_NAME, n), n) for f, n in names.items()}
    there = [path for path in dict.fromkeys(output.file for output in files.values()) if path.exists()]
    if there and not options.overwrite:
        raise ValueError(f"`out` (={options.out}) must be new, {some(there)} exists: `overwrite` replaces it")
    return files


def write_outputs(
    files: Mapping[Path, Output], items: Iterable[Mapping[str, Any]], names: Sequence[str], options: PredictOptions
) -> None:
    """Write the predictions of inputs.

    Args:
        files: Where the landmarks of each input go.
        items: Predictions, each with its ``input``, as JSON types.
        names: Of the keypoints.
        options: What units and frame the inputs are in.
    """
    assert isinstance(options, CloudPredictOptions)
    of: dict[Path, list[Landmarks]] = {}
    for item in items:
        file = Path(item["input"])
        if file in files:
            frame = options.frame or stated_frame(file)
            found = _landmarks(item, names, files[file].name, frame, options.units)
            of.setdefault(files[file].file, []).append(found)
    for path, lists in of.items():
        write_landmarks(path, lists)


def _landmarks(
    item: Mapping[str, Any], names: Sequence[str], scan: str, frame: Frame | None, units: str | None
) -> Landmarks:
    """Return a prediction as landmarks; those that a detector takes for absent are not defined."""
    presence = item.get("presence")
    there = np.ones(len(names), dtype=bool) if presence is None else np.array(presence) > 0.5
    unit = f" {units}" if units else ""
    texts = []
    for k in range(len(names)):
        spread = math.sqrt(sum(item["covariance"][k][axis][axis] for axis in range(3)))
        text = f"spread {spread:.3g}{unit} (rms), confidence {item['confidence'][k]:.3g}"
        texts.append(text if presence is None else f"{text}, presence {presence[k]:.3g}")
    return Landmarks(
        list(names),
        item["position"],
        defined=there,
        frame=frame,
        units=units,
        descriptions=texts,
        scan=scan,
    )
