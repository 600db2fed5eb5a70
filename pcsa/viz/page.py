"""A page on which a browser shows shapes, served by viser: what labeling and looking over a network share."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import queue
import socket
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any, Self

import numpy as np

from pcsa._core.checks import check_one_of
from pcsa.viz.colors import Array
from pcsa.viz.origins import only_from_own_pages
from pcsa.viz.scene import Scene, Up as Up, cloud_colors, size_of, thin, view_axes
from pcsa.viz.upright import to_upright

MAX_POINTS = 100_000
"""Most points of one shape that are sent to a browser: each takes 15 bytes."""
MAX_FACES = 300_000
"""Most faces of one mesh that are sent to a browser; of larger ones the vertices are, as points."""
_FLAT = 20_000  # faces: a mesh of fewer shows its edges
_PORTS = 20
_DISTANCE = 3.4
_FIELD_OF_VIEW = 0.65


class Page:
    """A page at an address of this machine. What its buttons and keys do happens in :meth:`run`, one after the other.

    Several windows that open the page show the same. Other sites in the same browser are not answered, see
    :mod:`pcsa.viz.origins`.

    Args:
        title: Name of the page.
        host: Name or number of the network interface; by default only this machine sees the page.
        port: Port; the next free one where it is taken, any free one for 0.
        up: The axis that points up on the screen.

    Raises:
        ValueError: If viser is not installed, or the page cannot be served there.

    Example:
        >>> with Page("clouds", port=0) as page:  # doctest: +SKIP
        ...     page.draw(Scene(torch.rand(100, 3)))
        ...     page.run()
    """

    def __init__(self, title: str, *, host: str = "127.0.0.1", port: int = 8080, up: Up = "y") -> None:
        check_one_of("up", up, ("x", "y", "z"))
        viser = _load_viser()
        port = _free_port(host, port)
        # Every window that opens or closes the page would be told.
        logging.getLogger("websockets").setLevel(logging.WARNING)
        with _quiet(), only_from_own_pages(host):
            self.server = _server_class(viser)(host=host, port=port, label=title, verbose=False)
        self.host, self.up, self.ended = host, up, False
        self._actions: queue.Queue[Callable[[], object]] = queue.Queue()
        # What was drawn of the shape, and where it lies: a browser has single precision.
        self.middle, self.size, self.radius = np.zeros(3), 1.0, 0.0
        self.server.scene.set_up_direction(f"+{up}")
        self.server.gui.configure_theme(show_share_button=False, show_logo=False, control_width="medium")
        # Beside the shape, not over it.
        self.server.gui.main_panel.dock_right()
        camera = self.server.initial_camera
        camera.position, camera.look_at, camera.fov = front_of(up), np.zeros(3), _FIELD_OF_VIEW
        camera.up = np.eye(3)["xyz".index(up)]

    @property
    def url(self) -> str:
        """Address of the page."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server.get_port()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; the windows that show the page say so."""
        with _quiet():
            self.server.stop()

    def do(self, action: Callable[[], object]) -> None:
        """Have :meth:`run` do something; from any thread."""
        self._actions.put(action)

    def end(self) -> None:
        """Have :meth:`run` return."""
        self.ended = True

    def run(self, idle: Callable[[], float] = lambda: 1.0, notice: Callable[[str], object] = print) -> None:
        """Do what buttons, keys and clicks ask for, until :meth:`end` is called or the process is interrupted.

        Args:
            idle: Called where nothing is asked for; returns after how many seconds it is to be called next.
            notice: Gets the message of a ValueError or OSError that something ends with.
        """
        wait = 0.0
        while not self.ended:
            try:
                action = self._actions.get(timeout=wait)
            except queue.Empty:
                action = None
            try:
                if action is None:
                    wait = idle()
                else:
                    action()
            except (ValueError, OSError) as error:
                notice(str(error))

    def on_key(self, label: str, key: Any, action: Callable[[], object], *, modifier: Any = None) -> None:
        """Have a key do something; it is listed with its label by Ctrl-K."""
        command = self.server.gui.add_command(label, hotkey=key, modifier=modifier)
        command.on_trigger(self._called(action))

    def button(self, label: str, action: Callable[[], object], **options: Any) -> Any:
        """Add a button."""
        handle = self.server.gui.add_button(label, **options)
        handle.on_click(self._called(action))
        return handle

    def buttons(self, label: str, actions: Mapping[str, Callable[[], object]]) -> None:
        """Add some buttons side by side, behind a label."""
        handle = self.server.gui.add_button_group(label, list(actions))

        async def called(event: Any) -> None:
            self.do(actions[event.target.value])

        handle.on_click(called)

    def on_value(self, handle: Any, action: Callable[[Any], object]) -> None:
        """Have a person's change of an input do something with its new value; a program's change does nothing."""

        async def called(event: Any) -> None:
            if event.client_id is not None:
                value = event.target.value
                self.do(lambda: action(value))

        handle.on_update(called)

    def on_click(self, action: Callable[[Array, Array], object]) -> None:
        """Have a click into the scene do something with its ray: where the eye is, and where it looks."""

        async def called(event: Any) -> None:
            origin = np.array(event.ray_origin, np.float64) * self.size + self.middle
            direction = np.array(event.ray_direction, np.float64)
            self.do(lambda: action(origin, direction))

        self.server.scene.on_click()(called)

    def _called(self, action: Callable[[], object]) -> Callable[[Any], Any]:
        # In the server's own loop, so that what was asked for first is done first.
        async def called(_: Any) -> None:
            self.do(action)

        return called

    def front(self) -> None:
        """Turn the shape to its front in all windows."""
        for client in self.server.get_clients().values():
            with client.atomic():
                client.camera.position, client.camera.look_at = front_of(self.up), np.zeros(3)

    def place(self, x: Any) -> Array:
        """Return where positions [..., 3] of the shape are on the page."""
        return (np.asarray(x, np.float64) - self.middle) / self.size

    def draw(self, scene: Scene, *, mesh: bool = True, cloud: bool = True, keypoint: int | None = None) -> str:
        """Draw the shape of a scene, without marks; return what is left out, if anything is.

        Args:
            scene: The scene; vertices without faces are not drawn.
            mesh: Whether to draw its mesh, where it has one.
            cloud: Whether to draw its points.
            keypoint: Keypoint whose map colors the points.
        """
        said = ""
        self.middle, self.size = scene.pos.min(0) / 2 + scene.pos.max(0) / 2, size_of(scene)
        nodes = self.server.scene
        with self.server.atomic():
            nodes.remove_by_name("/cloud")
            nodes.remove_by_name("/mesh")
            many = mesh and scene.faces is not None and len(scene.faces) > MAX_FACES
            if many:
                said, cloud, mesh = f"a mesh of {len(scene.faces):,} faces is drawn as points", True, False
            if mesh and scene.faces is not None and len(scene.faces):
                self._draw_mesh(scene)
            if cloud:
                few = thin(scene, MAX_POINTS)
                said = "; ".join(filter(None, (said, few.note)))
                self.radius = self.size * float(np.clip(0.010 * (2048 / len(few.pos)) ** 0.5, 0.002, 0.02))
                nodes.add_point_cloud(
                    "/cloud",
                    self.place(few.pos).astype(np.float32),
                    (cloud_colors(few, keypoint, self._light()) * 255).astype(np.uint8),
                    point_size=2 * self.radius / self.size,
                    point_shape="circle",
                    precision="float32",
                    point_shading="flat",
                )
        return said

    def _draw_mesh(self, scene: Scene) -> None:
        vertices, faces = self.place(scene.vertices).astype(np.float32), scene.faces
        if scene.vertex_color is None:
            self.server.scene.add_mesh_simple(
                "/mesh",
                vertices,
                faces,
                color=(205, 208, 214),
                flat_shading=len(faces) <= _FLAT,
                side="double",
                cast_shadow=False,
                receive_shadow=False,
            )
            return
        import trimesh

        colors = (np.clip(scene.vertex_color, 0, 1) * 255).astype(np.uint8)
        made = trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)
        self.server.scene.add_mesh_trimesh("/mesh", made, cast_shadow=False, receive_shadow=False)

    def _light(self) -> Array:
        front = front_of(self.up)
        return front / np.linalg.norm(front) + np.eye(3)["xyz".index(self.up)]


