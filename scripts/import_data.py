"""``pcsa data import``: scans and the landmark files of other tools beside them become a root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from pcsa.datasets.landmark_import.build import Imported, ImportOptions, category_of, import_landmarks

Scans = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCANS")]
Lists = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LANDMARKS")]


def run_import(
    scans: Scans, landmarks: Lists, out: Path, options: Annotated[ImportOptions, tyro.conf.arg(name="")]
) -> int:
    """Pair scans with files of landmarks of other tools (.mrk.json, .fcsv, .pp, .csv, .tsv, .txt), and write a root.

    Exit status 3 if some scans failed, or landmarks have no scan; everything else is written.

    Args:
        scans: Folder of clouds and meshes, or one of them.
        landmarks: Folder of files of landmarks, or one of them; a table may hold those of all scans.
        out: Root to write, in KeypointNet's layout.
        options: How.
    """
    found = import_landmarks(scans, landmarks, out, options)
    print(*report(found, options.units), sep="\n")
    category = category_of(out, options)
    print(f"{len(found.marked)} scans with {len(found.names)} landmarks, as {category} in {out}")
    return 3 if found.failed or found.pairs.without_scan else 0


def report(found: Imported, units: str | None) -> list[str]:
    """Say what was found, assumed and left out, and how far each landmark is from the surface."""
    lines = [f"assumed: {text}" for text in found.assumed]
    pairs = found.pairs
    for name, parts in pairs.of_scan.items():
        beyond = [f"{key} ({rest})" for key, rest in parts if rest]
        if beyond:
            lines.append(f"paired: {name} with {', '.join(beyond)}")
    lines += [f"no landmarks: scan {name}" for name in pairs.without_landmarks]
    lines += [f"no scan: landmarks {name}" for name in pairs.without_scan]
    lines += [f"failed: {name}: {reason}" for name, reason in found.failed.items()]
    for name, one in found.marked.items():
        if one.scan.num_dropped:
            lines.append(f"left out: {one.scan.num_dropped} points or vertices of {name} that are not finite")
    unit = f" {units}" if units else ""
    rows = _by_landmark(found)
    every = np.concatenate([np.empty(0), *found.distance.values()])
    if every.size:
        far = max(rows, key=lambda row: row[3])
        lines.append(
            f"distance to the surface: mean {every.mean():.3g}{unit}, largest {every.max():.3g}{unit} "
            f"({far[0]} of {far[4]})"
        )
        title = ("landmark", "scans", "mean", "largest", "of")
        table = [title, *((name, str(n), f"{mean:.3g}", f"{most:.3g}", of) for name, n, mean, most, of in rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(title))]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
    spread = [
        np.linalg.norm(m - m.mean(axis=0), axis=1) for one in found.marked.values() for m in one.marks if len(m) > 1
    ]
    if spread:
        lines.append(
            f"one mark lies {np.concatenate(spread).mean():.3g}{unit} from the mean of its landmark, on average"
        )
    return lines


def _by_landmark(found: Imported) -> list[tuple[str, int, float, float, str]]:
    """Return name, number of scans, mean and largest distance, and the scan of the latter."""
    rows = []
    for name in found.names:
        of = {
            scan: float(found.distance[scan][one.names.index(name)])
            for scan, one in found.marked.items()
            if name in one.names
        }
        worst = max(of, key=of.__getitem__)
        rows.append((name, len(of), float(np.mean(list(of.values()))), of[worst], worst))
    return rows
