"""Shapes as files, in KeypointNet's release layout."""

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcsa._core.checks import check_count
from pcsa._core.progress import progress
from pcsa._core.writing import explained, replacing, scratch_folder
from pcsa.datasets.cache import SHAPES, cache_folder, locked
from pcsa.datasets.keypointnet.changes import replace_in_split, settle, writing_alone
from pcsa.datasets.keypointnet.layout import models_of_split
from pcsa.datasets.pcd import write_pcd
from pcsa.datasets.procedural.shapes.categories import TABLE, check_categories
from pcsa.datasets.procedural.shapes.shape import MIN_POINTS, Cloud, Shape, make_shape, sample_shape
from pcsa.datasets.splits import SPLITS

# Every model id starts with "pcsa" in hex, so that our files are told from KeypointNet's by name alone.
_ID_PREFIX = "70637361"


def generate(
    root: str | os.PathLike[str],
    category: str | Sequence[str],
    num_shapes: int = 200,
    *,
    num_points: int = 2048,
    seed: int = 0,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    meshes: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write labeled clouds of procedural shapes in KeypointNet's release layout.

    Writes ``annotations/<category>.json``, ``pcds/<class_id>/<model_id>.pcd``,
    ``splits/{train,val,test}.txt`` (lines of other categories stay) and with `meshes`
    ``meshes/<class_id>/<model_id>.ply``. Shape i depends on `seed`, the category and i alone, so more
    shapes leave the first ones as they were; the same arguments give the same bytes. Every keypoint of an
    annotation also has a ``"name"``.

    Args:
        root: The folder to write into, made if need be. It may hold other categories, also KeypointNet's own.
        category: One or several of :data:`~pcsa.datasets.procedural.CATEGORIES`.
        num_shapes: Shapes per category, at least 3.
        num_points: Points per cloud, at least 256.
        seed: Whole number of at least 0.
        split: Shares of train, val and test; each gets at least one shape.
        meshes: Also write every shape's mesh, to which ``mesh_info`` refers.
        overwrite: Replace procedural data of these categories. KeypointNet's own is never replaced.

    Returns:
        The root.

    Raises:
        ValueError: If an argument is out of its range or a category is unknown.
        FileExistsError: If the root has the category already (and `overwrite` is False), or if it has clouds,
            annotations or split lines of it that this function did not write. Nothing is written then.

    Example:
        >>> generate("data/procedural", ["chair", "mug"], num_shapes=50)  # doctest: +SKIP
    """
    categories = check_categories(category)
    check_count("num_shapes", num_shapes, 3)  # one for each split
    check_count("num_points", num_points, MIN_POINTS)
    check_count("seed", seed, 0)
    shares = tuple(float(share) for share in split)
    if len(shares) != 3 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"`split` (={tuple(split)}) must be three positive shares that sum to 1")
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"`root` (={root}) must be a folder")
    settle(root)
    for name in categories:
        _check_root(root, name, overwrite)

    for name in categories:
        with explained(root, "; other categories are kept"), scratch_folder(root, "procedural") as scratch:
            _write_category(root, scratch, name, num_shapes, num_points, seed, shares, meshes)
    return root


def embedded_root(category: str, num_shapes: int = 200, *, seed: int = 0) -> Path:
    """Return the folder of the default data: procedural shapes of one category, generated once and kept.

    The folder lies in the cache (:func:`pcsa.datasets.cache.cache_folder`), beside those of other arguments and of
    other versions of the code that draws shapes. Of several processes that want it, one makes it. Arguments as
    :func:`generate`.
    """
    check_categories(category)
    cache = cache_folder() / SHAPES
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    version = hashlib.sha256(sources).hexdigest()[:12]
    root = cache / f"{version}-{category}-{num_shapes}-{seed}"
    if root.exists():
        return root
    with locked(root):
        if not root.exists():
            try:
                with scratch_folder(cache, "embedded") as scratch:
                    made = generate(scratch / "root", category, num_shapes, seed=seed)
                    # Where there are no locks, one of two processes comes second and finds the same data in place.
                    try:
                        made.rename(root)
                    except OSError:
                        if not root.exists():
                            raise
            except OSError as error:
                raise type(error)(
                    f"`{cache}` cannot be written ({error.strerror or error}): set PCSA_CACHE_DIR to a folder for the "
                    "clouds that are made, or name a root of your own"
                ) from None
    return root


def _check_root(root: Path, category: str, overwrite: bool) -> None:
    class_id = TABLE[category].class_id
    annotation = root / "annotations" / f"{category}.json"
    found: dict[Path, list[str]] = {}
    if annotation.exists():
        try:
            found[annotation] = [str(record["model_id"]) for record in json.loads(annotation.read_text())]
        except Exception as error:
            raise FileExistsError(f"`{annotation}` exists and is not an annotation file: {error!r}") from error
    for folder in (root / "pcds" / class_id, root / "meshes" / class_id):
        if folder.exists():
            found[folder] = [path.stem for path in folder.iterdir()]
    for name in SPLITS:
        path = root / "splits" / f"{name}.txt"
        if path.exists():
            found[path] = models_of_split(path, class_id)
    for path, model_ids in found.items():
        foreign = [model_id for model_id in model_ids if not model_id.startswith(_ID_PREFIX)]
        if foreign:
            raise FileExistsError(
                f"`{path}` has {len(foreign)} entries of category `{category}` that are not procedural "
                f"(first: `{foreign[0]}`): choose another `root`"
            )
    if annotation.exists() and not overwrite:
        raise FileExistsError(f"`{annotation}` exists: `overwrite` replaces it")


def shape_rng(category: str, seed: int, index: int) -> np.random.Generator:
    """Make the randomness of one shape that :func:`generate` writes; no other shape has the same."""
    return np.random.default_rng([seed, zlib.crc32(category.encode()), index])


def _write_category(
    root: Path,
    scratch: Path,
    category: str,
    num_shapes: int,
    num_points: int,
    seed: int,
    shares: tuple[float, ...],
    meshes: bool,
) -> None:
    class_id = TABLE[category].class_id
    folders = {"pcd": root / "pcds" / class_id, "ply": root / "meshes" / class_id}
    records = []
    for index in progress(range(num_shapes), f"making {category}"):
        digest = hashlib.blake2b(f"{category}/{seed}/{index}".encode(), digest_size=12).hexdigest()
        model_id = _ID_PREFIX + digest
        rng = shape_rng(category, seed, index)
        shape = make_shape(category, rng)
        cloud = sample_shape(shape, num_points, rng)
        write_pcd(scratch / f"{model_id}.pcd", cloud.points, cloud.colors)
        if meshes:
            shape.mesh.export(scratch / f"{model_id}.ply")
        records.append(_record(class_id, model_id, shape, cloud))

    model_ids = [record["model_id"] for record in records]
    val = min(max(1, round(num_shapes * shares[1])), num_shapes - 2)
    test = min(max(1, round(num_shapes * shares[2])), num_shapes - 1 - val)
    train = num_shapes - val - test
    bounds = dict(zip(SPLITS, ((0, train), (train, train + val), (train + val, num_shapes)), strict=True))

    with writing_alone(root):
        # Without its annotation a category counts as absent: it goes first and comes last, so that whoever is
        # interrupted in between leaves no annotation that its clouds do not fit.
        annotation = root / "annotations" / f"{category}.json"
        annotation.unlink(missing_ok=True)
        for suffix, folder in folders.items():
            fresh = {path.name: path for path in scratch.glob(f"*.{suffix}")}
            for stale in folder.iterdir() if folder.exists() else ():
                if stale.name not in fresh:
                    stale.unlink()
            if fresh:
                folder.mkdir(parents=True, exist_ok=True)
            for name, path in fresh.items():
                os.replace(path, folder / name)
        for split_name, (start, stop) in bounds.items():
            replace_in_split(root / "splits" / f"{split_name}.txt", class_id, model_ids[start:stop])
        with replacing(annotation) as temporary:
            temporary.write_text(json.dumps(records), newline="\n")


def _record(class_id: str, model_id: str, shape: Shape, cloud: Cloud) -> dict[str, Any]:
    """Make one entry of the annotation file; symmetries index this record's own list of keypoints."""
    place = {semantic_id: row for row, semantic_id in enumerate(shape.keypoints)}
    keypoints = [
        {
            "xyz": cloud.points[row].tolist(),
            "rgb": cloud.colors[row].tolist(),
            "semantic_id": semantic_id,
            "pcd_info": {"point_index": row},
            "mesh_info": {"face_index": int(cloud.faces[row]), "face_uv": cloud.weights[row].tolist()},
            "name": shape.names[semantic_id],
        }
        for semantic_id, row in cloud.indexes.items()
    ]
    rotation = []
    for group, is_circle in shape.groups:
        circle: dict[str, Any] = {}
        if is_circle:
            ring = np.array([shape.keypoints[semantic_id] for semantic_id in group])
            center = ring.mean(axis=0)
            radius = float(np.linalg.norm(ring[0] - center))
            circle = {"center": center.tolist(), "radius": radius, "normal": [0.0, 1.0, 0.0]}
        rotation.append({"kp_indexes": [place[i] for i in group], "is_circle": is_circle, "circle": circle})
    reflection = [{"kp_indexes": [place[i], place[j]]} for i, j in shape.pairs]
    return {
        "class_id": class_id,
        "model_id": model_id,
        "keypoints": keypoints,
        "symmetries": {"reflection": reflection, "rotation": rotation},
    }
