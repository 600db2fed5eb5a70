"""Pick points of a shape in an Open3D window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pcsa.viz.page import Up, front_of
from pcsa.viz.scene import Scene, cloud_colors, size_of
from pcsa.viz.window import new_window


def pick(
    scene: Scene,
    picked: Callable[[int], object],
    dropped: Callable[[int], object] = lambda row: None,
    *,
    title: str = "pcsa",
    up: Up = "y",
    size: tuple[int, int] = (1024, 768),
) -> None:
    """Show a shape in a window until it is closed (Q, Esc), and tell which of its points a person picks.

    Shift and a click pick a point; the mouse alone turns the shape.

    Args:
        scene: The shape: its mesh, where it has faces, whose vertices are picked; else its points.
        picked: Called with the row of a point in ``scene.vertices``, or in ``scene.pos``, as soon as it is picked.
        dropped: Called with the row of one that is picked no longer.
        title: Title of the window.
        up: The axis that points up.
        size: Width and height of the window, in pixels.

    Raises:
        ValueError: If there is no display, or Open3D or a library of it is missing.
    """
    instead = "without `window` a page in a browser takes none"
    o3d, window = new_window("VisualizerWithVertexSelection", title, size, instead)
    known: set[int] = set()

    def changed() -> None:
        # Open3D tells them in the order of their rows, whichever was picked last.
        now = {int(point.index) for point in window.get_picked_points()}
        fresh, gone = sorted(now - known), sorted(known - now)
        known.clear()
        known.update(now)
        for row in gone:
            dropped(row)
        for row in fresh:
            picked(row)

    try:
        window.register_selection_changed_callback(changed)
        window.add_geometry(_geometry(o3d, scene))
        camera, front = window.get_view_control(), front_of(up)
        camera.set_front(front / np.linalg.norm(front))
        camera.set_up(np.eye(3)["xyz".index(up)])
        window.run()
    finally:
        window.destroy_window()


def _geometry(o3d: Any, scene: Scene) -> Any:
    middle, size = scene.pos.min(0) / 2 + scene.pos.max(0) / 2, size_of(scene)
    vector = o3d.utility.Vector3dVector
    if scene.faces is None or not len(scene.faces):
        made = o3d.geometry.PointCloud(vector((scene.pos - middle) / size))
        made.colors = vector(cloud_colors(scene, None, np.array([0.3, 1.0, 0.6])).astype(np.float64))
        return made
    mesh = o3d.geometry.TriangleMesh(
        vector((scene.vertices - middle) / size), o3d.utility.Vector3iVector(scene.faces.astype(np.int32))
    )
    mesh.compute_vertex_normals()
    if scene.vertex_color is not None:
        mesh.vertex_colors = vector(scene.vertex_color.astype(np.float64))
    return mesh
