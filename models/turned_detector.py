"""A keypoint detector that does not mind how a cloud lies."""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pcsa._core.checks import check_count
from pcsa._core.principal import principal_frames
from pcsa.models.detector import KeypointDetector
from pcsa.models.point_network import resolve_clouds
from pcsa.models.pointnet2 import PointNet2, build_geometry

Rotation = Literal["none", "up", "any"]
"""How clouds may be turned: not at all, about the axis that points up, or in any way."""


class TurnedDetector(KeypointDetector):
    r"""A :class:`KeypointDetector` whose scores stay with the points when a cloud is turned.

    Of the cloud's frames, the rotations to its principal axes in every order and direction, the network takes the one
    in which it sees most keypoints, by the mean of its presence logits, and scores the points there. Scores belong to
    points, so they are invariant, and what is read from them in the cloud's own frame (expectations, samples,
    covariances) turns with the cloud. The candidates are those of `"Frame Averaging for Invariant and Equivariant
    Network Design" <https://arxiv.org/abs/2110.03336>`_; a choice among them takes the place of the mean, in which maps
    of shapes that look alike from two sides have a peak at either end.

    In training mode it is the detector itself, and sees the cloud as it is given. Hand it each cloud in one of its
    frames, as :func:`pcsa.datasets.turning.in_a_frame` draws it: either the one that is nearest to the way in which all
    training clouds stand, or another one, in which no keypoint is visible, so that presence learns to tell them apart.

    Clouds are turned about the origin: their place counts as before, so normalize them. No cloud is mirrored: left and
    right stay apart wherever the shape itself tells them apart. Of a shape that looks the same turned by half, either
    end may be taken for the other, all keypoints at once; no detector of turned clouds can know better. Where two
    variances of a cloud are nearly equal its axes are unstable: the scores are still invariant, but noise may turn the
    frames.

    Args:
        backbone: See :class:`KeypointDetector`.
        num_keypoints: K.
        up: The axis that points up, 0, 1 or 2, of clouds that turn about it alone (4 frames); None for any turn (24).
        **options: See :class:`KeypointDetector`.

    Example:
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
        how: Any = options
        best: dict[str, Tensor] = {}
        highest = pos.new_full((batch_size,), -torch.inf)
        for frame in frames.unbind(1):
            turned = (pos.unsqueeze(1) @ frame.index_select(0, batch)).squeeze(1)
            found = super().forward(x, turned, ptr=ptr, **how)
            score = found["presence"].mean(1).to(highest)
            better = score > highest
            highest = torch.where(better, score, highest)
            of_cloud, of_point = better.unsqueeze(1), better.index_select(0, batch).unsqueeze(1)
            for name, value in found.items():
                chosen = of_point if name == "logits" else of_cloud
                best[name] = torch.where(chosen, value, best[name]) if name in best else value
        return best
