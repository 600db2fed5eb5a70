"""An articulated body: bone lengths of a person, joint angles of a pose, and the solids that clothe it.

Frame, in millimeters: x to the right of a viewer, y down, z away from the viewer; the pelvis is the origin. Unturned, a
body stands upright and faces the viewer (-z), so that its own left is at +x.
"""

from dataclasses import dataclass

import numpy as np

from pcsa.datasets.procedural.types import Array

# Poses drawn at once, of which the one whose limbs are least inside of other parts is taken.
_CANDIDATES = 8
_SIDES = (("left", 1.0), ("right", -1.0))

# Where Human3.6M marks the head, in units of the head's radii, as far as this head allows. In the mean of the frames
# that were measured, the point that it calls nose lies 74 mm above the thorax and 77 mm in front of it, which is below
# the chin, and the one that it calls head_top 168 and 21 mm, which is inside of the skull.
_HEAD_MARKS = {"human36m_nose": (0.0, 0.75, -0.55), "human36m_head_top": (0.0, 0.4, -0.22)}

# Lengths as shares of the stature; those of one person vary by a tenth around them.
_SHARES = {
    "belly": 0.135,
    "chest": 0.150,
    "neck": 0.056,
    "head": 0.068,
    "hip": 0.072,
    "shoulder": 0.100,
    "upper arm": 0.165,
    "forearm": 0.148,
    "thigh": 0.245,
    "shin": 0.240,
    "hand": 0.045,
    "foot": 0.105,
}


@dataclass(frozen=True)
class Person:
    """What stays the same in all poses: stature and lengths in millimeters, and a factor of all thicknesses."""

    stature: float
    lengths: dict[str, float]
    build: float


@dataclass(frozen=True)
class Limb:
    """A capsule from `start` to `end` whose radius goes from the first of `radii` to the second.

    `side` is 1 on the left of the body, -1 on its right, 0 in the middle; `cloth` is what it is painted with.
    """

    start: Array
    end: Array
    radii: tuple[float, float]
    cloth: str
    side: float = 0.0


@dataclass(frozen=True)
class Solid:
    """An ellipsoid: the columns of `frame` are the directions of its `radii`; its front is at minus the third."""

    center: Array
    frame: Array
    radii: Array
    cloth: str


@dataclass(frozen=True)
class Body:
    """A posed body.

    Args:
        joints: Position of each joint, by name.
        normals: Where the head's surface faces at each point of the face.
        thickness: How far each joint may lie beneath the surface of its own limb it may lie.
        limbs: The capsules.
        solids: The ellipsoids.
        head: Position of the points of the head that Human3.6M marks, by name. They bound no body.
    """

    joints: dict[str, Array]
    normals: dict[str, Array]
    thickness: dict[str, float]
    limbs: list[Limb]
    solids: list[Solid]
    head: dict[str, Array]

    def place(self, name: str) -> Array:
        """Return the position of a joint or of a point of the head."""
        return self.head[name] if name in self.head else self.joints[name]


def draw_person(rng: np.random.Generator) -> Person:
    """Draw one person's bone lengths."""
    stature = rng.uniform(1500, 1950)
    factors = rng.uniform(0.93, 1.07, len(_SHARES))
    lengths = {name: stature * share * f for (name, share), f in zip(_SHARES.items(), factors, strict=True)}
    return Person(stature, lengths, rng.uniform(0.9, 1.25))


def draw_view(rng: np.random.Generator, *, upright: bool = False) -> Array:
    """Draw how a body is turned `[3, 3]`: half of the bodies roughly to the viewer, the others anywhere.

    An upright body is turned about the vertical axis alone, all directions alike.
    """
    if upright:
        return turn(1, rng.uniform(-180, 180))
    heading = rng.normal(0, 40) if rng.random() < 0.5 else rng.uniform(-180, 180)
    return turn(0, rng.normal(-8, 8)) @ turn(2, rng.normal(0, 7)) @ turn(1, heading)


def turn(axis: int, degrees: float | Array) -> Array:
    """Make the rotation `[..., 3, 3]` about an axis, from the next axis towards the one after it."""
    radians = np.radians(np.asarray(degrees, dtype=np.float64))
    cos, sin = np.cos(radians), np.sin(radians)
    out = np.zeros((*radians.shape, 3, 3))
    j, k = (axis + 1) % 3, (axis + 2) % 3
    out[..., axis, axis] = 1
    out[..., j, j] = out[..., k, k] = cos
    out[..., j, k], out[..., k, j] = -sin, sin
    return out


