"""Scans and files of landmarks, from two folders to one root."""

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa._core.checks import check_count, check_one_of, check_positive
from pcsa.datasets.custom import LabeledCloud, write_labeled
from pcsa.datasets.faults import said, some
from pcsa.datasets.files import find_files
from pcsa.datasets.landmark_files.files import LANDMARK_FILES, read_landmarks
from pcsa.datasets.landmark_files.landmarks import FRAMES, Frame, Landmarks, unit_name
from pcsa.datasets.landmark_import.pairing import Pairs, pair, stem_of
from pcsa.datasets.landmark_import.placing import Told, place
from pcsa.datasets.landmark_import.scan import Scan, read_scan
from pcsa.datasets.points import CLOUDS, MESHES, UNNAMED, read_cloud
from pcsa.datasets.up import Up, up_axis


@dataclass(frozen=True)
class ImportOptions:
    """What is made of scans and landmarks.

    Raises:
        ValueError: If an option is invalid; the message names it, its value and the rule.
    """

    category: str | None = None
    """Name of the category: letters, digits and _. Default: the name of the root."""
    frame: Frame | None = None
    """Frame of the scans. Default: what their files say (Slicer writes it), else that of the landmarks."""
    landmark_frame: Frame | None = None
    """Frame of the landmarks, whatever their files say."""
    units: str | None = None
    """Units of the scans, such as mm or m. Default: those of the landmarks."""
    landmark_units: str | None = None
    """Units of the landmarks, whatever their files say."""
    marks: Literal["mean", "all"] = "mean"
    """Where a scan has several lists (raters, repeats): keep the mean of each landmark, or all marks beside it."""
    max_distance: float | None = None
    """Refuse scans with a landmark, the mean of its marks, farther from the surface, in units of the scans."""
    num_points: int = 2048
    """Points sampled on a mesh, by area."""
    cloud_points: int | None = None
    """Points drawn of a scan that is a cloud and has more. Default: all of them."""
    samples: int = 1
    """Clouds sampled on each mesh, or drawn of each cloud with `cloud_points`; those of a scan lie in one split."""
    seed: int = 0
    """Seed of the samples and of the split."""
    columns: str | None = None
    """Names of the columns of clouds without, such as "x y z label"."""
    drop_invalid: bool = False
    """Leave out points and vertices that are not finite, and the faces that use them; else such a scan fails."""
    snap: bool = False
    """Move landmarks to the nearest point of the cloud, as in KeypointNet, instead of keeping their place."""
    mirror: tuple[str, ...] = ()
    """Pairs of landmarks that a mirror image exchanges: "left ear=right ear"."""
    up: Up = "y"
    """Axis that points up; none where scans lie in any way."""
    group: str | None = None
    """Regular expression on the names of scans: those with the same match (its first group, if it has one) stay in one
    split and fold, such as both sides of a body by "^[^_]*"."""
    val: tuple[str, ...] = ()
    """Names of the scans to validate on. With these or `test`, all others are trained on."""
    test: tuple[str, ...] = ()
    """Names of the scans to test on."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, val and test, where neither is named."""
    recursive: bool = False
    """Also look into the sub-folders of both folders."""
    strict: bool = False
    """Stop at the first scan that fails, or landmarks without a scan; else they are listed."""
    overwrite: bool = False
    """Replace the category where the root has it."""

    def __post_init__(self) -> None:
        check_count("num_points", self.num_points)
        check_count("samples", self.samples)
        if self.cloud_points is not None:
            check_count("cloud_points", self.cloud_points)
        check_count("seed", self.seed, least=0)
        check_one_of("marks", self.marks, ("mean", "all"))
        up_axis(self.up)
        if self.max_distance is not None:
            check_positive("max_distance", self.max_distance)
        for name in ("frame", "landmark_frame"):
            if getattr(self, name) is not None:
                check_one_of(name, getattr(self, name), FRAMES)
        for name in ("units", "landmark_units"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, unit_name(getattr(self, name)))
        try:
            re.compile(self.group or "")
        except re.error as error:
            raise ValueError(f"`group` (={self.group!r}) must be a regular expression ({error})") from error
        wrong = [text for text in self.mirror if len(text.split("=")) != 2]
        if wrong:
            raise ValueError(f"`mirror` (has {wrong[0]!r}) must be pairs of names, such as 'left ear=right ear'")


class Marked(NamedTuple):
    """A scan and what was marked on it, in its own frame and units."""

    scan: Scan
    names: list[str]
    marks: list[NDArray[np.float64]]
    """`[M, 3]` for each name, M at least 1."""
    raters: list[str]
    """Whose lists they are."""

    @property
    def keypoints(self) -> NDArray[np.float64]:
        """The mean of each landmark's marks."""
        return np.array([marks.mean(axis=0) for marks in self.marks]).reshape(-1, 3)


