"""``pcsa data``: generate the procedural clouds, draw them, download KeypointNet, or check a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pcsa.datasets.keypointnet import CLASS_IDS, check_root, download
from pcsa.datasets.procedural import CATEGORIES, generate
from pcsa.scripts.gallery import draw_gallery


@dataclass(frozen=True)
class GenerateConfig:
    """Write procedural clouds in KeypointNet's release layout."""

    root: Annotated[Path, tyro.conf.Positional]
    categories: tuple[str, ...] = tuple(CATEGORIES)
    num_shapes: int = 200
    """Shapes of each category."""
    num_points: int = 2048
    seed: int = 0
    meshes: bool = False
    """Also write the meshes."""
    overwrite: bool = False
    """Replace procedural clouds of these categories."""


@dataclass(frozen=True)
class GalleryConfig:
    """Draw the first four procedural shapes of each category with their keypoints, in a PNG each."""

    folder: Annotated[Path, tyro.conf.Positional]
    categories: tuple[str, ...] = tuple(CATEGORIES)
    seed: int = 0
    """Seed of the shapes: those that ``generate`` writes with it."""


@dataclass(frozen=True)
class DownloadConfig:
    """Fetch categories of KeypointNet from the Hugging Face hub."""

    root: Annotated[Path, tyro.conf.Positional]
    categories: tuple[str, ...] = tuple(CLASS_IDS)
    meshes: bool = False
    """Also fetch the meshes."""


@dataclass(frozen=True)
class CheckConfig:
    """List everything that is missing or broken in a folder in KeypointNet's layout."""

    root: Annotated[Path, tyro.conf.Positional]


def main(argv: list[str]) -> int:
    """One of the four; ``check`` has exit status 1 if it found anything."""
    action, rest = (argv[0], argv[1:]) if argv else ("", [])
    if action == "generate":
        g = tyro.cli(GenerateConfig, args=rest, prog="pcsa data generate")
        generate(
            g.root,
            list(g.categories),
            g.num_shapes,
            num_points=g.num_points,
            seed=g.seed,
            meshes=g.meshes,
            overwrite=g.overwrite,
        )
        print(f"{g.num_shapes} clouds each of {', '.join(g.categories)} in {g.root}")
    elif action == "gallery":
        y = tyro.cli(GalleryConfig, args=rest, prog="pcsa data gallery")
        draw_gallery(y.folder, y.categories, y.seed)
        print(f"{len(y.categories)} pictures in {y.folder}")
    elif action == "download":
        d = tyro.cli(DownloadConfig, args=rest, prog="pcsa data download")
        download(d.root, d.categories, meshes=d.meshes)
        print(f"{', '.join(d.categories)} in {d.root}")
    elif action == "check":
        c = tyro.cli(CheckConfig, args=rest, prog="pcsa data check")
        problems = check_root(c.root)
        for problem in problems:
            print(problem)
        print(f"{len(problems)} problems in {c.root}")
        return 1 if problems else 0
    else:
        raise ValueError(f"`data` (={action!r}) must be followed by generate, gallery, download or check")
    return 0
