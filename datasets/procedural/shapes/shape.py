"""One shape: from a category's design to a mesh with keypoints, and to a cloud."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pcsa._core.checks import check_count
from pcsa.datasets.procedural.shapes.categories import TABLE, check_categories
from pcsa.datasets.procedural.types import Array

if TYPE_CHECKING:
    import trimesh

MIN_POINTS = 256


@dataclass(frozen=True)
class Shape:
    """A shape with its keypoints, before it is sampled.

    Args:
        category: Name of the category.
        vertices: ``[V, 3]``, bounding-box diagonal 1.
        faces: ``[F, 3]`` vertex indexes, normals outwards.
        face_parts: ``[F]`` index of the part of every face.
        part_colors: ``[P, 3]`` uint8.
        solids: Per part its convex cells as planes ``[C, n, 4]``: inside where ``n·x + d < 0`` for all n.
        cavities: Per part the cells that are taken out of its solid; empty, unless the part is open.
        keypoints: Semantic id to position on the surface.
        names: Semantic id to name, for the keypoints this shape has.
        pairs: Semantic ids that mirror one another across ``mirror_axis`` = 0.
        groups: Semantic ids in the order of a rotation about y, and whether it is a full circle.
        mirror_axis: 0 (x) or 2 (z).
    """

    category: str
    vertices: Array
    faces: NDArray[np.int64]
    face_parts: NDArray[np.int64]
    part_colors: NDArray[np.uint8]
    solids: list[Array]
    cavities: list[Array]
    keypoints: dict[int, Array]
    names: dict[int, str]
    pairs: list[tuple[int, int]]
    groups: list[tuple[tuple[int, ...], bool]]
    mirror_axis: int

    @property
    def mesh(self) -> "trimesh.Trimesh":
        """The shape as one trimesh mesh with a color per vertex (parts share no vertex)."""
        import trimesh

        colors = np.zeros((len(self.vertices), 3), np.uint8)
        colors[self.faces] = self.part_colors[self.face_parts][:, None]
        return trimesh.Trimesh(self.vertices, self.faces, vertex_colors=colors, process=False)


def make_shape(category: str, rng: np.random.Generator) -> Shape:
    """Draw one shape of a category.

    Args:
        category: One of :data:`~pcsa.datasets.procedural.CATEGORIES`.
        rng: Source of all its randomness; the same state gives the same shape.

    Returns:
        The shape in the frame that the docstring of :mod:`pcsa.datasets.procedural` states.

    Raises:
        ValueError: If the category is unknown.

    Example:
        >>> shape = make_shape("mug", np.random.default_rng(0))
        >>> shape.names[0], shape.mesh.is_watertight
        ('rim handle side', True)
    """
    (category,) = check_categories(category)
    names = TABLE[category].names
    design = TABLE[category].draw(rng)

    vertices, faces, face_parts, solids, cavities = [], [], [], [], []
    offset = 0
    everything = np.concatenate([part.rings.reshape(-1, 3) for part in design.parts])
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = 1 / np.linalg.norm(high - low)
    for index, part in enumerate(design.parts):
        rings = part.rings * scale
        triangles = _lattice(*rings.shape[:2])
        points = rings.reshape(-1, 3)
        a, b, c = (points - points.mean(axis=0))[triangles.T]
        if np.einsum("ij,ij->", a, np.cross(b, c)) < 0:  # inside out: a mirrored part, or rings wound clockwise
            triangles = triangles[:, ::-1]
        vertices.append(points)
        faces.append(triangles + offset)
        face_parts.append(np.full(len(triangles), index))
        solids.append(_cells(rings[: part.solid]))
        cavities.append(_cells(rings[part.solid :]) if part.open else solids[-1][:0])
        offset += len(points)
    points, triangles = np.concatenate(vertices), np.concatenate(faces)

    corners = points[triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    center = areas @ corners.mean(axis=1) / areas.sum()
    center[design.mirror_axis] = 0.0
    for planes in (*solids, *cavities):
        planes[..., 3] += planes[..., :3] @ center

    ids = {name: semantic_id for semantic_id, name in names.items()}
    keypoints = {ids[name]: mark * scale - center for name, mark in design.marks.items()}
    keypoints = dict(sorted(keypoints.items()))
    return Shape(
        category=category,
        vertices=points - center,
        faces=triangles,
        face_parts=np.concatenate(face_parts),
        part_colors=np.array([part.color for part in design.parts]).astype(np.uint8),
        solids=solids,
        cavities=cavities,
        keypoints=keypoints,
        names={semantic_id: names[semantic_id] for semantic_id in keypoints},
        pairs=_mirrored(keypoints, design.mirror_axis),
        groups=[(tuple(ids[name] for name in group), circle) for group, circle in design.groups],
        mirror_axis=design.mirror_axis,
    )


def _lattice(count: int, sides: int) -> NDArray[np.int64]:
    """Triangles of `count` joined rings of `sides` vertices, with a fan on the first and on the last."""
    i, j = np.meshgrid(np.arange(count - 1) * sides, np.arange(sides), indexing="ij")
    a, b = (i + j).ravel(), (i + (j + 1) % sides).ravel()
    quads = [np.stack([a, b, b + sides], axis=1), np.stack([a, b + sides, a + sides], axis=1)]
    k = np.arange(1, sides - 1)
    fan = np.stack([0 * k, k + 1, k], axis=1)
    return np.concatenate([*quads, fan, fan[:, ::-1] + (count - 1) * sides])


def _cells(rings: Array) -> Array:
    """Planes ``[C, n + 2, 4]`` that bound the convex cell between each ring and the next."""
    a, b = rings[:-1], rings[1:]
    a_next, b_next = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    middle = (a.mean(axis=1) + b.mean(axis=1)) / 2
    walls = np.cross(b_next - a, b - a_next)
    through = (a + a_next + b + b_next) / 4
    spokes = rings - rings.mean(axis=1, keepdims=True)
    ends = np.cross(spokes, np.roll(spokes, -1, axis=1)).sum(axis=1)
    normals = np.concatenate([walls, ends[:-1, None], ends[1:, None]], axis=1)
    anchors = np.concatenate([through, a.mean(axis=1)[:, None], b.mean(axis=1)[:, None]], axis=1)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 1e-12)
    offsets = -(normals * anchors).sum(axis=2)
    levels = (normals * middle[:, None]).sum(axis=2) + offsets
    flip = np.where(levels > 0, -1.0, 1.0)
    # A side of no area bounds nothing.
    offsets = np.where(length[..., 0] > 1e-12, offsets * flip, -1.0)
    planes = np.concatenate([normals * flip[..., None], offsets[..., None]], axis=2)
    # Two rings in one plane, as on the underside of a rim, hold no volume and tell no inside from outside.
    return planes[np.abs(levels).max(axis=1) > 1e-9]


def _mirrored(keypoints: dict[int, Array], axis: int) -> list[tuple[int, int]]:
    flip = np.ones(3)
    flip[axis] = -1
    return [
        (i, j)
        for i, p in keypoints.items()
        for j, q in keypoints.items()
        if i < j and np.abs(p * flip - q).max() < 1e-9
    ]


def _inside(points: Array, planes: Array, hair: float = 1e-4) -> NDArray[np.bool_]:
    """Whether points lie inside any of the cells, more than a hair from their walls."""
    levels = np.einsum("cnk,mk->mcn", planes[..., :3], points) + planes[..., 3]
    return (levels.max(axis=2) < -hair).any(axis=1)


@dataclass(frozen=True)
class Cloud:
    """Points sampled on a shape.

    Args:
        points: ``[N, 3]`` float32.
        colors: ``[N, 3]`` uint8.
        faces: ``[N]`` face of the shape on which each point lies.
        weights: ``[N, 3]`` barycentric coordinates of each point in its face.
        indexes: Semantic id to the row of `points` that stands for it.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    faces: NDArray[np.int64]
    weights: Array
    indexes: dict[int, int]


