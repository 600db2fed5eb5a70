"""``pcsa data``: procedural clouds and their pictures, KeypointNet, other tools' landmarks, checks, and the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from pcsa.datasets.cache import cache_entries, cache_folder, clear_cache
from pcsa.datasets.check import Layout, check_data, layout_of
from pcsa.datasets.files import existing
from pcsa.datasets.keypointnet import CLASS_IDS, download
from pcsa.datasets.procedural import CATEGORIES, generate
from pcsa.scripts.gallery import draw_gallery
from pcsa.scripts.import_data import run_import

Folder = Annotated[Path, tyro.conf.Positional]


def main(argv: list[str]) -> int:
    """Run one of the six actions; ``check`` has exit status 1 if it found anything, ``import`` 3 if some failed."""
    actions: dict[str, Callable[..., int]] = {
        "generate": _generate,
        "gallery": _gallery,
        "download": _download,
        "import": run_import,
        "check": _check,
        "cache": _cache,
    }
    description = (
        "Generate the procedural clouds, draw them, download KeypointNet, import landmarks of other tools, check data, "
        "or clear the cache."
    )
    return tyro.extras.subcommand_cli_from_dict(actions, prog="pcsa data", description=description, args=argv)


def _generate(
    root: Folder,
    categories: tuple[str, ...] = tuple(CATEGORIES),
    num_shapes: int = 200,
    num_points: int = 2048,
    seed: int = 0,
    meshes: bool = False,
    overwrite: bool = False,
) -> int:
    """Write procedural clouds in KeypointNet's release layout.

    Args:
        root: Folder to write into.
        categories: Categories to generate.
        num_shapes: Number of shapes of each category.
        num_points: Number of points of each cloud.
        seed: Seed of the shapes.
        meshes: Also write the meshes.
        overwrite: Replace procedural clouds of these categories.
    """
    generate(root, categories, num_shapes, num_points=num_points, seed=seed, meshes=meshes, overwrite=overwrite)
    print(f"{num_shapes} clouds each of {', '.join(categories)} in {root}")
    return 0


def _gallery(folder: Folder, categories: tuple[str, ...] = tuple(CATEGORIES), seed: int = 0) -> int:
    """Draw the first four procedural shapes of each category with their keypoints, in a PNG each.

    Args:
        folder: Folder of the pictures.
        categories: Categories to draw.
        seed: Seed of the shapes: those that `generate` writes with it.
    """
    draw_gallery(folder, categories, seed)
    print(f"{len(categories)} pictures in {folder}")
    return 0


def _download(root: Folder, categories: tuple[str, ...] = tuple(CLASS_IDS), meshes: bool = False) -> int:
    """Fetch categories of KeypointNet from the Hugging Face hub.

    Args:
        root: Folder to write into.
        categories: Categories to fetch.
        meshes: Also fetch the meshes.
    """
    download(root, categories, meshes=meshes)
    print(f"{', '.join(categories)} in {root}")
    return 0


def _check(
    root: Folder,
    layout: Layout | None = None,
    images: Path | None = None,
    detections: Path | None = None,
    columns: str | None = None,
    value_range: tuple[float, float] | None = None,
    one_based: bool | None = None,
) -> int:
    """List everything that is missing or broken in a folder or file of data; exit status 1 if anything is.

    Args:
        root: Root of a dataset, annotation file of COCO, or folder or file of clouds and meshes.
        layout: Layout of the files; default what they look like.
        images: Folder of the pictures, for an annotation file of COCO.
        detections: File of detections, for COCO.
        columns: Names of the columns of clouds, as in `pcsa predict`.
        value_range: What 0 and 1 stand for in pictures and scans.
        one_based: Whether positions count from 1, for LSP, MTFL and OCT; default as in the training.
    """
    if layout is None:
        layout = layout_of(existing(root))
    facts: list[str] = []
    problems = check_data(
        root,
        layout,
        images=images,
        detections=detections,
        columns=columns,
        value_range=value_range,
        one_based=one_based,
        facts=facts,
    )
    for fact in facts:
        print(fact)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems in {root}, checked as {layout}")
    return 1 if problems else 0


def _cache(clear: bool = False) -> int:
    """Show what is kept in the cache, the largest first: categories read before, neighbors, procedural clouds.

    Its folder is `$PCSA_CACHE_DIR`, or `$XDG_CACHE_HOME/pcsa`, or the platform's.

    Args:
        clear: Delete all of it.
    """
    for entry in cache_entries():
        print(f"{entry.size / 1e6:10.1f} MB  {entry.path.relative_to(cache_folder())}")
    if clear:
        print(f"{clear_cache() / 1e6:.1f} MB deleted in {cache_folder()}")
    else:
        print(f"{sum(entry.size for entry in cache_entries()) / 1e6:.1f} MB in {cache_folder()}")
    return 0
