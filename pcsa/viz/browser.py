"""Show scenes on a page in a browser, over a network too: what :mod:`pcsa.viz.window` does where there is a display."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsa.viz.colors import Array, keypoint_colors
from pcsa.viz.page import Page, Up, swatch, text
from pcsa.viz.scene import LAYERS, Scene, balls, lines, mark_size, note_of, view_axes, within_reach

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

_NO_MAP = "none"


class ViewPage(Page):
    """A page on which scenes are leafed through: layers, probability maps, names, confidences and errors.

    Args:
        scenes: One, or several to leaf through; each is asked for when it is come to.
        layers: What is drawn at first.
        host: See :class:`Page`.
        port: See :class:`Page`.
        up: See :class:`Page`; default that of the first scene.

    Raises:
        ValueError: If there is no scene, viser is not installed, or the page cannot be served there.

    Example:
        >>> with ViewPage([scene, another]) as page:  # doctest: +SKIP
        ...     print(page.url)
        ...     page.run()
    """

    def __init__(
        self,
        scenes: Scene | SupportsLenAndGetItem[Scene],
        *,
        layers: Collection[str] = LAYERS,
        host: str = "127.0.0.1",
        port: int = 8080,
        up: Up | None = None,
    ) -> None:
        self.scenes: Any = [scenes] if isinstance(scenes, Scene) else scenes
        if not len(self.scenes):
            raise ValueError("`scenes` must hold at least one scene")
        first = self.scenes[0]
        super().__init__("pcsa view", host=host, port=port, up=up or first.up)
        self.shown, self.scene, self.keypoint, self.layers = 0, first, -1, set(layers)
        self._drawn: tuple[Any, ...] = ()
        gui = self.server.gui
        self._title = gui.add_html("")
        self.buttons("Shape", {"Previous (P)": partial(self.leaf, -1), "Next (N)": partial(self.leaf, 1)})
        self._map = gui.add_dropdown("Map of", [_NO_MAP])
        self.on_value(self._map, self._choose_map)
        self._boxes = {}
        with gui.add_folder("Layers"):
            for number, name in enumerate(LAYERS, 1):
                self._boxes[name] = gui.add_checkbox(f"{name} ({number})", name in self.layers)
                self.on_value(self._boxes[name], partial(self._set_layer, name))
                self.on_key(f"Switch {name}", str(number), partial(self._switch, name))
        self.button("Front view  (R)", self.front, color="gray")
        self.button("Finish", self.end, color="dark")
        self.on_key("Next shape", "N", partial(self.leaf, 1))
        self.on_key("Shape before", "P", partial(self.leaf, -1))
        self.on_key("Next probability map", "M", partial(self.turn_map, 1))
        self.on_key("Map before", "B", partial(self.turn_map, -1))
        self.on_key("No map", "0", partial(self._choose_map, _NO_MAP))
        self.on_key("Front view", "R", self.front)
        self.show()

    def leaf(self, by: int) -> None:
        """Show the next scene, or by -1 the one before."""
        place = (self.shown + by) % len(self.scenes)
        self.scene = self.scenes[place]
        self.shown = place
        if self.keypoint >= self._num_maps:
            self.keypoint = -1
        self.show()

    def turn_map(self, by: int) -> None:
        """Show the next probability map; -1 is the cloud without one, after the last."""
        self.keypoint = (self.keypoint + 1 + by) % (self._num_maps + 1) - 1
        self.show()

    @property
    def _num_maps(self) -> int:
        return 0 if self.scene.prob is None else int(self.scene.prob.shape[1])

    def _choose_map(self, name: str) -> None:
        options = [_NO_MAP, *self._map_names()]
        self.keypoint = options.index(name) - 1 if name in options else -1
        self.show()

    def _map_names(self) -> list[str]:
        return [f"{k + 1}. {name}" for k, name in enumerate(self.scene.names[: self._num_maps])]

    def _set_layer(self, name: str, on: bool) -> None:
        self.layers = self.layers | {name} if on else self.layers - {name}
        self.show()

    def _switch(self, name: str) -> None:
        self._set_layer(name, name not in self.layers)

    def show(self) -> None:
        """Draw what has changed."""
        scene, layers = self.scene, self.layers
        keypoint = self.keypoint if self.keypoint >= 0 else None
        with self.server.atomic():
            shape = (self.shown, self.keypoint, "mesh" in layers, "cloud" in layers)
            if shape != self._drawn:
                self._drawn = shape
                self._note = self.draw(scene, mesh="mesh" in layers, cloud="cloud" in layers, keypoint=keypoint)
            self._draw_marks(keypoint)
            options = [_NO_MAP, *self._map_names()]
            if list(self._map.options) != options:
                self._map.options = options
            self._map.value = options[self.keypoint + 1]
            for name, box in self._boxes.items():
                box.visible, box.value = name in scene.layers, name in layers
            self._title.content = self._html()

    def _draw_marks(self, keypoint: int | None) -> None:
        scene, nodes = self.scene, self.server.scene
        nodes.remove_by_name("/marks")
        nodes.add_frame("/marks", show_axes=False)
        made = balls(scene, self.layers, keypoint)
        self._spheres("/marks/balls", made.center, made.color, made.radius)
        if "annotated" in self.layers and "annotated" in scene.layers:
            # A ring that turns with the eye is a sphere of wires.
            k = np.flatnonzero(scene.annotations)
            k = k if keypoint is None else k[k == keypoint]
            radius = np.full(len(k), 0.047 * mark_size(scene))
            center = within_reach(scene, scene.annotated[k])
            self._spheres("/marks/annotated", center, keypoint_colors(scene.ids)[k], radius, wireframe=True)
        drawn = lines(scene, self.layers - {"annotated"}, keypoint, view_axes())
        for number, radius in enumerate(np.unique(drawn.radius)):
            some = drawn.radius == radius
            ends = np.stack([self.place(drawn.start[some]), self.place(drawn.end[some])], axis=1)
            colors = np.repeat(_bytes(drawn.color[some])[:, None], 2, axis=1)
            thick = 2 * float(radius) / self.size
            nodes.add_line_segments(f"/marks/lines-{number}", ends.astype(np.float32), colors, thickness=thick)

    def _spheres(self, node: str, center: Array, color: Array, radius: Array, *, wireframe: bool = False) -> None:
        import trimesh

        if not len(center):
            return
        sphere = trimesh.creation.icosphere(subdivisions=1 if wireframe or len(center) > 100 else 3)
        self.server.scene.add_batched_meshes_simple(
            node,
            sphere.vertices,
            sphere.faces,
            np.tile(np.array([1.0, 0, 0, 0]), (len(center), 1)),
            self.place(center),
            batched_scales=radius / self.size,
            batched_colors=_bytes(color),
            lod="off",
            wireframe=wireframe,
            cast_shadow=False,
            receive_shadow=False,
        )

    def _html(self) -> str:
        """Say what is shown: the title, the small print, and every keypoint with its confidence and error."""
        scene, error, rows = self.scene, self.scene.error, []
        for k, color in enumerate(keypoint_colors(scene.ids)):
            if not (scene.drawn[k] or scene.annotations[k]):
                continue
            said = []
            if scene.drawn[k] and scene.confidence is not None:
                said.append(f"{100 * scene.confidence[k]:.0f}%")
            if np.isfinite(error[k]):
                said.append(f"off by {error[k]:.3g}")
            rows.append(
                '<div style="display:flex;padding:.1em .5em"><span style="flex:1">'
                f"{swatch(color, ring=not scene.drawn[k])}{text(scene.names[k])}</span>"
                f'<span style="color:#556;font-size:.85em">{text(" · ".join(said))}</span></div>'
            )
        note = "; ".join(filter(None, dict.fromkeys((note_of(scene), self._note))))
        return (
            f'<div style="margin:.2em .9em"><b>{text(scene.title or "shape")}</b> · {self.shown + 1} of '
            f'{len(self.scenes)}</div><div style="margin:0 .9em;color:#a60;font-size:.85em">{text(note)}</div>'
            f'<div style="margin:.3em .5em;max-height:42vh;overflow-y:auto">{"".join(rows)}</div>'
        )


def _bytes(color: Array) -> Any:
    return (np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8)