def pose(person: Person, rng: np.random.Generator, view: Array) -> Body:
    """Draw a pose of a person and turn it into a view (see :func:`draw_view`)."""
    poses = _Poses(person, rng)
    poses.trunk()
    calm_legs, calm_arms = rng.random(2) < (0.5, 0.3)
    for name, side in _SIDES:
        poses.leg(name, side, calm_legs)
        poses.arm(name, side, calm_arms)
    chosen = int(np.argmin(_overlap(person, poses.joints, poses.frames)))
    joints = {name: view @ position[chosen] for name, position in poses.joints.items()}
    frames = {name: view @ frame[chosen] for name, frame in poses.frames.items()}
    return _clothe(person, joints, frames)


class _Poses:
    """Candidates for the pose of a person: `joints` hold a place of each, `frames` how a part of each is turned."""

    def __init__(self, person: Person, rng: np.random.Generator) -> None:
        self._person, self._rng = person, rng
        self.joints: dict[str, Array] = {"pelvis": np.zeros((_CANDIDATES, 3))}
        self.frames: dict[str, Array] = {}

    def _angle(self, low: float, high: float) -> Array:
        return self._rng.uniform(low, high, _CANDIDATES)

    def _join(self, name: str, origin: str, frame: Array, x: float, y: float, z: float) -> None:
        self.joints[name] = self.joints[origin] + frame @ np.array([x, y, z])

    def trunk(self) -> None:
        """Draw spine, neck and head."""
        angle, size, frames = self._angle, self._person.lengths, self.frames
        twist, lean, bend = angle(-30, 30), angle(-12, 40), angle(-14, 14)
        frames["pelvis"] = turn(0, 0 * lean)
        frames["belly"] = turn(1, twist / 2) @ turn(0, lean / 2) @ turn(2, bend / 2)
        frames["chest"] = turn(1, twist) @ turn(0, lean) @ turn(2, bend)
        nod, look, tilt = angle(-30, 20), angle(-50, 50), angle(-14, 14)
        frames["neck"] = frames["chest"] @ turn(0, nod / 2) @ turn(2, tilt / 2)
        frames["head"] = frames["chest"] @ turn(0, nod) @ turn(2, tilt) @ turn(1, look)
        self._join("spine", "pelvis", frames["belly"], 0, -size["belly"], 0)
        self._join("thorax", "spine", frames["chest"], 0, -size["chest"], 0)
        self._join("neck_base", "thorax", frames["neck"], 0, -size["neck"], 0)
        self._join("head", "neck_base", frames["head"], 0, -size["head"], 0)

    def leg(self, name: str, side: float, calm: bool) -> None:
        """Draw the leg of a side, "left" (1) or "right" (-1); a calm one stands or walks."""
        angle, size, pelvis = self._angle, self._person.lengths, self.frames["pelvis"]
        swing = angle(-25, 35) if calm else angle(-20, 105)
        bent = angle(0, 50) if calm else np.clip(swing, 0, 60) * 0.5 + angle(0, 80)
        thigh = pelvis @ turn(0, -swing) @ turn(2, -side * angle(-3, 35)) @ turn(1, side * angle(-30, 10))
        shin = thigh @ turn(0, bent)
        self._join(f"{name}_hip", "pelvis", pelvis, side * size["hip"], 0.01 * self._person.stature, 0)
        self._join(f"{name}_knee", f"{name}_hip", thigh, 0, size["thigh"], 0)
        self._join(f"{name}_ankle", f"{name}_knee", shin, 0, size["shin"], 0)
        foot = shin @ turn(0, angle(-15, 30))
        self._join(f"{name}_toe", f"{name}_ankle", foot, 0, 0.25 * size["foot"], -size["foot"])

    def arm(self, name: str, side: float, calm: bool) -> None:
        """Draw the arm of a side, "left" (1) or "right" (-1); a calm one hangs down."""
        angle, size, chest = self._angle, self._person.lengths, self.frames["chest"]
        swing = angle(-30, 30) if calm else angle(-40, 150)
        spread = angle(5, 40) if calm else angle(5, 100)
        upper = chest @ turn(0, -swing) @ turn(2, -side * spread) @ turn(1, side * angle(-30, 80))
        fore = upper @ turn(0, -(angle(0, 40) if calm else angle(0, 135)))
        self._join(f"{name}_shoulder", "thorax", chest, side * size["shoulder"], 0.03 * self._person.stature, 0)
        self._join(f"{name}_elbow", f"{name}_shoulder", upper, 0, size["upper arm"], 0)
        self._join(f"{name}_wrist", f"{name}_elbow", fore, 0, size["forearm"], 0)
        self._join(f"{name}_hand", f"{name}_wrist", fore, 0, size["hand"], 0)


