"""Skeleton Merger: keypoints of a category without labels."""

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pcsa._core.checks import check_count, check_positive
from pcsa._core.points import Points, cloud_max, full_precision
from pcsa.models.point_network import PointHead, resolve_clouds
from pcsa.sampling import soft_argmax
from pcsa.skeleton import num_segments

ReadOutFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From logits, positions and ``ptr`` to keypoints."""


class SkeletonMerger(PointHead):
    r"""Scores of every point for K keypoints, and the skeleton between them that should look like the cloud.

    `"Skeleton Merger: an Unsupervised Aligned Keypoint Detector" <https://arxiv.org/abs/2103.10814>`_. One segment
    joins every two keypoints; each has an activation, from the features of the whole cloud, and offsets, which all
    clouds share. Trained by :func:`pcsa.losses.composite_chamfer` on :func:`pcsa.skeleton.skeleton_points` of what
    is returned here.

    Args:
        backbone: Called as ``backbone(x, pos, batch)``, returns features ``[N, C]``. If its ``forward`` takes
            ``ptr`` it is called with ``ptr=`` instead of ``batch``, which costs no synchronization.
        num_keypoints: K, at least 2.
        in_channels: C; default ``backbone.out_channels``.
        hidden_channels: Width of the heads. Default C.
        competition: Whether to compare the keypoints at each point (a log-softmax over them) before a last linear
            layer, as the paper's code does.
        box_features: Whether to give the backbone, after ``x``, each point's place in the bounding box of its cloud
            (:func:`box_coordinates`): its ``in_channels`` are 3 more. Not part of the paper.
        anchors: ``[K, 3]``, where in the bounding box (-1 to 1 along each axis) each keypoint is expected: the
            logits begin as :math:`-\|c_i - a_k\|^2 / (2\,\mathrm{width}^2)`, c a point's place in the box, in
            place of nearly flat ones, whose expectations all lie in the middle of the cloud. Anchors are not trained
            and not part of the paper. Default: none.
        anchor_width: The width of the anchors, where the box is 2 wide.
        num_offsets: Rows R of the offsets.

    Returns (of ``forward``):
        - **logits** ``[N, K]``: what :func:`pcsa.sampling_argmax` and its kin take
        - **keypoints** ``[B, K, 3]`` or, by a read-out that samples, ``[B, K, S, 3]``, in the units of ``pos``
        - **activation** ``[B, P]``: the activation of each segment, from 0 to 1, in the order of
          :func:`pcsa.skeleton.segment_pairs`
        - **offsets** ``[P, R, 3]``: the offsets of the points along each segment, in the units of ``pos``
        - **features** ``[N, C]``: what the backbone returned, with ``with_features=True`` only

    Example:
        >>> from pcsa.models import PointNet2
        >>> merger = SkeletonMerger(PointNet2(), num_keypoints=5)
        >>> pos, batch = torch.rand(300, 3), torch.arange(2).repeat_interleave(150)
        >>> out = merger(None, pos, batch)
        >>> out["logits"].shape, out["keypoints"].shape, out["activation"].shape
        (torch.Size([300, 5]), torch.Size([2, 5, 3]), torch.Size([2, 10]))
    """

    anchors: Tensor | None

    def __init__(
        self,
        backbone: nn.Module,
        num_keypoints: int,
        *,
        in_channels: int | None = None,
        hidden_channels: int | None = None,
        competition: bool = False,
        box_features: bool = False,
        anchors: Float[Tensor, "K 3"] | None = None,
        anchor_width: float = 0.3,
        num_offsets: int = 200,
    ) -> None:
        super().__init__(backbone, num_keypoints, in_channels, hidden_channels, least_keypoints=2)
        check_count("num_offsets", num_offsets)
        check_positive("anchor_width", anchor_width)
        if anchors is not None and anchors.shape != (num_keypoints, 3):
            raise ValueError(f"`anchors` {list(anchors.shape)} must be [K, 3] = [{num_keypoints}, 3]")
        hidden, P = self.hidden_channels, num_segments(num_keypoints)
        self.compare = nn.Linear(num_keypoints, num_keypoints) if competition else None
        self.strength = nn.Sequential(
            nn.Linear(self.in_channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, P)
        )
        self.offsets = nn.Parameter(0.002 * torch.randn(P, num_offsets, 3))
        self.box_features, self.anchor_width = box_features, anchor_width
        self.register_buffer("anchors", None if anchors is None else anchors.detach().clone().float())

    def forward(
        self,
        x: Float[Tensor, "N C"] | None,
        pos: Float[Tensor, "N 3"],
        batch: Int[Tensor, " N"] | None = None,
        *,
        ptr: Int[Tensor, " B_plus_1"] | None = None,
        read_out: ReadOutFunction | None = None,
        with_features: bool = False,
        **options: object,
    ) -> dict[str, Tensor]:
        """See the class.

        ``read_out(logits, pos, ptr)`` gives the keypoints, by default the expectation (soft-argmax); ``options`` go
        to the backbone.
        """
        # Finding the number of clouds in `batch` waits for the device anyhow; `ptr` must cost nothing.
        batch, ptr, batch_size = resolve_clouds(pos, batch, ptr, check=batch is not None)
        box = None
        if self.box_features or self.anchors is not None:
            box = box_coordinates(pos, batch, batch_size)
        if self.box_features and box is not None:
            x = box if x is None else torch.cat([x, box.to(x.dtype)], 1)
        features = self.features(x, pos, batch, ptr, **options)
        logits = self.score(features)
        if self.compare is not None:
            logits = self.compare(F.log_softmax(logits, 1))
        if self.anchors is not None and box is not None:
            with full_precision(pos):
                away = (box.unsqueeze(1) - self.anchors).square().sum(2)
                logits = logits.float() - away / (2 * self.anchor_width**2)
        if read_out is None:
            keypoints = soft_argmax(logits, pos, ptr=ptr, validate=False)
        else:
            keypoints = read_out(logits, pos, ptr)
        whole = cloud_max(features, Points(logits, pos, None, batch, ptr, batch_size, None))
        activation = self.strength(whole).float().sigmoid()
        outputs = {
            "logits": logits,
            "keypoints": keypoints,
            "activation": activation,
            "offsets": cast(Tensor, self.offsets),
        }
        return {**outputs, "features": features} if with_features else outputs


def box_coordinates(pos: Tensor, batch: Tensor, batch_size: int) -> Tensor:
    """Return where each point is in the bounding box of its cloud, ``[N, 3]``.

    Places go from -1 to 1 along each axis, and are 0 where the box is flat. They carry no gradient.
    """
    pos = pos.detach()
    index = batch.unsqueeze(1).expand_as(pos)
    low, high = (
        pos.new_zeros(batch_size, pos.shape[1]).scatter_reduce(0, index, pos, kind, include_self=False)
        for kind in ("amin", "amax")
    )
    half = (high - low) / 2
    half = torch.where(half > 0, half, 1.0)
    return (pos - ((high + low) / 2).index_select(0, batch)) / half.index_select(0, batch)
