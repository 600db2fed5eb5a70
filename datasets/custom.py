"""Your own labeled clouds: from (points, keypoints, names) to a root that `KeypointNet` loads."""

import logging
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsa._core.checks import check_count
from pcsa._core.progress import progress
from pcsa.datasets.faults import some
from pcsa.datasets.grouping import PerItem, checked_splits, deal_out, group_names, per_item
from pcsa.datasets.keypointnet.annotations import read_records
from pcsa.datasets.keypointnet.categories import CLASS_IDS
from pcsa.datasets.keypointnet.changes import finish_changes, replace_category, writing_alone
from pcsa.datasets.limits import check_inside
from pcsa.datasets.pcd import write_pcd
from pcsa.datasets.point_cloud import lossless_dtype
from pcsa.datasets.splits import SPLITS
from pcsa.datasets.up import Up, up_axis

_log = logging.getLogger(__name__)
_FEW = 3  # keypoints: fewer may be equal by chance, in clouds of another shape


class LabeledCloud(NamedTuple):
    """One cloud with the keypoints that it has.

    Args:
        points: `[N, 3]`, in any unit and frame. Far from the origin (UTM, ECEF) they must be float64.
        keypoints: `[k, 3]`, in the same unit; on the cloud, or nearly so.
        names: `k` different names. Keypoints that this cloud lacks are not listed.
        colors: `[N, 3]` integers from 0 to 255, or None.
        model_id: Name of the cloud: letters, digits, `_`, `.`, `-` and spaces within. Default: its number.
        marks: Places `[M, 3]` that people marked for each of the keypoints, where there are several; M may differ. They
            are kept as they are. Default: none.

    """

    points: ArrayLike
    keypoints: ArrayLike
    names: Sequence[str]
    colors: ArrayLike | None = None
    model_id: str | None = None
    marks: Sequence[ArrayLike] | None = None


def check_labeled(
    items: Iterable[LabeledCloud | tuple[Any, ...]],
    *,
    names: Sequence[str] | None = None,
    tolerance: float = 3.0,
) -> list[str]:
    """List everything that is wrong with labeled clouds; :func:`write_labeled` takes those without fault.

    Args:
        items: :class:`LabeledCloud`, or tuples of its first three to six fields.
        names: The names that may occur. Default: any.
        tolerance: How far a keypoint may be from the nearest point of its cloud, in units of the cloud's mean
            distance from a point to its nearest neighbor.

    Returns:
        One line per fault, with the number of the item (from 0) and its model id.

    """
    entries = _entries(items)
    if not entries:
        return ["no items"]
    short = [i for i, entry in enumerate(entries) if not 3 <= len(entry) <= len(LabeledCloud._fields)]
    if short:
        return [f"item {i} is not (points, keypoints, names[, colors[, model_id[, marks]]])" for i in short]
    clouds = [LabeledCloud(*entry) for entry in entries]
    faults: list[str] = []
    seen: dict[str, int] = {}
    for number, cloud in enumerate(progress(clouds, "checking")):
        model_id = _model_id(cloud, number)
        where = f"item {number} ({model_id!r}): "
        faults += [where + fault for fault in _item_faults(cloud, names, tolerance)]
        if not _is_name(model_id):
            faults.append(where + "`model_id` must be letters, digits, `_`, `.`, `-` and spaces within")
        if model_id in seen:
            faults.append(where + f"`model_id` is that of item {seen[model_id]} too")
        seen.setdefault(model_id, number)
    if not any(isinstance(cloud.names, Collection) and len(cloud.names) for cloud in clouds):
        faults.append("no item has a keypoint")
    return faults


