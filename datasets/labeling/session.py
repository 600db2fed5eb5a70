"""What a person does who labels scans: which keypoint is asked for, what is known and proposed, and the way back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.faults import said
from pcsa.datasets.labeling.book import Book, Labels
from pcsa.datasets.labeling.mirror import Mirror, choose_plane, mirror_planes, side_pairs
from pcsa.datasets.labeling.shape import Shape, hit, sample_shape, spacing_of

Array = NDArray[np.float64]

_SURFACE = 10_000  # places of a mesh that a proposal may move to, where it need not be a corner
_REACH = 0.1  # of the scan's radius: farther off the surface, a mirrored place is none


class Proposal(NamedTuple):
    """Where a keypoint may be; a person has to agree."""

    position: Array | None
    """None: the scan does not have it."""
    source: str
    """"predicted" or "mirrored"."""
    confidence: float | None = None
    """Probability that it is right, where one is known."""


class _Step(NamedTuple):
    scan: str
    active: int
    before: Labels


class Session:
    """A person at work on a list of scans. Everything that changes a label is on the disk when it returns.

    Args:
        book: The labels.
        scans: Names of the scans, in the order in which they are shown.
        read: Reads a scan.
        predicted: Proposals for each scan and keypoint.
        mirror: Whether a keypoint that is placed on one side is proposed on the other.
        free: See below.
        failed: Why scans cannot be read, of those of which that is known.

    Attributes:
        place (int): Place of the scan that is shown.
        active (int): Place of the keypoint that a click sets.
        free (bool): Whether keypoints may be anywhere on the faces of a mesh, not only at its vertices.
        failed (dict): Why a scan cannot be shown, by its name.

    """

    def __init__(
        self,
        book: Book,
        scans: Sequence[str],
        read: Callable[[str], Shape],
        *,
        predicted: Mapping[str, Mapping[str, Proposal]] | None = None,
        mirror: bool = False,
        free: bool = False,
        failed: Mapping[str, str] | None = None,
    ) -> None:
        self.book, self.scans, self.mirror, self.free = book, list(scans), mirror, free
        self.place, self.active = 0, 0
        self.failed: dict[str, str] = dict(failed or {})
        self._seen: set[str] = set(self.failed)
        self._read, self._predicted = read, predicted or {}
        self._undo: list[_Step] = []
        self._pairs = side_pairs(book.names)
        self.shape: Shape
        self.labels: Labels = {}
        self.proposed: dict[str, Proposal] = {}
        self._planes: list[Mirror] = []
        self._spacing: float | None = None
        self._start()

    def _start(self) -> None:
        """Show the first scan that is not done, of those that can be read."""
        for place in (*self._open_places(), *range(len(self.scans))):
            if self._show(place):
                return
        raise ValueError(f"no scan can be read; the first: {next(iter(self.failed.values()), 'there are none')}")

    @property
    def names(self) -> list[str]:
        """Names of the keypoints."""
        return self.book.names

    @property
    def scan(self) -> str:
        """Name of the scan that is shown."""
        return self.scans[self.place]

    @property
    def name(self) -> str:
        """Name of the keypoint that a click sets."""
        return self.names[self.active]

    @property
    def is_done(self) -> bool:
        """Whether all keypoints of the scan that is shown are known."""
        return len(self.labels) == len(self.names)

    @property
    def num_done(self) -> int:
        """Number of the listed scans that are done."""
        return sum(self.book.is_done(scan) for scan in self.scans)

    @property
    def has_changed(self) -> bool:
        """Whether the scan that is shown is not the one that was labeled."""
        sheet = self.book.sheets.get(self.scan)
        return sheet is not None and bool(sheet.labels) and sheet.size != self.shape.size

    def click(self, origin: Array, direction: Array, *, radius: float = 0.0) -> bool:
        """Set the active keypoint where a ray meets the scan; return whether it does. See :func:`hit`."""
        if self._spacing is None:
            self._spacing = 0.0 if len(self.shape.faces) else spacing_of(self.shape.vertices)
        position = hit(self.shape, origin, direction, free=self.free, radius=radius, spacing=self._spacing)
        if position is not None:
            self.put(position)
        return position is not None

    def put(self, position: Array) -> None:
        """Set the active keypoint, and go on to the next one that is not known."""
        x, y, z = np.asarray(position, np.float64).tolist()
        self._change({**self.labels, self.name: (x, y, z)})

    def skip(self) -> None:
        """Say that the scan does not have the active keypoint, and go on."""
        self._change({**self.labels, self.name: None})

    def clear(self) -> None:
        """Forget what is known of the active keypoint."""
        if self.name in self.labels:
            self._change({name: at for name, at in self.labels.items() if name != self.name}, go_on=False)

    def take(self) -> bool:
        """Agree with what is proposed for the active keypoint; return whether anything is."""
        proposal = self.proposed.get(self.name)
        if proposal is None:
            return False
        if proposal.position is None:
            self.skip()
        else:
            self.put(proposal.position)
        return True

    def take_all(self) -> int:
        """Agree with all that is proposed for what is not known; return how many that were."""
        proposed = {name: p.position for name, p in self.proposed.items() if name not in self.labels}
        if proposed:
            new: Labels = {}
            for name, position in proposed.items():
                new[name] = None if position is None else (float(position[0]), float(position[1]), float(position[2]))
            self._change({**self.labels, **new})
        return len(proposed)

    def undo(self) -> bool:
        """Take back the last change, wherever it was; return whether there was one."""
        if not self._undo:
            return False
        step = self._undo[-1]
        if step.scan != self.scan and not self._show(self.scans.index(step.scan)):
            self._undo.pop()
            return False
        self.book.save(step.scan, step.before, self.shape.size)
        self._undo.pop()
        self.labels, self.active = dict(step.before), step.active
        self._propose()
        return True

    def choose(self, keypoint: int) -> None:
        """Make a keypoint the one that a click sets."""
        if not 0 <= keypoint < len(self.names):
            raise ValueError(f"`keypoint` (={keypoint}) must be a place in the {len(self.names)} names")
        self.active = keypoint

    def step(self, by: int) -> None:
        """Go to the next keypoint, or by -1 to the one before."""
        self.active = (self.active + by) % len(self.names)

    def leaf(self, by: int) -> None:
        """Show the next scan that can be read, or by -1 the one before."""
        self._first_readable((self.place + by * step) % len(self.scans) for step in range(1, len(self.scans) + 1))

    def leaf_to_open(self) -> bool:
        """Show the next scan that is not done; return whether there is one."""
        places = self._open_places()
        after = [p for p in places if p > self.place] + [p for p in places if p < self.place]
        return any(self._show(place) for place in after)

    def go(self, scan: str) -> bool:
        """Show a scan; return whether it can be read."""
        return self._show(self.scans.index(scan))

    def look_ahead(self) -> bool:
        """Try to read one scan that was not read yet; return whether it is one that cannot be."""
        scan = next((scan for scan in self.scans if scan not in self._seen), None)
        if scan is None:
            return False
        self._seen.add(scan)
        try:
            self._read(scan)
        except (ValueError, OSError) as error:
            self.failed[scan] = said(error)
        return scan in self.failed

    @property
    def has_unseen(self) -> bool:
        """Whether there is a scan that was not read yet."""
        return len(self._seen) < len(self.scans)

    def _first_readable(self, places: Iterable[int]) -> None:
        any(self._show(place) for place in places)

    def _open_places(self) -> list[int]:
        return [
            place for place, scan in enumerate(self.scans) if not self.book.is_done(scan) and scan not in self.failed
        ]

    def _show(self, place: int) -> bool:
        scan = self.scans[place]
        self._seen.add(scan)
        try:
            shape = self._read(scan)
        except (ValueError, OSError) as error:
            self.failed[scan] = said(error)
            return False
        self.failed.pop(scan, None)
        self.place, self.shape, self.labels = place, shape, self.book[scan]
        self._planes, self._spacing = [], None
        self.active = self._next_open(-1)
        self._propose()
        return True

    def _change(self, labels: Labels, *, go_on: bool = True) -> None:
        # On the disk first: what is not there is not shown either.
        self.book.save(self.scan, labels, self.shape.size)
        self._undo.append(_Step(self.scan, self.active, self.labels))
        self.labels = labels
        if go_on:
            self.active = self._next_open(self.active)
        self._propose()

    def _next_open(self, active: int) -> int:
        """Return the next keypoint that is not known; the same if all are, the first if a scan begins so."""
        K = len(self.names)
        after = ((active + step) % K for step in range(1, K + 1))
        return next((k for k in after if self.names[k] not in self.labels), max(active, 0))

    def _propose(self) -> None:
        self.proposed = dict(self._predicted.get(self.scan, {}))
        if self.mirror:
            self.proposed.update(self._mirrored())

    def _mirrored(self) -> dict[str, Proposal]:
        known = {name: np.array(at) for name, at in self.labels.items() if at is not None}
        sides = [pair for pair in self._pairs if sum(name in known for name in pair) == 1]
        if not sides:
            return {}
        if not self._planes:
            self._planes = mirror_planes(sample_shape(self.shape, 2048)[0])
        both = [(known[a], known[b]) for a, b in self._pairs if a in known and b in known]
        plane = choose_plane(self._planes, both, self._across())
        if plane is None:
            return {}
        found = {}
        for pair in sides:
            here, there = pair if pair[0] in known else pair[::-1]
            position = self._nearest(plane.image(known[here]))
            if there not in self.labels and position is not None:
                found[there] = Proposal(position, "mirrored")
        return found

    def _across(self) -> Array | None:
        """Return the mean direction from right to left in the other scans, None where no pair is known."""
        directions = []
        for scan, sheet in self.book.sheets.items():
            for left, right in self._pairs:
                a, b = sheet.labels.get(left), sheet.labels.get(right)
                if scan != self.scan and a is not None and b is not None and a != b:
                    away = np.subtract(a, b)
                    directions.append(away / np.linalg.norm(away))
        return np.mean(directions, axis=0) if directions else None

    def _nearest(self, position: Array) -> Array | None:
        """Move a position to where a click could have set it; None if that is far."""
        places = self.shape.vertices
        if self.free and len(self.shape.faces):
            places = np.concatenate([places, sample_shape(self.shape, _SURFACE)[0].astype(np.float64)])
        distance = np.linalg.norm(places - position, axis=1)
        row = int(distance.argmin())
        return places[row] if distance[row] <= _REACH * self.shape.radius else None