def sample_shape(shape: Shape, num_points: int, rng: np.random.Generator) -> Cloud:
    """Sample a shape's outside uniformly by area and pick the points that stand for its keypoints.

    A point that lies inside another part is dropped. A keypoint is the sampled point nearest to its place on
    the surface (no two keypoints share one), as when somebody clicks the cloud: a sample hardly ever has the
    corner itself, so keypoints lie about one spacing of the points away from it.

    Args:
        shape: What to sample.
        num_points: Number of points, at least 256.
        rng: Source of the randomness.

    Returns:
        The cloud.

    Raises:
        ValueError: If `num_points` is too small.
    """
    check_count("num_points", num_points, MIN_POINTS)
    corners = shape.vertices[shape.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    steps = np.cumsum(areas)
    boxes = [shape.vertices[np.unique(shape.faces[shape.face_parts == p])] for p in range(len(shape.solids))]
    lows, highs = np.array([b.min(axis=0) for b in boxes]), np.array([b.max(axis=0) for b in boxes])

    kept: list[tuple[Array, NDArray[np.int64], Array]] = []
    missing = num_points
    while missing > 0:
        count = missing + missing // 2 + 32
        faces = np.minimum(np.searchsorted(steps, rng.random(count) * steps[-1], side="right"), len(steps) - 1)
        # Uniform in a triangle: fold the unit square along its diagonal.
        u, v = rng.random((2, count))
        over = u + v > 1
        u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
        weights = np.stack([1 - u - v, u, v], axis=1)
        points = np.einsum("nk,nkd->nd", weights, corners[faces])
        parts = shape.face_parts[faces]
        hidden = np.zeros(count, dtype=bool)
        for part, planes in enumerate(shape.solids):
            near = (parts != part) & ~hidden & (points > lows[part]).all(axis=1) & (points < highs[part]).all(axis=1)
            (rows,) = np.nonzero(near)
            # A cavity's cells may not leave slits between them, where something would be hidden: they overlap.
            hidden[rows] = _inside(points[rows], planes) & ~_inside(points[rows], shape.cavities[part], -1e-4)
        kept.append((points[~hidden][:missing], faces[~hidden][:missing], weights[~hidden][:missing]))
        missing -= len(kept[-1][0])
    points, faces, weights = (np.concatenate(columns) for columns in zip(*kept, strict=True))

    # The float32 that the file holds is what the keypoints are made of.
    stored = points.astype(np.float32)
    indexes: dict[int, int] = {}
    for semantic_id, place in shape.keypoints.items():
        distance = np.linalg.norm(stored - place, axis=1)
        distance[list(indexes.values())] = np.inf
        indexes[semantic_id] = int(distance.argmin())
    colors = shape.part_colors[shape.face_parts[faces]]
    return Cloud(stored, colors, faces, weights, indexes)
