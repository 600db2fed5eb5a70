"""Show scenes in an Open3D window."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsa.viz import gl
from pcsa.viz.colors import Array, MapScale
from pcsa.viz.scene import LAYERS, Scene, cloud_colors, note_of, size_of, thin, view_axes
from pcsa.viz.upright import upright

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

_log = logging.getLogger(__name__)

MAX_POINTS = 200_000
"""Most points drawn of one shape: more turn too slowly without a graphics card."""

_RIGHT, _LEFT = 262, 263  # GLFW's numbers
_KEYS = """\
keys:  N, →  next shape        P, ←  previous shape     R  front view
       M     next probability map      B  map before    0  no map     L  log scale
       S     screenshot        H     these keys         Q, Esc  close"""


def show(
    scenes: Scene | SupportsLenAndGetItem[Scene],
    *,
    layers: Collection[str] = LAYERS,
    size: tuple[int, int] = (1024, 768),
    folder: Path | str = ".",
) -> None:
    """Show scenes in a window until it is closed; what the keys do is logged.

    Should the display be lost while the window is open, X11's library ends the process with status 1.

    Args:
        scenes: One, or several to leaf through; each is asked for when it is come to.
        layers: What is drawn at first; the keys 1 to 8 switch each of :data:`pcsa.viz.LAYERS`.
        size: Width and height of the window, in pixels.
        folder: Where screenshots go, as ``pcsa-1.png``, ``pcsa-2.png``, …

    Raises:
        ValueError: If there is no scene, no display, or Open3D or a library of it is missing.
    """
    if isinstance(scenes, Scene):
        scenes = [scenes]
    if not len(scenes):
        raise ValueError("`scenes` must hold at least one scene")
    o3d, window = new_window("VisualizerWithKeyCallback", "pcsa", size, "save_png and save_html take none")
    try:
        _Browser(o3d, window, scenes, layers, Path(folder)).run()
    finally:
        window.destroy_window()


def new_window(kind: str, title: str, size: tuple[int, int], instead: str) -> tuple[Any, Any]:
    """Open a window that is seen; return Open3D and the window, of this kind of its visualizers.

    Raises:
        ValueError: If there is no display, when ``instead`` is said, or Open3D or a library of it is missing.
    """
    missing = missing_display()
    if missing:
        # Open3D would draw into memory, and wait forever for somebody to close the window.
        raise ValueError(f"a window takes a display: {missing}; {instead}")
    try:
        o3d = gl.load_open3d()
    except ImportError as error:
        raise ValueError(f"a window cannot be had: {error}") from None
    window = getattr(o3d.visualization, kind)()
    if not gl.open_window(window, title, size, visible=True):
        raise ValueError(f"a window cannot be opened on this display: it takes {gl.NEEDS}")
    return o3d, window


def missing_display() -> str:
    """Say why no window can be seen; empty if one can. Asks the display, as its variable may name one that is gone."""
    if not sys.platform.startswith("linux"):
        return ""
    reasons = []
    for variable, library, connect, close in (
        ("WAYLAND_DISPLAY", "libwayland-client.so.0", "wl_display_connect", "wl_display_disconnect"),
        ("DISPLAY", "libX11.so.6", "XOpenDisplay", "XCloseDisplay"),
    ):
        name = os.environ.get(variable)
        if not name:
            reasons.append(f"{variable} is not set")
            continue
        try:
            client = ctypes.CDLL(library)
        except OSError:
            reasons.append(f"{library} is missing")
            continue
        function = getattr(client, connect)
        function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        display = function(None)
        if display:
            getattr(client, close)(ctypes.c_void_p(display))
            return ""
        reasons.append(f"{variable} (={name}) does not answer")
    return ", ".join(reasons)


class _Browser:
    """The state that the keys change: the shape, the map and the layers."""

    def __init__(self, o3d: Any, window: Any, scenes: SupportsLenAndGetItem[Scene], layers: Any, folder: Path) -> None:
        self.o3d, self.window, self.scenes, self.folder = o3d, window, scenes, folder
        self.place, self.keypoint, self.layers = 0, -1, set(layers)
        self.map_scale: MapScale = "linear"
        self.scene = self._opened()
        self.axes = view_axes()
        actions: dict[str | int, Callable[[], object]] = {
            **dict.fromkeys(("N", _RIGHT), lambda: self._leaf(1)),
            **dict.fromkeys(("P", _LEFT), lambda: self._leaf(-1)),
            **{str(n): partial(self._switch, name) for n, name in enumerate(LAYERS, 1)},
            "M": lambda: self._map(1),
            "B": lambda: self._map(-1),
            "0": lambda: self._map(None),
            "L": self._scale,
            "R": self._front,
            "S": self._screenshot,
            "H": self._help,
        }
        for key, action in actions.items():
            window.register_key_callback(key if isinstance(key, int) else ord(key), lambda _, do=action: bool(do()))

    def run(self) -> None:
        self._help()
        self._draw(front=True)
        self._say()
        while self.window.poll_events():
            axes = self._camera_axes()
            # Rings and shadows turn with the viewer.
            if axes[2] @ self.axes[2] < 0.97:
                self._draw()
            time.sleep(0.01)

    def _camera_axes(self) -> Array:
        extrinsic = self.window.get_view_control().convert_to_pinhole_camera_parameters().extrinsic
        # There, y points down and z away from the viewer.
        return np.asarray(extrinsic)[:3, :3] * np.array([[1.0], [-1.0], [-1.0]])

    def _draw(self, front: bool = False) -> None:
        scene = self.scene
        keypoint = self.keypoint if self.keypoint >= 0 else None
        self.axes = view_axes() if front else self._camera_axes()
        made = gl.marks(self.o3d, scene, self.layers, keypoint, self.axes)
        made += gl.shape_mesh(self.o3d, scene, self.layers, self.axes)
        if "cloud" in self.layers:
            cloud = self.o3d.geometry.PointCloud(self.o3d.utility.Vector3dVector(scene.pos))
            up = np.array([0.3, 1.0, 0.6])
            cloud.colors = self.o3d.utility.Vector3dVector(cloud_colors(scene, keypoint, up).astype(np.float64))
            made.append(cloud)
        self.window.clear_geometries()
        middle = (scene.pos.min(0) + scene.pos.max(0)) / 2
        # An invisible box of always the same size: the view stays when something is switched off or is far out.
        corners = self.o3d.geometry.PointCloud(self.o3d.utility.Vector3dVector(np.array([[-1.0] * 3, [1.0] * 3])))
        corners.paint_uniform_color(np.ones(3))
        self.window.add_geometry(corners, reset_bounding_box=front)
        for geometry in made:
            # Far from the origin, the window's single precision would not do.
            geometry.translate(-middle).scale(1 / size_of(scene), np.zeros(3))
            self.window.add_geometry(geometry, reset_bounding_box=False)
        if front:
            self._front()

    def _say(self) -> None:
        scene = self.scene
        shown = f", probability of {scene.names[self.keypoint]}" if self.keypoint >= 0 else ""
        _log.info("%d / %d: %s%s %s", self.place + 1, len(self.scenes), scene.title, shown, note_of(scene))

    def _front(self) -> None:
        camera, axes = self.window.get_view_control(), view_axes()
        camera.set_front(axes[2])
        camera.set_up(axes[1])
        camera.set_lookat(np.zeros(3))
        camera.change_field_of_view(step=(30.0 - camera.get_field_of_view()) / 5)
        camera.set_zoom(0.52)
        self.window.update_renderer()

    def _leaf(self, by: int) -> None:
        self.place = (self.place + by) % len(self.scenes)
        self.scene = self._opened()
        if self.keypoint >= self._num_maps():
            self.keypoint = -1
        self._draw()
        self._say()

    def _num_maps(self) -> int:
        prob = self.scene.prob
        return 0 if prob is None else prob.shape[1]

    def _map(self, by: int | None) -> None:
        # -1 is the cloud without a map: the one after the last.
        self.keypoint = -1 if by is None else (self.keypoint + 1 + by) % (self._num_maps() + 1) - 1
        self._draw()
        self._say()

    def _scale(self) -> None:
        self.map_scale = "log" if self.map_scale == "linear" else "linear"
        self.scene = replace(self.scene, map_scale=self.map_scale)
        self._draw()

    def _opened(self) -> Scene:
        return replace(thin(upright(self.scenes[self.place]), MAX_POINTS), map_scale=self.map_scale)

    def _switch(self, name: str) -> None:
        self.layers ^= {name}
        self._draw()

    def _screenshot(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        taken = {path.name for path in self.folder.glob("pcsa-*.png")}
        path = self.folder / next(f"pcsa-{n}.png" for n in range(1, len(taken) + 2) if f"pcsa-{n}.png" not in taken)
        self.window.capture_screen_image(str(path), do_render=True)
        _log.info("written: %s", path)

    def _help(self) -> None:
        switches = "  ".join(f"{n} {name}" for n, name in enumerate(LAYERS, 1))
        _log.info("%s\n       %s", _KEYS, switches)
