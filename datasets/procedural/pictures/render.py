"""Bodies as pictures and as volumes: capsules and ellipsoids on a grid, without a drawing library.

Everything here is in units of cells, whose centers are integers: x, y and, positive away from the viewer, z.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pcsa.datasets.procedural.types import Array

Image = NDArray[np.float32]
Window = tuple[slice, ...]


class Canvas:
    """A picture in the making, with the depth of what is nearest at each pixel.

    Args:
        color: `[H, W, 3]`, 0 to 1; painted over in place.
        light: Direction towards the lamp.
        fade: How much darker a surface is per pixel of depth.
    """

    def __init__(self, color: Image, light: Array, fade: float = 0.0) -> None:
        self.color = color
        self.depth = np.full(color.shape[:2], np.inf, dtype=np.float32)
        self.light = light / np.linalg.norm(light)
        self.fade = fade

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where anything was painted."""
        return np.isfinite(self.depth)

    def capsule(self, start: Array, end: Array, radii: tuple[float, float], color: Array) -> None:
        """Paint a shaded capsule as seen from far away."""
        if end[2] < start[2]:
            # What points at the viewer shows its near end: the place along an axis seen end on is that of `start`.
            start, end, radii = end, start, radii[::-1]
        window = _window((start, end), max(radii) + 1, self.depth.shape)
        if window is None:
            return
        x, y = _grid(window)
        t, across, r = _nearest((x, y), start[:2], end[:2], radii)
        squared = across[0] ** 2 + across[1] ** 2
        alpha = np.clip(r - np.sqrt(squared) + 0.5, 0, 1)
        facing = np.sqrt(np.clip(1 - squared / r**2, 0, 1))
        z = start[2] + t * (end[2] - start[2]) - r * facing
        slope = (across[0] * self.light[0] + across[1] * self.light[1]) / r - facing * self.light[2]
        self._paint(window, alpha, z, slope, color)

    def ellipsoid(self, center: Array, frame: Array, radii: Array, paint: Callable[[Array], Array]) -> None:
        """Paint a shaded ellipsoid; `paint` gives colors `[..., 3]` for places in units of the radii, in its frame."""
        window = _window((center,), float(radii.max()) + 1, self.depth.shape)
        if window is None:
            return
        x, y = (axis - c for axis, c in zip(_grid(window), center, strict=False))
        # A ray meets the surface where q' q = 1, with q = inverse @ (x, y, z): a z^2 + 2 b z + c = 0.
        inverse = (frame / radii).T
        u = inverse[:, 0] * x[..., None] + inverse[:, 1] * y[..., None]
        w = inverse[:, 2]
        a = float(w @ w)
        b = u @ w
        c = (u**2).sum(-1) - 1
        inside = b**2 - a * c
        # On the silhouette `c - b^2 / a` is 0, and its gradient says how many pixels away that is.
        flat = u - (b / a)[..., None] * w
        gradient = 2 * np.sqrt(((flat @ inverse[:, :2]) ** 2).sum(-1)) + 1e-9
        alpha = np.clip(inside / a / gradient + 0.5, 0, 1)
        z = (-b - np.sqrt(np.maximum(inside, 0))) / a
        q = u + z[..., None] * w
        normal = q @ inverse
        normal /= np.sqrt((normal**2).sum(-1, keepdims=True)) + 1e-9
        self._paint(window, alpha, z + center[2], normal @ self.light, paint(q))

    def _paint(self, window: Window, alpha: Array, z: Array, slope: Array, color: Array) -> None:
        depth = self.depth[window]
        alpha = alpha * (z < depth)
        light = (0.62 + 0.42 * np.maximum(slope, 0)) * np.clip(1 - self.fade * z, 0.45, 1.6)
        under = self.color[window]
        under += (alpha[..., None] * (light[..., None] * color - under)).astype(np.float32)
        np.copyto(depth, z.astype(np.float32), where=alpha >= 0.5)


