"""Networks of per-point features, the keypoint detectors on any of them, and networks of heatmaps."""

from pcsa.models.detector import KeypointDetector as KeypointDetector
from pcsa.models.landmark_net import LandmarkNet as LandmarkNet
from pcsa.models.pointnet2 import (
    MULTI_SCALE as MULTI_SCALE,
)
from pcsa.models.pointnet2 import (
    SINGLE_SCALE as SINGLE_SCALE,
)
from pcsa.models.pointnet2 import (
    Level as Level,
)
from pcsa.models.pointnet2 import (
    LevelGeometry as LevelGeometry,
)
from pcsa.models.pointnet2 import (
    PointNet2 as PointNet2,
)
from pcsa.models.pointnet2 import (
    build_geometry as build_geometry,
)
from pcsa.models.simple_pose import (
    SimplePose as SimplePose,
)
from pcsa.models.simple_pose import (
    load_imagenet_weights as load_imagenet_weights,
)
from pcsa.models.skeleton_merger import SkeletonMerger as SkeletonMerger
from pcsa.models.surface_unet import (
    SurfaceUNet as SurfaceUNet,
)
from pcsa.models.surface_unet import (
    order_surfaces as order_surfaces,
)
