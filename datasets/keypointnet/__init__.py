"""KeypointNet: annotated 3-D keypoints on ShapeNet models, in its release layout."""

from pcsa.datasets.faults import Problem as Problem
from pcsa.datasets.keypointnet.categories import CLASS_IDS as CLASS_IDS
from pcsa.datasets.keypointnet.check import check_root as check_root
from pcsa.datasets.keypointnet.dataset import KeypointData as KeypointData, KeypointNet as KeypointNet
from pcsa.datasets.keypointnet.hub import download as download
from pcsa.datasets.keypointnet.several import KeypointCategories as KeypointCategories
from pcsa.datasets.keypointnet.symmetry import (
    Symmetry as Symmetry,
    rotated_labelings as rotated_labelings,
    rotation_groups as rotation_groups,
)
from pcsa.datasets.splits import SPLITS as SPLITS
