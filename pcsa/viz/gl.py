"""Load Open3D, open its windows, and make its meshes of a scene."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.viz.colors import Array
from pcsa.viz.scene import Scene, balls, cloud_colors, linear_shares, lines, map_shares, size_of

NEEDS = (
    "Open3D (pip install 'pcsa[viz]') and the system libraries EGL, GL and USB (Debian, Ubuntu: apt-get install "
    "libegl1 libgl1 libusb-1.0-0)"
)


def load_open3d() -> Any:
    """Import Open3D, and make it quiet.

    Raises:
        ImportError: If Open3D or a system library of it is missing; names all of them.
    """
    try:
        o3d = importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        raise ImportError(f"Open3D cannot be imported ({error}): it takes {NEEDS}") from None
    # The errors raised here say what goes wrong, once; Open3D would print its own with every frame.
    o3d.utility.set_verbosity_level(o3d.utility.VerbosityLevel.Error)
    return o3d


def open_window(visualizer: Any, title: str, size: tuple[int, int], visible: bool) -> bool:
    """Open a window of Open3D, shown or not; return whether this machine can."""
    # Without this variable the search for a Wayland display prints an error, though none is needed.
    unset = "XDG_RUNTIME_DIR" not in os.environ
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    try:
        made = visualizer.create_window(window_name=title, width=size[0], height=size[1], visible=visible)
    finally:
        if unset:
            del os.environ["XDG_RUNTIME_DIR"]
    # Without a context the window "exists", and its options are None.
    option = visualizer.get_render_option()
    if not made or option is None:
        visualizer.destroy_window()
        return False
    option.mesh_show_back_face = True
    return True


def marks(o3d: Any, scene: Scene, layers: Collection[str], keypoint: int | None, axes: Array) -> list[Any]:
    """Make meshes of the balls and lines.

    Args:
        o3d: Open3D.
        scene: What is drawn.
        layers: Names of what is drawn.
        keypoint: Keypoint whose map is shown, if any.
        axes: Right, up and towards the viewer: rings are turned there, and shadows are part of the colors.
    """
    center, tint, radius, _ = balls(scene, layers, keypoint)
    spheres = radius[:, None, None] * np.eye(3)
    # Samples come by the hundred and are seen as dots.
    small = radius < 0.01 * size_of(scene)
    made = []
    for some, sides in ((small, 6), (~small, 20)):
        polar = np.linspace(0, np.pi, sides // 2 + 1)
        made += _turned(o3d, np.sin(polar), np.cos(polar), sides, center[some], spheres[some], tint[some], axes)
    start, end, tint, radius, _ = lines(scene, layers, keypoint, axes)
    half = (end - start) / 2
    length = np.linalg.norm(half, axis=1, keepdims=True)
    along = np.divide(half, length, out=np.tile([1.0, 0.0, 0.0], (len(half), 1)), where=length > 0)
    u = np.cross(along, np.eye(3)[np.abs(along).argmin(1)])
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    # A little longer, so that the pieces of a ring leave no gaps.
    wide = radius[:, None]
    tubes = np.stack([wide * u, wide * np.cross(along, u), (length + 0.15 * wide) * along], axis=1)
    return made + _turned(o3d, np.ones(2), np.array([-1.0, 1.0]), 8, start + half, tubes, tint, axes)


def _turned(
    o3d: Any, radius: Array, height: Array, sides: int, center: Array, frame: Array, color: Array, axes: Array
) -> list[Any]:
    """Make one mesh of all copies of a surface of revolution, or none where there are no copies.

    Args:
        o3d: Open3D.
        radius: Distances [n] of the surface from its axis.
        height: Places [n] of these along the axis.
        sides: Number of corners around the axis.
        center: Centers [M, 3] of the copies.
        frame: Axes of the copies, rows of [M, 3, 3]; the last is that of revolution.
        color: Colors [M, 3] in full light.
        axes: See :func:`marks`.
    """
    if not len(center):
        return []
    n, angle = len(radius), np.linspace(0, 2 * np.pi, sides, endpoint=False)[:, None]
    unit = np.stack(np.broadcast_arrays(np.cos(angle) * radius, np.sin(angle) * radius, height), -1).reshape(-1, 3)
    i, j = (x.ravel() for x in np.meshgrid(np.arange(sides), np.arange(n - 1)))
    a, b = i * n + j, (i + 1) % sides * n + j
    faces = np.concatenate([np.stack([a, b, a + 1], 1), np.stack([b, b + 1, a + 1], 1)])
    # The normals of a tube have no part along its axis.
    normal = (unit * [1, 1, n > 2]) @ (frame / np.linalg.norm(frame, axis=2, keepdims=True))
    light = (0.55 + 0.5 * normal @ _lamp(axes)).clip(0.4, 1)[..., None]
    return [_copies(o3d, center[:, None] + unit @ frame, faces, color[:, None] * light)]


def _copies(o3d: Any, vertices: Array, faces: NDArray[np.int64], colors: Array) -> Any:
    """Make an Open3D mesh of shapes that share their faces; vertices and colors are [M, V, 3]."""
    M, V, _ = vertices.shape
    faces = (np.arange(M)[:, None, None] * V + faces).reshape(-1, 3)
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices.reshape(-1, 3)), o3d.utility.Vector3iVector(faces.astype(np.int32))
    )
    # Without normals, Open3D draws the colors as they are.
    mesh.vertex_colors = o3d.utility.Vector3dVector(colors.reshape(-1, 3).astype(np.float64))
    return mesh


def shape_mesh(o3d: Any, scene: Scene, layers: Collection[str], axes: Array) -> list[Any]:
    """Make the mesh of the shape itself, if it is drawn; for the arguments see :func:`marks`."""
    if "mesh" not in layers or "mesh" not in scene.layers:
        return []
    triangles = scene.vertices[scene.faces]  # unshared, so that edges stay sharp
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    color = mesh_colors(scene) * (0.5 + 0.36 * np.abs(normal @ _lamp(axes)))[:, None]
    return [_copies(o3d, triangles, np.arange(3), np.repeat(color[:, None], 3, axis=1))]


def mesh_colors(scene: Scene) -> Array:
    """Return the color of each face [F, 3] in full light, white if the mesh has none."""
    if scene.vertex_color is None:
        return np.ones((len(scene.faces), 3))
    return np.asarray(np.clip(scene.vertex_color, 0, 1)[scene.faces].mean(1))


def discs(o3d: Any, scene: Scene, keypoint: int | None, axes: Array) -> Any:
    """Draw the points as round discs turned to the viewer: the points of Open3D's windows are squares."""
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    rim = np.outer(np.cos(angle), axes[0]) + np.outer(np.sin(angle), axes[1])
    vertices = scene.pos[:, None] + point_radius(scene, keypoint)[:, None, None] * rim
    fan = np.array([[0, k, k + 1] for k in range(1, 7)])
    return _copies(o3d, vertices, fan, np.repeat(seen_colors(scene, keypoint, axes)[:, None], 8, axis=1))


