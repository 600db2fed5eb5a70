"""Draw point clouds (:class:`Scene`) in windows, PNGs, pages and animations, and images (:class:`Overlay`) in PNGs.

Importing this needs torch and numpy; what uses Open3D, matplotlib, Pillow or plotly imports it
(``pip install 'pcsa[viz]'``).
"""

from pcsa.viz.animation import Stage as Stage, sampling_frames as sampling_frames, save_animation as save_animation
from pcsa.viz.colors import keypoint_colors as keypoint_colors
from pcsa.viz.html import save_html as save_html
from pcsa.viz.overlay import Overlay as Overlay, save_overlay as save_overlay, save_overlays as save_overlays
from pcsa.viz.png import (
    fit as fit,
    render as render,
    save_panels as save_panels,
    save_png as save_png,
    save_pngs as save_pngs,
)
from pcsa.viz.scene import (
    LAYERS as LAYERS,
    Scene as Scene,
    keypoint_scene as keypoint_scene,
)
from pcsa.viz.window import show as show
