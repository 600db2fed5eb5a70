"""What the networks on points share: which point is whose, and heads on a network of per-point features."""

import inspect

from torch import Tensor, nn

from pcsa._core.checks import check_between, check_count, raise_first, reads_values
from pcsa._core.points import resolve_batch


def resolve_clouds(pos: Tensor, batch: Tensor | None, ptr: Tensor | None, check: bool) -> tuple[Tensor, Tensor, int]:
    """Return ``batch`` ``[N]``, ``ptr`` ``[B + 1]`` and B from whichever of the two was given.

    Args:
        pos: The points of all clouds.
        batch: The cloud of each point.
        ptr: Where each cloud begins.
        check: Whether to read the values of what was given, which waits for the device.

    """
    batch, ptr, batch_size, rules = resolve_batch(
        pos.shape[0], pos.device, batch=batch, ptr=ptr, batch_size=None, check=reads_values(check)
    )
    raise_first(rules)
    return batch, ptr, batch_size


class PointHead(nn.Module):
    """Scores of every point for K keypoints, on a network of per-point features.

    Args:
        backbone: Called as ``backbone(x, pos, batch)``, returns features ``[N, C]``. If its ``forward`` takes
            ``ptr`` it is called with ``ptr=`` instead of ``batch``, which costs no synchronization.
        num_keypoints: K.
        in_channels: C; default ``backbone.out_channels``.
        hidden_channels: Width of the head. Default C.
        dropout: Probability that the last layer does without a number of the head while training.
        least_keypoints: Least K.

    """

    def __init__(
        self,
        backbone: nn.Module,
        num_keypoints: int,
        in_channels: int | None,
        hidden_channels: int | None,
        *,
        dropout: float = 0.0,
        least_keypoints: int = 1,
    ) -> None:
        super().__init__()
        check_count("num_keypoints", num_keypoints, least_keypoints)
        check_between("dropout", dropout, 0, 1, "[)")
        channels = getattr(backbone, "out_channels", None) if in_channels is None else in_channels
        if not isinstance(channels, int):
            raise ValueError("`in_channels` must be given for a `backbone` without `out_channels`")
        self.backbone = backbone
        self.in_channels, self.num_keypoints = channels, num_keypoints
        self.hidden_channels = hidden_channels or channels
        self.takes_ptr = "ptr" in inspect.signature(backbone.forward).parameters
        self.score = nn.Sequential(
            nn.Linear(channels, self.hidden_channels), nn.ReLU(), nn.Linear(self.hidden_channels, num_keypoints)
        )
        if dropout:
            # Within the ReLU's place: weights keep their names.
            self.score[1] = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))

    def features(self, x: Tensor | None, pos: Tensor, batch: Tensor, ptr: Tensor, **options: object) -> Tensor:
        """Return the backbone's features ``[N, C]``; ``options`` go to the backbone."""
        if self.takes_ptr:
            features: Tensor = self.backbone(x, pos, ptr=ptr, **options)
        else:
            features = self.backbone(x, pos, batch, **options)
        expected = [pos.shape[0], self.in_channels]
        if list(features.shape) != expected:
            raise ValueError(f"`backbone` returned {list(features.shape)}, must be [N, C] = {expected}")
        return features
