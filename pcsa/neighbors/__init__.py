"""Farthest points, nearest neighbors and interpolation for ragged batches of point clouds.

A batch is ``pos [N, D]`` with ``ptr [B + 1]``: cloud b is the rows ``ptr[b]`` to ``ptr[b + 1] - 1``. In its place
``batch [N]``, the cloud of each point, sorted, may be given by name; with neither there is one cloud. ``pos`` and
``query`` may be a PyTorch Geometric ``Data`` or ``Batch``, whose ``ptr``, or else ``batch``, is taken with its
positions.

The sizes of the clouds are needed on the host. Where ``pos`` is on a GPU, ``ptr`` may stay on the CPU: then nothing
here waits for the GPU when ``validate=False``. All searches run without gradient and in float32 or float64; distances
and weights are then computed anew from the points found, so they are differentiable with respect to the positions.

Backends (``backend=None`` chooses; every one gives the same answer wherever the definition is unique):

- ``"torch"``: any device, needs nothing else. Distances are computed in tiles, never as one N × M matrix.
- ``"triton"``: the default on CUDA where Triton imports, as it does with torch for Linux, on cards of compute
  capability 7.0 or newer. One launch for a batch of any clouds; ties go to the lowest row. Triton builds its launcher
  with a C compiler at the first use. Where it cannot, or a kernel cannot be compiled, a warning says so once and
  ``"torch"`` searches.
- ``"scipy"``: a k-d tree on the CPU; farthest points as ``"torch"``.
- ``"torch_cluster"``, ``"pyg_lib"``: compiled, where installed. On CUDA they take at most 100 neighbors.
"""

from pcsa.neighbors.backends.contract import Backend as Backend
from pcsa.neighbors.farthest import farthest_points as farthest_points
from pcsa.neighbors.graph import knn_graph as knn_graph
from pcsa.neighbors.interpolation import (
    interpolate as interpolate,
    interpolation_weights as interpolation_weights,
    weighted_gather as weighted_gather,
)
from pcsa.neighbors.nearest import Neighbors as Neighbors, ball_query as ball_query, knn as knn
