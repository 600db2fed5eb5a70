"""A training of every task that takes seven steps on eight items, and what tells two of them apart."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from pcsa.datasets.procedural import generate
from pcsa.datasets.transforms import Augment
from pcsa.tasks import get_task
from pcsa.tasks.common.config import OptimizerConfig, TrainerConfig
from pcsa.tasks.common.maps import MapObjectiveConfig, map_optimizer
from pcsa.tasks.common.poses import PoseModelConfig
from pcsa.tasks.landmarks import LandmarkModelConfig, LandmarksConfig, LandmarksData
from pcsa.tasks.oct import OctConfig, OctData, SurfaceModelConfig
from pcsa.tasks.pose2d import Pose2dConfig, Pose2dData
from pcsa.tasks.pose3d import Pose3dConfig, Pose3dData
from pcsa.tasks.supervised import DetectorConfig, ObjectiveConfig, SupervisedConfig, SupervisedData
from pcsa.tasks.unsupervised import ReconstructionConfig, SkeletonConfig, UnsupervisedConfig, UnsupervisedData

TINY = {
    # Two steps an epoch: the training ends in the middle of the fourth.
    "optimizer": OptimizerConfig(steps=7, batch_size=4),
    "trainer": TrainerConfig(accelerator="cpu", progress=False, validate_every=1, save_seconds=0.0),
}
MAP = {
    **TINY,
    "objective": MapObjectiveConfig(num_samples=2),
    "optimizer": map_optimizer(steps=7, batch_size=4),
}
VOLUMES = Pose3dData(input_size=(16, 16, 16), num_items=8)
# The clouds of the first two have a root of their own.
CONFIGS = {
    "supervised": SupervisedConfig(
        data=SupervisedData(augment=Augment(scale=0.1, shift=0.1, jitter=0.01)),
        model=DetectorConfig(out_channels=16),
        objective=ObjectiveConfig(num_samples=2),
        **TINY,
    ),
    "unsupervised": UnsupervisedConfig(
        data=UnsupervisedData(augment=Augment(axis_scale=0.1, jitter=0.01)),
        model=SkeletonConfig(num_keypoints=4, out_channels=16, anchors="farthest"),
        objective=ReconstructionConfig(num_samples=2, num_loss_points=100, mirror_weight=0.1, separation_weight=0.1),
        **TINY,
    ),
    "pose2d": Pose2dConfig(data=Pose2dData(input_size=(32, 24), num_images=8), **MAP),
    "pose3d": Pose3dConfig(data=VOLUMES, **MAP),
    "pose3d-image": Pose3dConfig(data=Pose3dData(procedural="image", input_size=(16, 32, 24), num_items=8), **MAP),
    "pose3d-unet": Pose3dConfig(data=VOLUMES, model=PoseModelConfig(network="unet", channels=(4, 8)), **MAP),
    "oct": OctConfig(data=OctData(input_size=(64, 16), num_scans=8), model=SurfaceModelConfig(channels=(4, 8)), **MAP),
    "landmarks": LandmarksConfig(
        data=LandmarksData(input_size=(32, 32), num_images=8), model=LandmarkModelConfig(channels=(8, 8)), **MAP
    ),
}


@pytest.fixture(scope="session")
def clouds_root(tmp_path_factory):
    """Eight chairs to train on, two to validate on and two to test on."""
    return generate(tmp_path_factory.mktemp("chairs"), "chair", 12, num_points=256, split=(0.7, 0.15, 0.15))


@pytest.fixture(scope="session")
def tiny(clouds_root):
    """The configuration of a short training by the task's name, with the variant after a dash."""

    def get(name):
        config = CONFIGS[name]
        clouds = name in ("supervised", "unsupervised")
        return replace(config, data=replace(config.data, root=clouds_root)) if clouds else config

    return get


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """The task, configuration and checkpoint of that training, done once, when it is first asked for."""
    done = {}

    def get(name):
        if name not in done:
            task, config = get_task(name.split("-")[0]), replace(tiny(name), out=tmp_path_factory.mktemp(name))
            done[name] = task, config, task.train(config)
        return done[name]

    return get


@pytest.fixture(scope="session")
def weights():
    """The weights of a checkpoint."""
    return lambda path: torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="session")
def same():
    """Whether two checkpoints, or their weights, are equal to the last bit."""
    return lambda a, b: a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="session")
def train_quietly():
    """Train by the command, in processes of its own: one of them says so once, and none complains."""

    def run(flags):
        done = subprocess.run(
            [sys.executable, "-m", "pcsa.scripts.cli", "train", *flags.split()],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout.count("trained:") == 1

    return run