def swatch(color: Array, *, ring: bool = False) -> str:
    """Return a dot in HTML, full or a ring, in a color from 0 to 1."""
    css = "#" + "".join(f"{int(c * 255 + 0.5):02x}" for c in color)
    fill = "transparent" if ring else css
    return (
        f'<span style="display:inline-block;width:.8em;height:.8em;border-radius:50%;background:{fill};'
        f'border:.18em solid {css};vertical-align:-.12em;margin-right:.45em"></span>'
    )


def text(value: object) -> str:
    """Return a text as HTML."""
    return escape(str(value))


def front_of(up: Up) -> Array:
    """Return where the eye is at first, in units of a shape's radius from its middle [3]."""
    return np.asarray(_DISTANCE * view_axes()[2] @ to_upright(up))


def _load_viser() -> Any:
    try:
        import viser
    except ImportError as error:
        raise ValueError(f"a page takes viser ({error}): pip install 'pcsa[viz]'") from None
    return viser


def _server_class(viser: Any) -> Any:
    class Server(viser.ViserServer):
        def request_share_url(self, verbose: bool = True) -> None:
            """Share nothing: whoever may see the page reaches this machine."""

    return Server


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The command says where the page is, in its own words.
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _free_port(host: str, port: int) -> int:
    """Return a port that can be had: this one, one of those that follow, or 0 for any.

    Raises:
        ValueError: If the host is not one of this machine's; viser would wait for it without end.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"`port` (={port}) must be from 0 to 65535")
    for wanted in (*range(port, min(port + _PORTS, 65536)), 0) if port else (0,):
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                host or None, wanted, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, proto) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            return wanted
        except socket.gaierror as error:
            raise ValueError(f"`host` (={host!r}) must be a name or number of this machine: {error.strerror}") from None
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ValueError(f"`host` (={host!r}) must be one of this machine: {error.strerror}") from None
    raise ValueError(f"`port` (={port}) must be one that this machine may serve")
