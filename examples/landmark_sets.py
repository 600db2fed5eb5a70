"""Published sets of landmarks, from their arrays to scans and landmark files that `pcsa data import` reads.

SOURCE is the folder of a set: NumPy files with `points` or `vertices` and `faces`, and `landmarks` or `index`.

    python examples/landmark_sets.py skull SOURCE OUT      (.ply, and .mrk.json of Slicer)
    python examples/landmark_sets.py femur SOURCE OUT      (.ply, and tables of all raters)
    python examples/landmark_sets.py shrec07 SOURCE OUT    (.ply, and .pp of MeshLab; SOURCE is that of a class)
"""

import argparse
import re
from pathlib import Path

import numpy as np
import trimesh

from pcsa.datasets.landmark_files import Landmarks, write_landmarks


def skull(arrays: dict[str, np.ndarray], scan: Path, landmarks: Path) -> None:
    """A cloud and its numbered landmarks, in millimeters and in LPS."""
    trimesh.PointCloud(arrays["points"]).export(scan)
    names = [str(name) for name in arrays["names"]]
    found = Landmarks(names, arrays["landmarks"], frame="LPS", units="mm")
    write_landmarks(landmarks.with_name(f"{landmarks.name}.mrk.json"), found)


def femur(arrays: dict[str, np.ndarray], scan: Path, landmarks: Path) -> None:
    """A mesh and the landmarks of five raters, four times each; those that one left out are not finite."""
    trimesh.Trimesh(arrays["vertices"], arrays["faces"], process=False).export(scan)
    names = [str(name) for name in arrays["names"]]
    lists = [
        Landmarks(names, positions, units="mm", rater=f"rater {rater + 1}, repeat {repeat + 1}")
        for rater, repeats in enumerate(arrays["landmarks"])
        for repeat, positions in enumerate(repeats)
    ]
    write_landmarks(landmarks.with_name(f"{landmarks.name}.csv"), lists)


def shrec07(arrays: dict[str, np.ndarray], scan: Path, landmarks: Path, names: list[str]) -> None:
    """A mesh and those of its vertices that are landmarks."""
    trimesh.Trimesh(arrays["vertices"], arrays["faces"], process=False).export(scan)
    found = Landmarks(names, arrays["vertices"][arrays["index"]])
    write_landmarks(landmarks.with_name(f"{landmarks.name}.pp"), found)


def mirrored(landmarks: np.ndarray, names: list[str]) -> list[str]:
    """Pairs of landmarks [n, K, 3] that a plane across x exchanges in the mean of shapes that stand alike."""
    mean = (landmarks - landmarks.mean(axis=1, keepdims=True)).mean(axis=0)
    distance = np.linalg.norm(mean[:, None] * [-1, 1, 1] - mean, axis=2)
    nearest = distance.argmin(axis=1)
    return [f"{names[a]}={names[b]}" for a, b in enumerate(nearest) if a < b and nearest[b] == a]


def named(text: str) -> list[str]:
    """Names out of lines such as `6: knee (inside) in right leg`, with their numbers, so that no two are equal."""
    # What stands in quotes explains a word.
    lines = re.findall(r"^\s*(\d+)\s*[:.]\s*(.*)$", re.sub(r'\s*\([^)\n]*"[^)\n]*\)', "", text), re.MULTILINE)
    return [f"{number} {name.strip()}".strip() for number, name in lines]


def main() -> None:
    """Write `OUT/scans` and `OUT/landmarks`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("skull", "femur", "shrec07"))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    files = sorted(options.source.glob("*.npz"))
    for folder in ("scans", "landmarks"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    for file in files:
        arrays = dict(np.load(file))
        scan, landmarks = options.out / "scans" / f"{file.stem}.ply", options.out / "landmarks" / file.stem
        if options.set == "skull":
            skull(arrays, scan, landmarks)
        elif options.set == "femur":
            femur(arrays, scan, landmarks)
        else:
            # The names of a class lie beside its folder.
            shrec07(arrays, scan, landmarks, named(options.source.with_suffix(".txt").read_text(encoding="utf-8")))
    print(f"{len(files)} scans in {options.out}")
    if options.set == "skull":
        shapes = [np.load(file) for file in files]
        pairs = mirrored(np.array([shape["landmarks"] for shape in shapes]), [str(n) for n in shapes[0]["names"]])
        print("--mirror", *pairs)


if __name__ == "__main__":
    main()