def _overlap(person: Person, joints: dict[str, Array], frames: dict[str, Array]) -> Array:
    """How far the limbs of each candidate are inside of other parts; 0 where they are not."""
    ends = {}
    for name, _ in _SIDES:
        elbow, wrist, knee, ankle = (joints[f"{name}_{part}"] for part in ("elbow", "wrist", "knee", "ankle"))
        hand, toe = joints[f"{name}_hand"], joints[f"{name}_toe"]
        arm, shin = (elbow + wrist) / 2, (knee + ankle) / 2
        ends[name] = np.stack([elbow, arm, wrist, hand, knee, shin, (knee + shin) / 2, ankle, toe])
    points = np.concatenate([ends["left"], ends["right"]])
    total = np.zeros(_CANDIDATES)
    for center, frame, radii, _ in _solids(person, joints, frames):
        inside = ((points - center)[..., None, :] @ frame)[..., 0, :] / radii
        total += np.maximum(0, 1.35 - np.sqrt((inside**2).sum(-1))).sum(0)
    apart = np.sqrt(((ends["left"][:, None] - ends["right"][None]) ** 2).sum(-1)) / person.stature
    return np.asarray(total + np.maximum(0, 0.07 - apart).sum((0, 1)) * 10)


def _solids(
    person: Person, joints: dict[str, Array], frames: dict[str, Array]
) -> list[tuple[Array, Array, Array, str]]:
    thick = person.stature * person.build
    middle = 0.45 * joints["spine"] + 0.55 * joints["thorax"]
    return [
        (joints["pelvis"], frames["pelvis"], np.array([0.088 * thick, 0.070 * person.stature, 0.064 * thick]), "pants"),
        (joints["spine"], frames["belly"], np.array([0.080 * thick, 0.110 * person.stature, 0.058 * thick]), "shirt"),
        (middle, frames["chest"], np.array([0.093 * thick, 0.120 * person.stature, 0.064 * thick]), "shirt"),
        (joints["head"], frames["head"], np.array([0.046, 0.068, 0.055]) * person.stature, "head"),
    ]


def _clothe(person: Person, joints: dict[str, Array], frames: dict[str, Array]) -> Body:
    thick, stature = person.stature * person.build, person.stature
    solids = [Solid(*solid) for solid in _solids(person, joints, frames)]
    head = solids[-1]

    normals = {}
    # In units of the head's radii; minus z is the front, and the body's left is at +x.
    for name, (x, y, z) in {
        "nose": (0.0, 0.12, -1.0),
        "left_eye": (0.42, -0.15, -0.90),
        "right_eye": (-0.42, -0.15, -0.90),
        "left_ear": (1.0, 0.0, 0.05),
        "right_ear": (-1.0, 0.0, 0.05),
    }.items():
        place = np.array([x, y, z])
        place /= np.linalg.norm(place)
        joints[name] = head.center + head.frame @ (place * head.radii)
        normal = head.frame @ (place / head.radii)
        normals[name] = normal / np.linalg.norm(normal)

    def limb(start: str, end: str, first: float, second: float, cloth: str, side: float = 0.0) -> Limb:
        return Limb(joints[start], joints[end], (first * thick, second * thick), cloth, side)

    limbs = [
        limb("left_shoulder", "right_shoulder", 0.036, 0.036, "shirt"),
        limb("thorax", "neck_base", 0.032, 0.030, "skin"),
    ]
    for name, side in _SIDES:
        limbs += [
            limb(f"{name}_shoulder", f"{name}_elbow", 0.036, 0.028, "sleeve", side),
            limb(f"{name}_elbow", f"{name}_wrist", 0.027, 0.020, "skin", side),
            limb(f"{name}_wrist", f"{name}_hand", 0.021, 0.023, "skin", side),
            limb(f"{name}_hip", f"{name}_knee", 0.052, 0.038, "leg", side),
            limb(f"{name}_knee", f"{name}_ankle", 0.037, 0.025, "leg", side),
            limb(f"{name}_ankle", f"{name}_toe", 0.027, 0.021, "shoe", side),
            limb(f"{name}_ear", f"{name}_ear", 0.012 / person.build, 0.012 / person.build, "skin", side),
        ]
    nose = head.center + head.frame @ (np.array([0, 0.12, -1.0]) * head.radii)
    limbs.append(Limb(nose, nose, (0.011 * stature, 0.011 * stature), "nose"))

    depths = {"shoulder": 0.055, "elbow": 0.045, "wrist": 0.036, "hip": 0.085, "knee": 0.06, "ankle": 0.045}
    depths |= {"pelvis": 0.085, "spine": 0.08, "thorax": 0.07, "neck_base": 0.06, "head": 0.07}
    depths |= {"nose": 0.02, "eye": 0.02, "ear": 0.02}
    thickness = {
        name: depths[name.removeprefix("left_").removeprefix("right_")] * thick for name in joints if _is(name)
    }
    marks: dict[str, Array] = {
        name: head.center + head.frame @ (np.array(at) * head.radii) for name, at in _HEAD_MARKS.items()
    }
    thickness |= {name: depths["head"] * thick for name in marks}
    return Body(joints, normals, thickness, limbs, solids, marks)


def _is(name: str) -> bool:
    """Whether a joint may be a keypoint: the ends of hands and feet are not."""
    return not name.endswith(("_hand", "_toe"))