def write_labeled(
    root: str | os.PathLike[str],
    category: str,
    items: Iterable[LabeledCloud | tuple[Any, ...]],
    *,
    names: Sequence[str] | None = None,
    mirror_pairs: Iterable[tuple[str, str]] = (),
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    tolerance: float = 3.0,
    binary: bool = False,
    overwrite: bool = False,
    split: PerItem | None = None,
    groups: PerItem | None = None,
    up: Up = "y",
    snap: bool = True,
) -> None:
    """Write labeled clouds as a category of a root in KeypointNet's layout.

    The category appears as a whole: a call that is cut off leaves the former one, or one that the next call that
    writes or reads the root ends. Keypoints move to the nearest point of their cloud, unless ``snap`` is off. Points
    are written in float32, or in float64 where float32 would move one by more than 1e-6 of the cloud's extent.
    ``KeypointNet(root, category, "train")`` loads the result, with your names. The same items and seed give the same
    bytes.

    Several clouds of one shape (samples of one mesh, scans of one person) must not be trained on and scored on at once:
    scores of shapes that the network knows say nothing of new ones. Name what belongs together in
    ``groups``: a group lies in one split and in one fold (:class:`pcsa.datasets.folds.Fold`). Clouds with equal
    keypoints that are not in one group are counted in the log.

    Args:
        root: The folder, made if it is missing; it may hold other categories.
        category: Letters, digits and `_`.
        items: The clouds, as for :func:`check_labeled`.
        names: All names in the order of their semantic ids, 0, 1, …. Default: those that occur, sorted.
        mirror_pairs: Pairs of names that a mirror plane of the shape exchanges (left and right), for
            :func:`pcsa.datasets.transforms.random_mirror`.
        fractions: Shares of train, val and test; with ``groups``, shares of the groups. From three clouds or groups on,
            each share above zero gets at least one. Unused with ``split``.
        seed: Seed of the random split.
        tolerance: As for :func:`check_labeled`.
        binary: Whether to write binary clouds, which are smaller and faster to read.
        overwrite: Whether to replace the category where the root has it already.
        split: The split of each item, ``"train"``, ``"val"`` or ``"test"``: in the order of the items, or by model id.
            Default: drawn at random by ``fractions`` and ``seed``.
        groups: What each item belongs to, a name or a whole number: in the order of the items, or by model id. None
            for an item that is alone. Default: all are.
        up: The axis that points up, ``"x"``, ``"y"`` or ``"z"``: augmentations turn clouds about it, and look for
            vertical mirror planes. ``"none"`` where shapes lie in any way: all three planes count, and no turn.
        snap: Whether keypoints move to the nearest point of their cloud, as those of KeypointNet are points. Turn it
            off where keypoints were marked on a surface of which the cloud is a sample.

    Raises:
        ValueError: If :func:`check_labeled` finds a fault (the message has all of them) or an argument is invalid, or
            if ``split`` tears a group apart.
        FileExistsError: If the root has the category and ``overwrite`` is off. Nothing is written in either case.

    Example:
        >>> import tempfile
        >>> from pcsa.datasets.keypointnet import KeypointNet
        >>> scans = [np.random.default_rng(seed).random((100, 3)) for seed in range(4)]
        >>> items = [(points, points[[0, 7]], ["nose", "tail"]) for points in scans]
        >>> with tempfile.TemporaryDirectory() as root:
        ...     write_labeled(root, "fish", items)
        ...     KeypointNet(root, "fish", "train").names
        ('nose', 'tail')

    """
    root, entries = Path(root), _entries(items)
    if not re.fullmatch(r"[A-Za-z0-9_]+", category):
        raise ValueError(f"`category` (={category!r}) must be letters, digits and `_`")
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or fractions[0] == 0:
        raise ValueError(f"`fractions` (={fractions}) must be three shares that sum to 1, the first above 0")
    faults = check_labeled(entries, names=names, tolerance=tolerance)
    if faults:
        raise ValueError(f"{len(faults)} faults in `items`:\n" + "\n".join(faults))
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"`names` (={list(names)}) must be different")
    clouds = [LabeledCloud(*entry) for entry in entries]
    all_names = sorted({name for cloud in clouds for name in cloud.names}) if names is None else list(names)
    mirror_pairs = list(mirror_pairs)
    for pair in mirror_pairs:
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ValueError(f"`mirror_pairs` (has {pair}) must be pairs of two different names")
    stray = sorted({name for pair in mirror_pairs for name in pair} - set(all_names))
    if stray:
        raise ValueError(f"`mirror_pairs` has names that no keypoint has: {', '.join(stray)}")
    check_count("seed", seed, least=0)
    up_axis(up)

    class_id = CLASS_IDS.get(category, category)
    annotations = root / "annotations" / f"{category}.json"
    model_ids = [_model_id(cloud, number) for number, cloud in enumerate(clouds)]
    group_of = group_names([None] * len(clouds) if groups is None else per_item("groups", groups, model_ids))
    if split is None:
        split_of = deal_out(group_of, fractions, seed)
    else:
        split_of = checked_splits(per_item("split", split, model_ids), group_of)
    _warn_of_twins(clouds, model_ids, group_of)
    records = [
        _record(cloud, class_id, model_id, all_names, mirror_pairs, snap)
        | ({} if group is None else {"group": group})
        | ({} if up == "y" else {"up": up})
        for cloud, model_id, group in zip(clouds, model_ids, group_of, strict=True)
    ]

    def write_clouds(into: Path) -> None:
        for cloud, model_id in progress(zip(clouds, model_ids, strict=True), "writing", len(clouds)):
            write_pcd(into / f"{model_id}.pcd", _stored(cloud), cloud.colors, binary=binary)

    splits: dict[str, list[str]] = {
        name: [m for m, s in zip(model_ids, split_of, strict=True) if s == number] for number, name in enumerate(SPLITS)
    }
    with writing_alone(root):
        finish_changes(root)
        if annotations.exists() and not overwrite:
            raise FileExistsError(f"`{annotations}` exists: `overwrite` replaces the category")
        for path in (annotations, root / "pcds" / class_id, *(root / "splits" / f"{name}.txt" for name in SPLITS)):
            # What another made may hold links: nothing is written, or removed, behind those that lead out of it.
            check_inside(path, root)
        old = _model_ids_of(annotations) if annotations.exists() else []
        replace_category(root, category, class_id, write_clouds, records, splits, old)