@dataclass
class Imported:
    """What an import found and did.

    Attributes:
        pairs: What belongs together, by name.
        marked: The scans that are written, by name.
        distance: How far each landmark, the mean of its marks, is from the surface: by scan, in the order of its names.
        failed: Why a scan is not written, by name.
        assumed: What nobody said, and was taken for granted.

    """

    pairs: Pairs
    marked: dict[str, Marked] = field(default_factory=dict)
    distance: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of all landmarks: by number if all are numbers, else in the order in which they come."""
        names = list(dict.fromkeys(name for one in self.marked.values() for name in one.names))
        return sorted(names, key=int) if all(re.fullmatch("[0-9]{1,9}", name) for name in names) else names


def import_landmarks(
    scans: str | os.PathLike[str],
    landmarks: str | os.PathLike[str],
    root: str | os.PathLike[str],
    options: ImportOptions | None = None,
) -> Imported:
    """Write scans, and the landmarks of other tools beside them, as a category of a root in KeypointNet's layout.

    Scans and landmarks are paired by name (:func:`~pcsa.datasets.landmark_import.pairing.pair`); several lists of one
    scan are several raters or repeats. Landmarks come to the frame and units of their scan. Nothing is guessed: where
    another frame or other units would bring them nearer to the surface, the scan fails and the message says which.

    Args:
        scans: Folder of clouds and meshes, or one such file.
        landmarks: Folder of files of landmarks, or one such file: a table may hold those of all scans.
        root: The folder to write, made if it is missing.
        options: How. Default: :class:`ImportOptions`.

    Returns:
        What was found. Scans that fail are not written.

    Raises:
        FileNotFoundError: If a folder is missing or has no such file.
        ValueError: If names are ambiguous, two scans or two lists of a scan have one name, no scan has landmarks or all
            fail, or, with ``strict``, one fails or landmarks have no scan.
        FileExistsError: If the root has the category and ``overwrite`` is off. Nothing is written in any of these.

    """
    options = options or ImportOptions()
    files = _scan_files(Path(scans), Path(landmarks), options)
    lists, unread = _lists(Path(landmarks), options)
    found = Imported(pair(list(files), lists))
    if found.pairs.ambiguous:
        told = "; ".join(f"{name!r} of {' or '.join(map(repr, of))}" for name, of in found.pairs.ambiguous.items())
        raise ValueError(f"`landmarks` (={os.fspath(landmarks)!r}) must belong to one scan each: {told}")
    if options.strict and (unread or found.pairs.without_scan):
        raise ValueError(next(iter(unread.values()), f"no scan for {some(found.pairs.without_scan)}"))
    found.failed.update(unread)
    assumed: dict[str, None] = {}
    for name, parts in found.pairs.of_scan.items():
        try:
            marked = _marked(files[name], [one for key, _ in parts for one in lists[key]], options, assumed)
            distance = marked.scan.distance(marked.keypoints)
            # What rounding leaves is no distance.
            distance[distance < 1e-9 * marked.scan.diagonal] = 0
            _check_distance(marked, distance, options.max_distance)
        except (ValueError, OSError) as error:
            if options.strict:
                raise
            found.failed[name] = said(error)
            continue
        found.marked[name], found.distance[name] = marked, distance
    found.assumed = list(assumed)
    if not found.marked:
        reason = next(iter(found.failed.values()), "their names have nothing in common")
        raise ValueError(
            f"`scans` (={os.fspath(scans)!r}) must have one with landmarks: {len(files)} scans, {len(lists)} names in "
            f"`{os.fspath(landmarks)}`, and the first reason is: {reason}"
        )
    _write(Path(root), found, options)
    return found


def category_of(root: str | os.PathLike[str], options: ImportOptions) -> str:
    """Return the name of the category that is written."""
    if options.category is not None:
        return options.category
    return re.sub(r"[^A-Za-z0-9_]+", "_", Path(root).absolute().name) or "shapes"


def _scan_files(path: Path, landmarks: Path, options: ImportOptions) -> dict[str, Path]:
    # Where both lie in one folder, tables and texts are landmarks.
    together = path.is_dir() and landmarks.is_dir() and path.resolve() == landmarks.resolve()
    suffixes = [suffix for suffix in (*CLOUDS, *MESHES) if not (together and suffix in LANDMARK_FILES)]
    files: dict[str, Path] = {}
    for file in find_files([path], suffixes, recursive=options.recursive).files:
        if file.stem in files:
            raise ValueError(
                f"`{file}` and `{files[file.stem]}` must have different names: landmarks are paired by them"
            )
        files[file.stem] = file
    return files


def _lists(path: Path, options: ImportOptions) -> tuple[dict[str, list[Landmarks]], dict[str, str]]:
    """Return the lists of landmarks by the name that is to be paired, and why files cannot be read."""
    lists: dict[str, list[Landmarks]] = {}
    unread: dict[str, str] = {}
    base = path if path.is_dir() else path.parent
    for file in find_files([path], LANDMARK_FILES, recursive=options.recursive).files:
        try:
            found = read_landmarks(file)
        except (ValueError, OSError) as error:
            unread[str(file.relative_to(base.absolute()))] = said(error)
            continue
        for one in found:
            lists.setdefault(_scan_named(one.scan) if one.scan else stem_of(file), []).append(one)
    return lists, unread


def _scan_named(text: str) -> str:
    """Return the name of a scan that a table names by its file, or without a suffix."""
    name = text.replace("\\", "/").rsplit("/", 1)[-1]
    suffix = next((suffix for suffix in (*CLOUDS, *MESHES) if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _marked(path: Path, lists: Sequence[Landmarks], options: ImportOptions, assumed: dict[str, None]) -> Marked:
    scan = read_scan(path, columns=options.columns, drop_invalid=options.drop_invalid)
    told = Told(options.frame, options.landmark_frame, options.units, options.landmark_units)
    marks: dict[str, list[NDArray[np.float64]]] = {}
    for one in lists:
        try:
            positions = place(one, scan, told, assumed)
        except ValueError as error:
            raise ValueError(f"`{one.source}` on `{path}`: {error}") from error
        for name, position, there in zip(one.names, positions, one.there, strict=True):
            if there:
                marks.setdefault(name, []).append(position)
    return Marked(
        scan, list(marks), [np.array(places) for places in marks.values()], [one.rater or "" for one in lists]
    )


def _check_distance(marked: Marked, distance: NDArray[np.float64], most: float | None) -> None:
    far = [] if most is None else np.flatnonzero(distance > most).tolist()
    if far:
        told = ", ".join(f"{marked.names[i]!r} {distance[i]:.3g}" for i in far)
        raise ValueError(f"`{marked.scan.path}`: landmarks are farther than {most:g} from the surface: {told}")


def _write(root: Path, found: Imported, options: ImportOptions) -> None:
    items, groups, splits = [], [], []
    split_of = _splits(found.marked, options)
    for name, marked in found.marked.items():
        vertices, faces, _ = marked.scan.surface
        drawn = None if len(faces) or (options.cloud_points or len(vertices)) >= len(vertices) else options.cloud_points
        samples = options.samples if len(faces) or drawn else 1
        for sample in range(samples):
            path = marked.scan.path
            cloud = read_cloud(
                path,
                columns=options.columns if path.suffix.lower() in UNNAMED else None,
                drop_invalid=options.drop_invalid,
                num_points=options.num_points,
                seed=options.seed + sample,
            )
            points, colors = cloud.points, cloud.colors
            if drawn is not None:
                draw = np.random.default_rng(options.seed + sample)
                rows = np.sort(draw.choice(len(points), drawn, replace=False))
                points, colors = points[rows], None if colors is None else colors[rows]
            plain = re.sub(r"[^\w.-]", "_", name).lstrip(".-") or "scan"
            items.append(
                LabeledCloud(
                    points,
                    marked.keypoints,
                    marked.names,
                    colors,
                    plain if samples == 1 else f"{plain}.{sample}",
                    marked.marks if options.marks == "all" else None,
                )
            )
            groups.append(_group(name, options))
            splits.append(split_of.get(name, "train"))
    alone = Counter(groups)
    write_labeled(
        root,
        category_of(root, options),
        items,
        names=found.names,
        mirror_pairs=[(a.strip(), b.strip()) for a, b in (text.split("=") for text in options.mirror)],
        fractions=options.fractions,
        seed=options.seed,
        # Distances to the surface were measured; a cloud has gaps between its points.
        tolerance=math.inf,
        binary=True,
        overwrite=options.overwrite,
        split=splits if split_of else None,
        groups=[group if alone[group] > 1 else None for group in groups],
        up=options.up,
        snap=options.snap,
    )


def _splits(scans: Mapping[str, Marked], options: ImportOptions) -> dict[str, str]:
    split_of: dict[str, str] = {}
    for split in ("val", "test"):
        for name in getattr(options, split):
            if name not in scans:
                raise ValueError(
                    f"`{split}` (has {name!r}) must name scans with landmarks, such as {some(list(scans))}"
                )
            if name in split_of:
                raise ValueError(f"`{split}` (has {name!r}) must not name a scan twice")
            split_of[name] = split
    return split_of


def _group(name: str, options: ImportOptions) -> str:
    if options.group is None:
        return name
    found = re.search(options.group, name)
    if found is None:
        raise ValueError(f"`group` (={options.group!r}) must match the name of every scan, not {name!r}")
    return found[1] if found.re.groups else found[0]
