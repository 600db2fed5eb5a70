"""Networks of per-point features, the keypoint detectors on any of them, and networks of heatmaps."""

from pcsa.models.detector import KeypointDetector as KeypointDetector
from pcsa.models.landmark_net import LandmarkNet as LandmarkNet
from pcsa.models.latent_attention import LatentAttention as LatentAttention
from pcsa.models.layers import DropPath as DropPath
from pcsa.models.local_block import LocalBlock as LocalBlock
from pcsa.models.pointnet2 import (
    MULTI_SCALE as MULTI_SCALE,
    SINGLE_SCALE as SINGLE_SCALE,
    Level as Level,
    LevelGeometry as LevelGeometry,
    PointNet2 as PointNet2,
    build_geometry as build_geometry,
)
from pcsa.models.simple_pose import SimplePose as SimplePose, load_imagenet_weights as load_imagenet_weights
from pcsa.models.skeleton_merger import SkeletonMerger as SkeletonMerger
from pcsa.models.surface_unet import SurfaceUNet as SurfaceUNet, order_surfaces as order_surfaces
from pcsa.models.turned_detector import TurnedDetector as TurnedDetector