# People have scripts with the British spelling.
check_labelled = check_labeled
write_labelled = write_labeled


def _entries(items: Iterable[LabeledCloud | tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return items as tuples; other things become tuples without fields, which :func:`check_labeled` reports."""
    if not isinstance(items, Iterable):
        raise ValueError(f"`items` ({type(items).__name__}) must be a list of labeled clouds")
    return [tuple(item) if isinstance(item, (tuple, list)) else () for item in items]


def _record(
    cloud: LabeledCloud,
    class_id: str,
    model_id: str,
    all_names: Sequence[str],
    mirror_pairs: Sequence[tuple[str, str]],
    snap: bool,
) -> dict[str, Any]:
    """Return one shape's annotation in KeypointNet's form."""
    points = _stored(cloud)
    index, _, _ = _snap(cloud)
    place = {name: i for i, name in enumerate(cloud.names)}
    keypoints = [
        {
            "xyz": points[row].tolist(),
            "semantic_id": all_names.index(name),
            "name": str(name),
            "pcd_info": {"point_index": row},
            **({} if snap else {"target": target}),
            **({} if cloud.marks is None else {"marks": _array(cloud.marks[place[name]]).astype(np.float64).tolist()}),
        }
        for name, row, target in zip(cloud.names, index.tolist(), _keypoint_array(cloud).tolist(), strict=True)
    ]
    reflection = [{"kp_indexes": [place[a], place[b]]} for a, b in mirror_pairs if a in place and b in place]
    symmetries = {"reflection": reflection, "rotation": []}
    return {"class_id": class_id, "model_id": model_id, "keypoints": keypoints, "symmetries": symmetries}


def _model_ids_of(annotations: Path) -> list[str]:
    """Return the model ids of annotations that are to be replaced; of broken ones, those that can be read."""
    return [record.model_id for record in read_records(annotations)[0] if _is_name(record.model_id)]


def _is_name(model_id: str) -> bool:
    """Whether a model id may name a file: it leads nowhere else."""
    return re.fullmatch(r"\w([\w .-]*[\w.-])?", model_id) is not None


def _model_id(cloud: LabeledCloud, number: int) -> str:
    return f"{number:06d}" if cloud.model_id is None else str(cloud.model_id)


def _stored(cloud: LabeledCloud) -> NDArray[np.floating]:
    """Return the points as the file will hold them."""
    points = np.asarray(cloud.points, dtype=np.float64)
    return points.astype(lossless_dtype(points))


def _keypoint_array(cloud: LabeledCloud) -> NDArray[np.float64]:
    keypoints = _array(cloud.keypoints).astype(np.float64)
    return keypoints.reshape(0, 3) if keypoints.size == 0 else keypoints


def _array(values: ArrayLike) -> NDArray[Any]:
    if np.ma.is_masked(values):
        raise ValueError(f"{np.ma.count_masked(np.ma.asarray(values))} values are masked")
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "fiu":
        raise ValueError(f"dtype {array.dtype}")
    return array


def _item_faults(cloud: LabeledCloud, names: Sequence[str] | None, tolerance: float) -> list[str]:
    try:
        points, keypoints = _array(cloud.points).astype(np.float64), _keypoint_array(cloud)
    except (ValueError, TypeError, RuntimeError) as error:
        return [f"`points` and `keypoints` must be arrays of numbers ({error})"]
    if isinstance(cloud.names, str) or not isinstance(cloud.names, Collection):
        return [f"`names` (={cloud.names!r}) must be a list of names"]
    faults = []
    for name, array, number in (("points", points, "N"), ("keypoints", keypoints, "k")):
        if array.ndim != 2 or array.shape[1] != 3:
            faults.append(f"`{name}` has the shape {list(array.shape)}, not [{number}, 3]")
        elif not np.isfinite(array).all():
            faults.append(f"{int((~np.isfinite(array)).any(1).sum())} {name} are not finite")
    if points.shape == (0, 3):
        faults.append("`points` is empty")
    elif not faults:
        extent = float(np.ptp(points, axis=0).max())
        faults += _coarse_faults("points", cloud.points, points, extent)
        faults += _coarse_faults("keypoints", cloud.keypoints, keypoints, extent)
    placed = not faults and len(keypoints) == len(cloud.names)
    repeated = sorted({str(name) for name in cloud.names if list(cloud.names).count(name) > 1})
    if repeated:
        faults.append(f"names occur more than once: {', '.join(repeated)}")
    odd = [name for name in cloud.names if not isinstance(name, str) or not name]
    if odd:
        faults.append(f"names must be non-empty strings: {odd}")
    unknown = [] if names is None else [str(name) for name in cloud.names if name not in names]
    if unknown:
        faults.append(f"names that are not in `names`: {', '.join(unknown)}")
    if cloud.colors is not None:
        colors = np.asarray(cloud.colors)
        if colors.shape != points.shape:
            faults.append(f"`colors` has the shape {list(colors.shape)}, not that of `points` {list(points.shape)}")
        elif colors.dtype.kind not in "iu" or (colors.size and (colors.min() < 0 or colors.max() > 255)):
            faults.append(f"`colors` ({colors.dtype}) must be integers from 0 to 255")
    if keypoints.ndim == 2 and len(keypoints) != len(cloud.names):
        faults.append(f"{len(keypoints)} keypoints and {len(cloud.names)} names")
    if cloud.marks is not None:
        faults += _mark_faults(cloud)
    if placed:
        _, distance, limit = _snap(cloud, tolerance)
        faults += [
            f"keypoint {name!r} is {gap:.4g} from the nearest point, more than {limit:.4g}: "
            f"{tolerance:g} times the spacing of the points"
            for name, gap in zip(cloud.names, distance, strict=True)
            if gap > limit
        ]
    return faults


def _mark_faults(cloud: LabeledCloud) -> list[str]:
    if not isinstance(cloud.marks, Sequence) or len(cloud.marks) != len(cloud.names):
        return [f"`marks` must be a list of places for each of the {len(cloud.names)} keypoints"]
    faults = []
    for name, marks in zip(cloud.names, cloud.marks, strict=True):
        try:
            places = _array(marks).astype(np.float64)
        except (ValueError, TypeError, RuntimeError) as error:
            return [f"`marks` of {name!r} must be an array of numbers ({error})"]
        if places.ndim != 2 or places.shape[1] != 3 or not np.isfinite(places).all():
            faults.append(f"`marks` of {name!r} {list(places.shape)} must be finite, [M, 3]")
    return faults


def _coarse_faults(name: str, given: ArrayLike, values: NDArray[np.float64], extent: float) -> list[str]:
    """Say so where coordinates were rounded before they came here, so that neighbors have become one."""
    dtype = np.asarray(given).dtype
    step = _step(dtype, values) if len(values) else 0.0
    if step <= 1e-3 * extent or extent == 0:
        return []
    return [
        f"`{name}` ({dtype}) lie so far from the origin that they come in steps of {step:.3g}, on a cloud of "
        f"{extent:.3g}: give them as float64"
    ]


def _step(dtype: np.dtype[Any], values: NDArray[np.float64]) -> float:
    """Return the distance between two neighboring numbers of a format, where the values are largest."""
    largest = np.abs(values).max()
    return float(np.spacing(largest.astype(dtype))) if dtype.kind == "f" else float(np.spacing(largest))


def _snap(cloud: LabeledCloud, tolerance: float = 0.0) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Return the nearest point of each keypoint, its distance, and `tolerance` in the units of the points."""
    from scipy.spatial import KDTree

    points, keypoints = np.asarray(cloud.points, dtype=np.float64), _keypoint_array(cloud)
    distance, index = KDTree(points).query(keypoints)
    different = np.unique(points, axis=0)  # the spacing of points, not of copies
    spacing = 0.0
    if len(different) > 1:
        spacing = float(np.asarray(KDTree(different).query(different, k=2)[0])[:, 1].mean())
        # By the extent, not by how far off the cloud lies: there, a share of the coordinate is the whole cloud.
        rounding = 1e-6 * float(np.ptp(points, axis=0).max()) + 4 * _step(np.dtype(np.float64), points)
    else:  # nothing that a rounded keypoint could be mistaken for
        rounding = 4 * _step(np.asarray(cloud.keypoints).dtype, points)
    return np.asarray(index), np.asarray(distance), tolerance * spacing + rounding


def _warn_of_twins(clouds: Sequence[LabeledCloud], model_ids: Sequence[str], groups: Sequence[str | None]) -> None:
    """Say in the log which clouds seem to be of one shape and are in no group: their keypoints are equal."""
    alike: dict[bytes, list[int]] = {}
    for number, cloud in enumerate(clouds):
        if len(cloud.names) >= _FEW:
            places = _keypoint_array(cloud)[np.argsort(list(cloud.names))]
            alike.setdefault(repr(sorted(cloud.names)).encode() + places.tobytes(), []).append(number)
    for rows in alike.values():
        if len(rows) > 1 and (groups[rows[0]] is None or len({groups[row] for row in rows}) > 1):
            _log.warning(
                "%d clouds have equal keypoints and are not in one of `groups`: %s; if they are of one shape, scores "
                "on some of them say nothing of new shapes",
                len(rows),
                some([model_ids[row] for row in rows]),
            )
