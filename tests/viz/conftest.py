import numpy as np
import pytest

from pcsa.viz import Scene


@pytest.fixture
def box():
    """The outline of a box with a keypoint at one upper and one lower corner, annotated a little to the side."""
    rng = np.random.default_rng(0)
    pos = rng.uniform(-0.5, 0.5, (1500, 3)) * [1.0, 0.8, 0.6]
    axis = rng.integers(0, 3, len(pos))
    pos[np.arange(len(pos)), axis] = np.sign(pos[np.arange(len(pos)), axis]) * np.array([0.5, 0.4, 0.3])[axis]
    keypoints = np.array([[0.5, 0.4, -0.3], [-0.5, -0.4, -0.3]])
    distance = np.linalg.norm(pos[:, None] - keypoints, axis=2)
    prob = np.exp(-((distance / 0.1) ** 2))
    return Scene(
        pos,
        title="a box",
        names=["upper", "lower"],
        ids=[0, 1],
        keypoints=keypoints,
        annotated=keypoints + np.array([0.0, 0.1, 0.0]),
        confidence=[0.9, 0.25],
        covariance=np.diag([0.01, 0.001, 0.001])[None].repeat(2, 0),
        samples=keypoints[:, None] + rng.normal(size=(2, 20, 3)) * 0.03,
        prob=prob / prob.sum(0),
        segments=[[0, 1]],
        activation=[0.8],
    )
