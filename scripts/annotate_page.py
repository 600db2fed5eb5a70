"""The page of ``pcsa annotate``: it shows a session, and turns clicks and keys into what the session does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pcsa.datasets.labeling.session import Session
from pcsa.datasets.labeling.shape import shape_scene_fields
from pcsa.viz import Scene, keypoint_colors
from pcsa.viz.page import Page, Up, swatch, text

_BALL, _PROPOSED = 0.032, 0.022  # radii, in units of the scan's radius
_SHOWN = 5  # scans that cannot be read: the terminal lists them at the end
# Keys that choose a keypoint: 1 to 9 and 0, the same with Shift, the same with Alt.
_DIGITS = "1234567890"
_MODIFIERS = (None, "shift", "alt")


class LabelPage(Page):
    """A page on which a person labels scans."""

    def __init__(self, session: Session, *, host: str, port: int, up: Up) -> None:
        super().__init__("pcsa annotate", host=host, port=port, up=up)
        self.session = session
        self._colors = keypoint_colors(len(session.names))
        self._drawn, self._left_out, self._said = "", "", ""
        self._marks: dict[str, Any] = {}
        gui = self.server.gui
        self._task = gui.add_html("")
        self._list = gui.add_html("")
        act = self._act
        self._take = self.button("Take what is proposed  (Y)", act(session.take_all), color="teal")
        keypoint = {"Not there (X)": session.skip, "Clear (⌫)": session.clear, "Undo (U)": session.undo}
        self.buttons("Keypoint", {label: act(action) for label, action in keypoint.items()})
        leafing = {"Previous (P)": lambda: session.leaf(-1), "Next (N)": lambda: session.leaf(1)}
        self.buttons("Scan", {label: act(action) for label, action in leafing.items()})
        self._scans = gui.add_dropdown("Show", [""])
        self.on_value(self._scans, self._go)
        self._free = gui.add_checkbox("Place on faces", session.free, hint="Anywhere on the faces of the mesh")
        self.on_value(self._free, self._set_free)
        self.button("Next scan to label  (O)", act(session.leaf_to_open))
        self.button("Front view  (R)", self.front, color="gray")
        self.button("Finish", self.end, color="dark")
        self._notes = gui.add_html("")
        keys: dict[str, tuple[str, Callable[[], object]]] = {
            "X": ("The scan does not have this keypoint", session.skip),
            "Y": ("Take all that is proposed", session.take_all),
            "T": ("Take what is proposed for this keypoint", session.take),
            "U": ("Undo", session.undo),
            "backspace": ("Forget this keypoint", session.clear),
            "J": ("Next keypoint", lambda: session.step(1)),
            "K": ("Previous keypoint", lambda: session.step(-1)),
            "N": ("Next scan", lambda: session.leaf(1)),
            "P": ("Previous scan", lambda: session.leaf(-1)),
            "O": ("Next scan to label", session.leaf_to_open),
        }
        for key, (label, action) in keys.items():
            self.on_key(label, key, act(action))
        self.on_key("Undo the last change", "Z", act(session.undo), modifier="cmd/ctrl")
        self.on_key("Front view", "R", self.front)
        for k, name in enumerate(session.names[: len(_DIGITS) * len(_MODIFIERS)]):
            self.on_key(f"Place {name}", _DIGITS[k % 10], self._chooser(k), modifier=_MODIFIERS[k // 10])
        self.on_click(self._click)
        self.show()

    def run(self, idle: Callable[[], float] = lambda: 1.0, notice: Callable[[str], object] | None = None) -> None:
        """See :meth:`Page.run`; what goes wrong is shown on the page."""
        super().run(idle, notice or self._warn)

    def _act(self, action: Callable[[], object]) -> Callable[[], None]:
        def act() -> None:
            self._said = ""
            action()
            self.show()

        return act

    def _chooser(self, keypoint: int) -> Callable[[], None]:
        return self._act(lambda: self.session.choose(keypoint))

    def _click(self, origin: Any, direction: Any) -> None:
        self._said = "" if self.session.click(origin, direction, radius=self.radius) else "This click missed the scan."
        self.show()

    def _set_free(self, free: bool) -> None:
        self.session.free = free
        self.show()

    def _go(self, label: str) -> None:
        place = next((i for i, shown in enumerate(self._scans.options) if shown == label), None)
        if place is not None and place != self.session.place:
            self._act(lambda: self.session.go(self.session.scans[place]))()

    def _warn(self, message: str) -> None:
        self._said = message
        self.show()

    def show(self) -> None:
        """Draw what has changed."""
        session = self.session
        with self.server.atomic():
            if self._drawn != session.scan:
                self._draw_scan()
            self._draw_marks()
            self._task.content = self._task_html()
            self._list.content = self._list_html()
            self._notes.content = self._notes_html()
            self._take.visible = any(name not in session.labels for name in session.proposed)
            self._free.visible, self._free.value = len(session.shape.faces) > 0, session.free
            labels = [
                f"{i + 1}. {'✓ ' if session.book.is_done(scan) else '✗ ' if scan in session.failed else ''}{scan}"
                for i, scan in enumerate(session.scans)
            ]
            if list(self._scans.options) != labels:
                self._scans.options = labels
            self._scans.value = labels[session.place]

    def _draw_scan(self) -> None:
        shape, self._drawn = self.session.shape, self.session.scan
        self._left_out = self.draw(Scene(**shape_scene_fields(shape)), cloud=not len(shape.faces))

    def _draw_marks(self) -> None:
        """Draw a ball with its name for each keypoint that is placed or proposed."""
        session = self.session
        wanted: dict[str, tuple[int, Any, str, bool]] = {}
        for k, name in enumerate(session.names):
            if name in session.labels:
                at = session.labels[name]
                if at is not None:
                    wanted[f"/marks/{k}"] = (k, at, name, False)
            elif name in session.proposed and session.proposed[name].position is not None:
                wanted[f"/marks/{k}"] = (k, session.proposed[name].position, f"{name}?", True)
        for node in [node for node in self._marks if node not in wanted]:
            self.server.scene.remove_by_name(node)
            del self._marks[node]
        for node, (k, at, label, proposed) in wanted.items():
            mark = (*np.asarray(at, float).tolist(), label, k == session.active, session.scan)
            if self._marks.get(node) == mark:
                continue
            self._marks[node] = mark
            place = self.place(at)
            radius = (_PROPOSED if proposed else _BALL) * (1.35 if k == session.active else 1.0)
            self.server.scene.add_icosphere(
                node,
                radius,
                tuple(int(c * 255 + 0.5) for c in self._colors[k]),
                position=place,
                opacity=0.55 if proposed else None,
                cast_shadow=False,
                receive_shadow=False,
            )
            self.server.scene.add_label(
                f"{node}/name", label, position=(0.0, 0.0, 0.0), anchor="bottom-left", font_screen_scale=0.9
            )

    def _task_html(self) -> str:
        """Say what is to be done next."""
        session = self.session
        done = sum(1 for scan in session.scans if session.book.is_done(scan))
        rest = len(session.scans) - done - len([s for s in session.failed if s in session.scans])
        if not session.is_done:
            ask = f"Click: {swatch(self._colors[session.active])}<b>{text(session.name)}</b>"
        elif rest > 0:
            ask = "<b>All set.</b> O: the next scan to label"
        else:
            ask = "<b>All scans are labeled.</b> Press Finish."
        if session.is_done:
            hint = f"A click moves {text(session.name)}; J, K or a row below chooses another."
        elif session.name in session.proposed:
            hint = "T takes the proposed place, Y takes all of them; a click puts it elsewhere."
        else:
            hint = "Drag to turn, scroll to come closer. X: this scan does not have it."
        share = 100 * done / len(session.scans)
        lines = [
            f'<div style="font-size:1.15em">{ask}</div>',
            f'<div style="color:#667;font-size:.85em;min-height:2.5em">{hint}</div>',
            f'<div style="color:#c01">{text(self._said)}</div>' if self._said else "",
            '<div style="color:#a60">Not the scan that was labeled: look at every keypoint.</div>'
            * session.has_changed,
            f'<div style="font-size:.9em;margin-top:.4em"><b>{text(session.scan)}</b> · {session.place + 1} of '
            f"{len(session.scans)} · {done} labeled</div>",
            '<div style="height:.4em;background:#dde;border-radius:.2em"><div style="height:100%;border-radius:.2em;'
            f'background:#2a9d60;width:{share:.1f}%"></div></div>',
        ]
        return f'<div style="margin:.2em .9em .6em">{"".join(lines)}</div>'

    def _notes_html(self) -> str:
        """Say what is not shown: points that are left out, and scans that cannot be read."""
        notes = [f"{self._left_out}; a click counts on all of them"] if self._left_out else []
        notes += [f"{scan} is skipped: {reason}" for scan, reason in list(self.session.failed.items())[:_SHOWN]]
        if len(self.session.failed) > _SHOWN:
            notes.append(f"and {len(self.session.failed) - _SHOWN} more scans are")
        small = "margin:.2em .9em;color:#a60;font-size:.85em;overflow-wrap:anywhere"
        return "".join(f'<div style="{small}">{text(note)}</div>' for note in notes)

    def _list_html(self) -> str:
        """List the keypoints: what is known of each, and the key that chooses it."""
        session, rows = self.session, []
        for k, name in enumerate(session.names):
            proposal = session.proposed.get(name)
            if name in session.labels:
                state = "not there" if session.labels[name] is None else "✓"
            elif proposal is not None:
                sure = "" if proposal.confidence is None else f" {100 * proposal.confidence:.0f}%"
                state = f"{'not there?' if proposal.position is None else proposal.source}{sure}"
            else:
                state = ""
            ring = session.labels.get(name) is None
            active = k == session.active
            look = "background:#e3ebfb;font-weight:600;" if active else ""
            rows.append(
                f'<div class="pcsa-keypoint" data-name="{text(name)}" style="display:flex;padding:.12em .5em;'
                f'border-radius:.3em;cursor:pointer;{look}"{_press(k)}><span style="flex:1">'
                f'{swatch(self._colors[k], ring=ring)}{text(name)}</span><span style="color:#556;font-size:.85em">'
                f'{text(state)}</span><span style="color:#99a;font-size:.8em;width:2.6em;text-align:right">'
                f"{_key_name(k)}</span></div>"
            )
        return f'<div style="margin:0 .5em .5em;max-height:38vh;overflow-y:auto">{"".join(rows)}</div>'


def _key_name(keypoint: int) -> str:
    modifier = _MODIFIERS[keypoint // 10] if keypoint < len(_DIGITS) * len(_MODIFIERS) else ""
    if modifier == "":
        return ""
    return {None: "", "shift": "⇧", "alt": "Alt "}[modifier] + _DIGITS[keypoint % 10]


def _press(keypoint: int) -> str:
    """Have a row press the key of its keypoint: HTML of the page cannot reach the server in another way."""
    if keypoint >= len(_DIGITS) * len(_MODIFIERS):
        return ""
    digit, modifier = _DIGITS[keypoint % 10], _MODIFIERS[keypoint // 10]
    held = "" if modifier is None else f",{modifier}Key:true"
    event = f"new KeyboardEvent(&quot;keydown&quot;,{{key:&quot;{digit}&quot;,bubbles:true{held}}})"
    return f' onclick="document.body.dispatchEvent({event})"'
