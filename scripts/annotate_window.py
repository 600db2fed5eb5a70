"""``pcsa annotate --window``: label scans by picking points in windows of Open3D."""

from __future__ import annotations

import sys

from pcsa.datasets.labeling.session import Session
from pcsa.datasets.labeling.shape import shape_scene_fields
from pcsa.viz import Scene
from pcsa.viz.page import Up
from pcsa.viz.pick import pick


def pick_in_windows(session: Session, *, up: Up) -> None:
    """Show every scan that is not done, one window after the other.

    Points are picked for the keypoints in their order, which the terminal says. What is not picked when a window is
    closed stays open, unless the person says that the scan does not have it.
    """
    print("Shift and a click pick a point; Q closes the window and opens the next scan", flush=True)
    for scan in [scan for scan in session.scans if not session.book.is_done(scan)]:
        if session.go(scan):
            _pick(session, up)
            if not session.is_done and not _ask(session):
                return


def _pick(session: Session, up: Up) -> None:
    owner: dict[int, int] = {}

    def picked(row: int) -> None:
        owner[row] = session.active
        session.put(session.shape.vertices[row])
        say()

    def dropped(row: int) -> None:
        keypoint = owner.pop(row, None)
        if keypoint is not None:
            session.choose(keypoint)
            session.clear()
            say()

    def say() -> None:
        print("  all set" if session.is_done else f"  pick {session.name}", flush=True)

    place = session.place + 1
    print(f"{place} / {len(session.scans)}: {session.scan}", flush=True)
    say()
    title = f"pcsa {place} / {len(session.scans)}: {', '.join(session.names)}"
    pick(Scene(**shape_scene_fields(session.shape)), picked, dropped, title=title, up=up)


def _ask(session: Session) -> bool:
    """Ask what becomes of the keypoints that were not picked; return whether to go on."""
    missing = [name for name in session.names if name not in session.labels]
    print(f"not picked: {', '.join(missing)}. Enter leaves them open; their names, or all, if the scan does not have")
    print("them; quit ends: ", end="", flush=True)
    answer = sys.stdin.readline().strip()
    if answer == "quit":
        return False
    for name in missing if answer == "all" else [part.strip() for part in answer.split(",")]:
        if name in missing:
            session.choose(session.names.index(name))
            session.skip()
    return True
