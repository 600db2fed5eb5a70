"""Pictures: one description of what is drawn (:class:`Scene`), and windows, PNGs, pages and animations of it.

Of images, scans and volumes: :class:`Overlay`, and PNGs.

Importing this needs torch and numpy; Open3D, matplotlib, Pillow and plotly are imported by what uses them
(``pip install 'pcsa[viz]'``).
"""

from pcsa.viz.animation import Stage as Stage, sampling_frames as sampling_frames, save_animation as save_animation
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
    keypoint_colors as keypoint_colors,
    keypoint_scene as keypoint_scene,
)
from pcsa.viz.window import show as show
