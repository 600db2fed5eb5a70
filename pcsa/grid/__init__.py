r"""Heatmaps: soft-argmax and sampling-argmax on grids of one, two or three axes, and the frames of their positions.

A grid is the point set of its cells' centers, and everything for point sets serves it: see :func:`pcsa.grid.cells` and
:func:`pcsa.grid.flatten`. Equation numbers are those of `"Localization with Sampling-Argmax"
<https://arxiv.org/abs/2110.08825>`_.

**Order of the axes.** Arrays are indexed ``[B, K, z, y, x]`` (volumes), ``[B, K, y, x]`` (images), ``[B, K, x]``;
``shape`` has the order of the array. Positions, and whatever has one entry per axis of a position (``spacing``), go the
other way: ``(x, y, z)``, ``(x, y)``, ``(x)``.

**Frames.** For cell i of an axis with n cells:

========================  =========================  ==============================================================
frame                     position of its center     what it is
========================  =========================  ==============================================================
``"index"``               i                          cell centers are integers, cells reach from i - 1/2 to i + 1/2
``"normalized"``          (2 i + 1) / n - 1          -1 and 1 are the outer *edges* of the outer cells, as in dsntnn
                                                     and ``grid_sample(align_corners=False)``
``"normalized_corners"``  2 i / (n - 1) - 1          -1 and 1 are the *centers* of the outer cells, as in kornia and
                                                     ``grid_sample(align_corners=True)``; needs n > 1
``"pixels"``              (i + 1/2) s - 1/2          pixels of the network's input, whose centers are integers;
                                                     ``spacing`` s is the stride, input pixels per cell
``"physical"``            i s                        millimeters, say, from the center of the first cell; ``spacing``
                                                     s is the distance of neighboring centers
``"released"``            i / n - 1/2                what the authors' code trains on
========================  =========================  ==============================================================

Two traps. *Half a cell:* ``index * stride`` is not the input pixel of a cell's center but, with stride 4, 1.5 pixels
short of it; likewise ``"released"`` is half a cell short of half of ``"normalized"``, which does no harm as long as
targets and predictions agree. *W or W - 1:* dividing by n is right for edges and dividing by n - 1 for centers. On 64
cells the two differ by 1/64 at the ends, half a cell, and not at all in the middle, so that a mean error hides it.
"""

from pcsa.grid.expectation import kernel_soft_argmax as kernel_soft_argmax, soft_argmax as soft_argmax
from pcsa.grid.frames import from_index as from_index, to_index as to_index
from pcsa.grid.localization import localize as localize
from pcsa.grid.maps import cells as cells, flatten as flatten
from pcsa.grid.modules import SamplingArgmax as SamplingArgmax, SoftArgmax as SoftArgmax
from pcsa.grid.samples import sampling_argmax as sampling_argmax
