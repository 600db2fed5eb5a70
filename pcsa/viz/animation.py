"""Show how samples spread to their map's width as the temperature falls, and tighten as training sharpens the map."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcsa._core.writing import replacing
from pcsa.viz.html import save_html
from pcsa.viz.legend import beside
from pcsa.viz.png import MAX_POINTS, draw, entries, fit
from pcsa.viz.scene import Scene, keypoint_scene, thin

LAYERS = ("cloud", "samples", "annotated")
"""Layers that neither hide the samples nor are hidden by them."""


class Stage(NamedTuple):
    """Title of one picture, its scores [N, K], and the temperature of its samples."""

    title: str
    logits: Tensor
    temperature: float


def sampling_frames(
    pos: Tensor, stages: Iterable[Stage], *, num_samples: int = 60, seed: int = 0, **options: Any
) -> list[Scene]:
    """Make one scene for each stage, with samples of the same noise: only their temperature and the map change.

    Args:
        pos: Points [N, 3] of the cloud.
        stages: What changes.
        num_samples: Samples of every keypoint.
        seed: Seed of the noise.
        options: Options of :func:`pcsa.viz.keypoint_scene`: names, ids, annotated, visible, up, …
    """
    return [
        keypoint_scene(
            pos,
            stage.logits,
            title=stage.title,
            num_samples=num_samples,
            temperature=stage.temperature,
            generator=torch.Generator().manual_seed(seed),
            **options,
        )
        for stage in stages
    ]


def save_animation(
    path: Path | str,
    frames: Sequence[Scene],
    *,
    seconds: float = 0.2,
    size: tuple[int, int] = (640, 480),
    layers: Collection[str] = LAYERS,
    **options: Any,
) -> None:
    """Write scenes one after the other: a ``.gif`` that plays, or an ``.html`` with a slider.

    Args:
        path: The file to write; its folder is made if need be.
        frames: Scenes, at least one.
        seconds: Time that a GIF shows each scene; it shows the last for a second and a half.
        size: Width and height of the drawing in a GIF, in pixels.
        layers: What is drawn (in a page: at first).
        options: ``turn``, ``tilt``, ``keypoint`` and ``backend`` of :func:`pcsa.viz.render`, for a GIF.
    """
    path = Path(path)
    if not frames:
        raise ValueError("`frames` must hold at least one scene")
    if path.suffix == ".html":
        save_html(path, frames, title=frames[0].title, layers=layers)
        return
    if path.suffix != ".gif":
        raise ValueError(f"`path` (={path}) must end in .gif or .html")
    if not 0.02 <= seconds <= 60:
        raise ValueError(f"`seconds` (={seconds}) must be from 0.02 to 60")
    frames = [thin(frame, MAX_POINTS) for frame in frames]
    options = {"size": size, "layers": layers, **options}
    frame = fit(frames, **{name: options[name] for name in ("size", "layers", "turn", "tilt") if name in options})
    legend = entries(frames, layers, options.get("keypoint"))
    from PIL import Image, ImageOps

    drawn = [picture for _, picture in draw(frames, always=True, frame=frame, **options)]
    # Some have a note.
    height = max(picture.height for picture in drawn)
    pictures = [beside(ImageOps.expand(p, (0, 0, 0, height - p.height), "white"), legend) for p in drawn]

    # One table of colors for all, and no dithering: what does not move does not flicker, and the file stays small.
    # Pillow chooses almost white for the background, which must be white.
    table = pictures[-1].quantize(256)
    colors = np.array(table.getpalette()).reshape(-1, 3)
    table.putpalette(np.where((colors > 247).all(1, keepdims=True), 255, colors).ravel().tolist())
    played = [picture.quantize(palette=table, dither=Image.Dither.NONE) for picture in pictures]
    durations = [round(1000 * seconds)] * (len(played) - 1) + [1500]
    first, *rest = played
    with replacing(path) as temporary:
        first.save(temporary, save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)
