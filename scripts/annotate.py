"""``pcsa annotate``: label scans by clicks on a page in a browser, or in a window."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pcsa._core.checks import check_count
from pcsa.datasets.files import existing, find_files
from pcsa.datasets.labeling.book import Book, names_file
from pcsa.datasets.labeling.mirror import side_pairs
from pcsa.datasets.labeling.root import RootWriter, model_ids
from pcsa.datasets.labeling.session import Proposal, Session
from pcsa.datasets.labeling.shape import Shape, read_shape
from pcsa.datasets.points import CLOUDS, MESHES
from pcsa.scripts.annotate_page import LabelPage
from pcsa.scripts.annotate_proposals import least_sure_first, propose
from pcsa.scripts.runs import print_failed
from pcsa.tasks.common.claim import claimed

_FAR = 0.005  # of a diagonal: half of the smallest threshold that keypoints are scored by


@dataclass(frozen=True)
class AnnotateConfig:
    """Label the scans of a folder by clicks, on a page in a browser; what is labeled is a root to train on."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of clouds and meshes, which are only read."""
    names: str = ""
    """Names of the keypoints, with commas between: nose,left_ear,right_ear. Default: those of the labels there are."""
    out: Path | None = None
    """Root in KeypointNet's layout that the labels are written to; default the folder of the scans."""
    category: str | None = None
    """Name of what the scans show: letters, digits and _. Default: the name of their folder."""
    checkpoint: Path | None = None
    """Detector whose predictions are proposed, as a checkpoint, the folder of a run or of a shared model, or owner/name
    on the Hugging Face hub; the scans that it is least sure of come first."""
    mirror: bool = False
    """Propose a place on the other side for names with left and right, by the mirror plane of the scan."""
    free: bool = False
    """Place keypoints anywhere on the faces of meshes, not only at their vertices."""
    window: bool = False
    """Pick points in a window of Open3D in place of the page."""
    recursive: bool = False
    """Also take the scans in sub-folders."""
    columns: str | None = None
    """Names of the columns of .xyz, .txt, .npy and the like, for instance "x y z label"."""
    drop_invalid: bool = False
    """Leave out points that are not finite; without it, a scan that has some is skipped."""
    num_points: int = 2048
    """Points of a cloud that is trained on: samples of a mesh by area, and at most so many of a cloud."""
    up: Literal["x", "y", "z"] = "y"
    """Axis of the scans that points up."""
    host: str = "127.0.0.1"
    """Interface that serves the page. With 0.0.0.0, whoever reaches this machine can label."""
    port: int = 8080
    """Port of the page; if it is taken, one of the next."""
    device: str = "auto"
    """Device of the detector: cpu, cuda or auto."""
    trust_backbone: bool = False
    """Import the network outside of pcsa that the checkpoint names, and run its code."""


def main(argv: list[str]) -> int:
    """Parse options, serve the page until it is ended, write the root; exit status 3 if scans cannot be read."""
    config = tyro.cli(AnnotateConfig, args=argv, prog="pcsa annotate")
    check_count("num_points", config.num_points)
    folder = existing(config.folder)
    if not folder.is_dir():
        raise ValueError(f"`folder` (={folder}) must be a folder of scans")
    root = config.out or folder
    category = config.category or re.sub(r"\W+", "_", folder.resolve().name, flags=re.ASCII).strip("_") or "scans"
    apart = [root / name for name in ("annotations", "pcds", "splits", "labels")]
    found = find_files([folder], (*CLOUDS, *MESHES), recursive=config.recursive, apart=apart)
    if str(found):
        print(found)
    names = [name.strip() for name in config.names.split(",")] if config.names else []
    files = {file.relative_to(folder.absolute()).as_posix(): file for file in found.files}

    def read(scan: str) -> Shape:
        return read_shape(files[scan], columns=config.columns, drop_invalid=config.drop_invalid)

    with _without_empty_folders(root, category), claimed(names_file(root, category)), _ended_by_signals():
        book = open_book(root, category, names, mirror=config.mirror)
        predicted: dict[str, dict[str, Proposal]] = {}
        scans, failed = list(files), dict[str, str]()
        if config.checkpoint is not None:
            predicted, failed = propose(
                *(book, scans, read, config.checkpoint, config.num_points, config.device), trust=config.trust_backbone
            )
            scans = least_sure_first(scans, predicted)
        session = Session(
            book, scans, lru_cache(4)(read), predicted=predicted, mirror=config.mirror, free=config.free, failed=failed
        )
        writer = RootWriter(book, read, model_ids(files), num_points=config.num_points, up=config.up)
        try:
            (_in_a_window if config.window else _on_a_page)(config, session, writer)
        except KeyboardInterrupt:
            print()
        print(f"{session.num_done} of {len(scans)} scans are labeled: {book.folder}")
        failed = {**session.failed, **_write(config, root, writer)}
    return print_failed(list(failed.values()), f"of {len(files)} scans", book.folder)


def open_book(root: Path, category: str, names: list[str], *, mirror: bool) -> Book:
    """Open the labels of a category, and refuse what would be lost or does not fit."""
    book = Book(root, category, names)
    annotations = root / "annotations" / f"{category}.json"
    if annotations.exists() and not book.file.exists():
        raise ValueError(f"`{annotations}` has annotations that are not from labels: give another `category` or `out`")
    if mirror and not side_pairs(book.names):
        raise ValueError(f"`names` (={','.join(book.names)}) must have a left and a right one, for `mirror`")
    return book


def _write(config: AnnotateConfig, root: Path, writer: RootWriter) -> dict[str, str]:
    """Write the root, and say how to go on; return why scans that are labeled are not in it."""
    written = writer.write()
    if written.scans:
        print(f"go on by: pcsa train supervised --data.root {root} --data.category {writer.book.category}")
    if written.moved > _FAR:
        print(
            f"keypoints moved by up to {100 * written.moved:.2g}% of a scan's diagonal to the nearest of "
            f"{config.num_points} points: --num-points takes more"
        )
    return written.failed


def _on_a_page(config: AnnotateConfig, session: Session, writer: RootWriter) -> None:
    with LabelPage(session, host=config.host, port=config.port, up=config.up) as page:
        print(f"label {len(session.scans)} scans at {page.url} (to end: its last button, or Ctrl-C)", flush=True)
        pause = 1.0

        def idle() -> float:
            """Look at a scan that nobody has seen, or keep the root up to date where that takes little of the time."""
            nonlocal pause
            if writer.is_due:
                if writer.prepare():
                    return 0.01
                start = time.monotonic()
                writer.write()
                pause = max(1.0, 10 * (time.monotonic() - start))
            elif session.has_unseen:
                if session.look_ahead():
                    page.show()
                return 0.01
            return pause

        page.run(idle)


def _in_a_window(config: AnnotateConfig, session: Session, writer: RootWriter) -> None:
    from pcsa.scripts.annotate_window import pick_in_windows

    pick_in_windows(session, up=config.up)


@contextmanager
def _without_empty_folders(root: Path, category: str) -> Iterator[None]:
    """Leave no folder behind of labels that nobody gave."""
    try:
        yield
    finally:
        for folder in list(names_file(root, category).parents)[:2]:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have a request to end, as of a machine that shuts down, end the command as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