def seen_colors(scene: Scene, keypoint: int | None, axes: Array) -> Array:
    """Color the points for a view that does not change: the farther away, the paler."""
    colors, depth = cloud_colors(scene, keypoint, _lamp(axes)), scene.pos @ axes[2]
    haze = 0.5 * (depth.max() - depth) / max(float(np.ptp(depth)), 1e-300)
    if keypoint is not None:
        haze = haze * (1 - map_shares(scene, keypoint))
    return np.asarray(colors + (0.93 - colors) * haze[:, None])


def _lamp(axes: Array) -> Array:
    """Return the direction that the light comes from: over the viewer's left shoulder."""
    lamp = axes[2] + 0.7 * axes[1] - 0.4 * axes[0]
    return np.asarray(lamp / np.linalg.norm(lamp))


def point_radius(scene: Scene, keypoint: int | None = None) -> Array:
    """Size each drawn point: smaller the more there are, so that a surface holds together and shows its marks."""
    radius = size_of(scene) * float(np.clip(0.011 * (2048 / len(scene.pos)) ** 0.5, 0.003, 0.02))
    # A map is often one or two points: they must be seen.
    share = np.zeros(len(scene.pos)) if keypoint is None else linear_shares(scene, keypoint) ** 0.5
    return np.asarray(radius * (1 + share))
