"""What the networks on points share: which point is whose, and heads on a network of per-point features."""

from torch import Tensor, nn

from pcsa._core.checks import check_between, check_count, raise_first, reads_values
from pcsa._core.points import resolve_batch
from pcsa.models.backbone import accepts, backbone_channels, check_features


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
        backbone: Called as ``backbone(x, pos, batch)``, returns features ``[N, C]``; see :mod:`pcsa.models.backbone`.
        num_keypoints: K.
        in_channels: C; default ``backbone.out_channels``, or ``num_features``.
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
        channels = backbone_channels(backbone, in_channels)
        self.backbone = backbone
        self.in_channels, self.num_keypoints = channels, num_keypoints
        self.hidden_channels = hidden_channels or channels
        self.takes_ptr, self.takes_geometry = accepts(backbone, "ptr"), accepts(backbone, "geometry")
        self.score = nn.Sequential(
            nn.Linear(channels, self.hidden_channels), nn.ReLU(), nn.Linear(self.hidden_channels, num_keypoints)
        )
        if dropout:
            # Within the ReLU's place: weights keep their names.
            self.score[1] = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))

    def features(self, x: Tensor | None, pos: Tensor, batch: Tensor, ptr: Tensor, **options: object) -> Tensor:
        """Return the backbone's features ``[N, C]``; ``options`` go to the backbone.

        A ``geometry`` of None goes to none: it says that there is nothing to save a search with.
        """
        if options.get("geometry", ...) is None:
            del options["geometry"]
        if self.takes_ptr:
            features: Tensor = self.backbone(x, pos, ptr=ptr, **options)
        else:
            features = self.backbone(x, pos, batch, **options)
        check_features(features, pos.shape[0], self.in_channels)
        return features
