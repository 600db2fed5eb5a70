"""Landmarks in the frame and units of their scan, and whether they lie there."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.landmark_files.landmarks import UNITS, Frame, Landmarks
from pcsa.datasets.landmark_import.scan import Scan

#: Shares of the diagonal of a scan: landmarks whose median distance to the surface is below the first are where they
#: should be; above the second they are not, whatever else fits.
NEAR, FAR = 0.005, 0.1
#: How many times nearer landmarks must be in another frame for this one to be wrong.
TIMES = 5.0

_TURN = np.array([-1.0, -1.0, 1.0])  # between LPS and RAS


@dataclass(frozen=True)
class Told:
    """What the user says of frames and units; None where the files are to say it."""

    frame: Frame | None = None
    """Of the scans."""
    landmark_frame: Frame | None = None
    units: str | None = None
    """Of the scans."""
    landmark_units: str | None = None


def place(landmarks: Landmarks, scan: Scan, told: Told, assumed: dict[str, None]) -> NDArray[np.float64]:
    """Return the positions of landmarks in the frame and units of a scan.

    Args:
        landmarks: The landmarks.
        scan: Their scan.
        told: What is told.
        assumed: Gets a line for each thing that nobody said.

    Raises:
        ValueError: If another frame or other units would bring the landmarks to the surface, or none does; the message
            says which.

    """
    ours, theirs = told.landmark_frame or landmarks.frame, told.frame or scan.frame
    points = landmarks.points.copy()
    if ours and theirs:
        points = points * (_TURN if ours != theirs else 1.0)
    elif ours or theirs:
        silent = "scans" if ours else "landmarks"
        assumed[f"the {silent} do not name their frame: they are taken for {ours or theirs}, as the others are"] = None
    else:
        assumed["neither scans nor landmarks name their frame: it is taken for the same"] = None
    units, scan_units = told.landmark_units or landmarks.units, told.units
    if units and scan_units:
        points = points * (UNITS[units] / UNITS[scan_units])
    elif units or scan_units:
        silent = "landmarks" if scan_units else "scans"
        assumed[
            f"the {silent} do not name their units: they are taken for {units or scan_units}, as the others are"
        ] = None
    else:
        assumed["neither scans nor landmarks name their units: they are taken for the same"] = None
    _check(points[landmarks.there], scan, ours, theirs)
    return points


def _check(points: NDArray[np.float64], scan: Scan, ours: Frame | None, theirs: Frame | None) -> None:
    """Raise if landmarks lie elsewhere than on the surface, and say where they would."""
    if not len(points):
        return
    diagonal = scan.diagonal
    away = float(np.median(scan.distance(points)))
    if away <= NEAR * diagonal:
        return
    others = sorted((float(np.median(scan.distance(moved))), how) for moved, how in _others(points, ours, theirs))
    found, how = others[0]
    seen = f"the landmarks lie {away:.3g} from the surface (median, {away / diagonal:.0%} of the scan's diagonal)"
    if found * TIMES < away and found <= FAR * diagonal:
        raise ValueError(f"{seen}, and would lie {found:.3g} from it {how}")
    if away > FAR * diagonal:
        raise ValueError(f"{seen}, in no frame of LPS and RAS and in no units nearer to it: are they of this scan?")


def _others(
    points: NDArray[np.float64], ours: Frame | None, theirs: Frame | None
) -> Iterator[tuple[NDArray[np.float64], str]]:
    """Yield where landmarks would be in other frames and units, with how to say so."""
    here = theirs or ours
    if here is None:
        turned = "with --frame LPS --landmark-frame RAS (x and y change their signs)"
    else:
        turned = f"with --frame {'RAS' if here == 'LPS' else 'LPS'} (x and y change their signs)"
    units = {1e3: "1,000 times larger", 1e-3: "1,000 times smaller", 10.0: "10 times larger", 0.1: "10 times smaller"}
    yield points * _TURN, turned
    for factor, words in {**units, 25.4: "25.4 times larger", 1 / 25.4: "25.4 times smaller"}.items():
        yield points * factor, f"{words}: say --units and --landmark-units"
        yield points * factor * _TURN, f"{words}, {turned}: say --units and --landmark-units, too"
