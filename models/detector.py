"""A keypoint detector on any network of per-point features."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pcsa._core.points import Points, cloud_max, first_maximum
from pcsa.models.point_network import PointHead, resolve_clouds


class KeypointDetector(PointHead):
    """Scores of every point for K keypoints, and whether each keypoint is there at all.

    Args:
        backbone: Called as ``backbone(x, pos, batch)``, returns features ``[N, C]``. If its ``forward`` takes
            ``ptr`` it is called with ``ptr=`` instead of ``batch``, which costs no synchronization.
        num_keypoints: K, at least 1.
        in_channels: C; default ``backbone.out_channels``.
        hidden_channels: Width of the heads. Default C.
        dropout: Probability that the last layer of the scores does without a number while training. Its draw, as that
            of a backbone's ``drop_path``, is from torch's own generator.

    Returns (of ``forward``):
        - **logits** ``[N, K]``: what :func:`pcsa.sampling_argmax` and its kin take
        - **presence** ``[B, K]``: logit of the probability that the cloud has the keypoint, from the features
          of the whole cloud (their maximum) and those of the keypoint's most probable point; trained from
          ``visible`` by :func:`pcsa.losses.presence_loss`

    Example:
        >>> from pcsa.models import PointNet2
        >>> detector = KeypointDetector(PointNet2(), num_keypoints=10)
        >>> pos, batch = torch.rand(300, 3), torch.arange(2).repeat_interleave(150)
        >>> out = detector(None, pos, batch)
        >>> out["logits"].shape, out["presence"].shape
        (torch.Size([300, 10]), torch.Size([2, 10]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_keypoints: int,
        *,
        in_channels: int | None = None,
        hidden_channels: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(backbone, num_keypoints, in_channels, hidden_channels, dropout=dropout)
        channels, hidden = self.in_channels, self.hidden_channels
        self.presence_global = nn.Linear(channels, hidden)
        self.presence_local = nn.Linear(channels, hidden, bias=False)
        self.presence_weight = nn.Parameter(torch.randn(num_keypoints, hidden) / hidden**0.5)
        self.presence_bias = nn.Parameter(torch.zeros(num_keypoints))

    def forward(
        self,
        x: Float[Tensor, "N C"] | None,
        pos: Float[Tensor, "N D"],
        batch: Int[Tensor, " N"] | None = None,
        *,
        ptr: Int[Tensor, " B_plus_1"] | None = None,
        **options: object,
    ) -> dict[str, Tensor]:
        """See the class; ``options`` go to the backbone."""
        # Finding the number of clouds in `batch` waits for the device anyhow; `ptr` must cost nothing.
        batch, ptr, batch_size = resolve_clouds(pos, batch, ptr, check=batch is not None)
        features = self.features(x, pos, batch, ptr, **options)
        logits = self.score(features)
        points = Points(logits, pos, None, batch, ptr, batch_size, None)
        best = first_maximum(logits.detach(), points)
        whole = self.presence_global(cloud_max(features, points)).unsqueeze(1)
        hidden = torch.relu(whole + self.presence_local(features[best]))
        presence = (hidden * self.presence_weight).sum(-1) + self.presence_bias
        return {"logits": logits, "presence": presence}