def background(rng: np.random.Generator, height: int, width: int, light: Array) -> Image:
    """Draw what is behind a figure: slow gradients, rectangles, and rods that are shaded as limbs are."""
    knots = 0.6 * rng.uniform(0.0, 1.0, (1, 6, 6)) + 0.4 * rng.uniform(0.0, 1.0, (3, 6, 6))
    smooth = _upsampling(height, 6) @ knots @ _upsampling(width, 6).T
    color = np.ascontiguousarray(smooth.transpose(1, 2, 0)).astype(np.float32)
    for _ in range(rng.integers(2, 8)):
        x, y = rng.uniform(-0.2, 1, 2) * (width, height)
        across, down = rng.uniform(0.05, 0.5, 2) * (width, height)
        part = color[max(0, int(y)) : max(0, int(y + down)), max(0, int(x)) : max(0, int(x + across))]
        part += rng.uniform(0.3, 1) * (rng.uniform(0, 1, 3).astype(np.float32) - part)
    canvas = Canvas(color, light)
    for _ in range(rng.integers(2, 8)):
        start = np.append(rng.uniform(0, 1, 2) * (width, height), 0.0)
        heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.06, 0.5) * height
        end = start + length * np.array([np.cos(heading), np.sin(heading), 0])
        radius = rng.uniform(0.5, 4)
        canvas.capsule(start, end, (radius, radius * rng.uniform(0.6, 1)), rng.uniform(0.05, 1, 3))
    return canvas.color


def add_capsule(volume: Image, start: Array, end: Array, radii: tuple[float, float], density: float) -> None:
    """Raise a volume `[D, H, W]` to a density inside of a capsule, with an edge of one voxel."""
    window = _window((start, end), max(radii) + 1, volume.shape)
    if window is not None:
        _, across, r = _nearest(_grid(window), start, end, radii)
        distance = np.sqrt(sum(a**2 for a in across))
        _raise(volume, window, r - distance, density)


def add_ellipsoid(volume: Image, center: Array, frame: Array, radii: Array, density: float) -> None:
    """Raise a volume `[D, H, W]` to a density inside of an ellipsoid, with an edge of about one voxel."""
    window = _window((center,), float(radii.max()) + 1, volume.shape)
    if window is not None:
        inverse = (frame / radii).T
        x, y, z = (axis - c for axis, c in zip(_grid(window), center, strict=True))
        q = x[..., None] * inverse[:, 0] + y[..., None] * inverse[:, 1] + z[..., None] * inverse[:, 2]
        squared = (q**2).sum(-1)
        gradient = np.sqrt(((q @ inverse) ** 2).sum(-1)) + 1e-9
        # Towards the center the gradient vanishes, and its quotient with it: far inside, all the same.
        depth = np.where(squared < 0.25, float(radii.min()), (1 - squared) / (2 * gradient))
        _raise(volume, window, depth, density)


def _raise(volume: Image, window: Window, depth: Array, density: float) -> None:
    part = volume[window]
    np.maximum(part, (density * np.clip(depth + 0.5, 0, 1)).astype(np.float32), out=part)


def _window(points: tuple[Array, ...], margin: float, shape: tuple[int, ...]) -> Window | None:
    """Find the part of an array around some points; None if they are all outside."""
    window = []
    for axis, n in enumerate(reversed(shape)):
        values = [float(p[axis]) for p in points]
        low, high = max(0, int(min(values) - margin)), min(n, int(max(values) + margin) + 2)
        if low >= high:
            return None
        window.append(slice(low, high))
    return tuple(reversed(window))


def _grid(window: Window) -> tuple[Array, ...]:
    """Return the coordinates of the cells of a window, x first, to broadcast."""
    n = len(window)
    axes = [np.arange(part.start, part.stop, dtype=np.float64) for part in window]
    return tuple(axes[n - 1 - k].reshape([-1 if d == n - 1 - k else 1 for d in range(n)]) for k in range(n))


def _nearest(
    grid: tuple[Array, ...], start: Array, end: Array, radii: tuple[float, float]
) -> tuple[Array, list[Array], Array]:
    """Find for every cell the place on a segment (0 to 1), the way there from the segment, and the radius there."""
    along = end - start
    away = [axis - s for axis, s in zip(grid, start, strict=True)]
    dot = sum((a * v for a, v in zip(away, along, strict=True)), np.zeros(()))
    t = np.clip(dot / (float(along @ along) + 1e-9), 0, 1)
    across = [a - t * v for a, v in zip(away, along, strict=True)]
    return t, across, np.asarray(radii[0] + t * (radii[1] - radii[0]))


def _upsampling(n: int, knots: int) -> Array:
    """Make the linear interpolation from knots to cells, as a matrix `[n, knots]`."""
    place = np.linspace(0, knots - 1, n)
    return np.clip(1 - np.abs(place[:, None] - np.arange(knots)), 0, 1)
