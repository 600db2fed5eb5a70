"""A keypoint detector that does not mind how a cloud lies."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from pcsa._core.checks import check_count
from pcsa._core.points import Points
from pcsa._core.principal import principal_frames
from pcsa.models.detector import KeypointDetector
from pcsa.models.mean_outputs import mean_of_clouds
from pcsa.models.point_network import resolve_clouds
from pcsa.models.pointnet2 import PointNet2, build_geometry

Rotation = Literal["none", "up", "any"]
"""How clouds may be turned: not at all, about the axis that points up, or in any way."""


class TurnedDetector(KeypointDetector):
    r"""A :class:`KeypointDetector` whose scores stay with the points when a cloud is turned.

    Frame averaging: `"Frame Averaging for Invariant and Equivariant Network Design"
    <https://arxiv.org/abs/2110.03336>`_, Section 2 and Eq. 6, with the four rotations that principal axes leave. The
    network looks at the cloud in each of its frames; the maps of each keypoint, and the presence, are averaged as
    probabilities. Scores belong to points, so they are invariant, and what is read from them in the cloud's own frame
    (expectations, samples, covariances) turns with the cloud.

    In training mode it is the detector itself, and sees the cloud as it is given: hand it each cloud in *one* of its
    frames, another one each time, as :func:`pcsa.datasets.turning.in_a_frame` draws it. The mean over the frames is
    then over views that the network knows, at a quarter of the cost in training.

    Clouds are turned about the origin: their place counts as before, so normalize them. No map is mirrored: left and
    right stay apart wherever the shape itself tells them apart. A shape that looks the same turned by half has the
    same scores at both ends, and no detector of turned clouds can know better. Where two variances of a cloud are
    nearly equal its axes are unstable: the scores are still invariant, but noise may turn the frames.

    Args:
        backbone: See :class:`KeypointDetector`.
        num_keypoints: K.
        up: The axis that points up, 0, 1 or 2, of clouds that turn about it alone (two frames); None for any turn.
        **options: See :class:`KeypointDetector`.

    Example:
        >>> import torch
        >>> from pcsa.models import PointNet2
        >>> detector = TurnedDetector(PointNet2(norm="group"), num_keypoints=10).eval()
        >>> pos, ptr = torch.rand(300, 3), torch.tensor([0, 300])
        >>> quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> first, second = (detector(None, x, ptr=ptr)["logits"] for x in (pos, pos @ quarter))
        >>> torch.allclose(first, second, atol=1e-3)
        True
    """

    def __init__(
        self, backbone: nn.Module, num_keypoints: int, *, up: int | None = None, in_channels: int | None = None,
        hidden_channels: int | None = None, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(
            backbone, num_keypoints, in_channels=in_channels, hidden_channels=hidden_channels, dropout=dropout
        )
        if up is not None:
            check_count("up", up, least=0, most=2)
        self.up = up

    def forward(
        self,
        x: Float[Tensor, "N C"] | None,
        pos: Float[Tensor, "N D"],
        batch: Int[Tensor, " N"] | None = None,
        *,
        ptr: Int[Tensor, " B_plus_1"] | None = None,
        **options: object,
    ) -> dict[str, Tensor]:
        """See the class; ``x``, if any, must not depend on the frame."""
        if self.training:
            return super().forward(x, pos, batch, ptr=ptr, **options)
        batch, ptr, batch_size = resolve_clouds(pos, batch, ptr, check=batch is not None)
        frames = principal_frames(pos, batch, ptr, self.up)
        if options.get("geometry") is None and isinstance(self.backbone, PointNet2):
            # Distances are the same in all frames: one search.
            levels, local = self.backbone.levels, self.backbone.local_neighbors
            options["geometry"] = build_geometry(pos.detach(), ptr, levels, local)
        found = []
        for frame in frames.unbind(1):
            turned = (pos.unsqueeze(1) @ frame.index_select(0, batch)).squeeze(1)
            found.append(super().forward(x, turned, ptr=ptr, **options))
        return mean_of_clouds(found, lambda logits: Points(logits, pos, None, batch, ptr, batch_size, None))
