from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import pcsa
from pcsa.models import KeypointDetector, Level, PointNet2, build_geometry
from pcsa.neighbors import knn_graph

LEVELS = (Level(16, (0.5,), (8,), ((32, 32),)), Level(4, (1.0,), (8,), ((32, 64),)))


def _clouds(sizes=(40, 17, 33), seed=0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(sum(sizes), 3, generator=generator) * 2 - 1, torch.tensor([0, *sizes]).cumsum(0)


def _batch(ptr: Tensor) -> Tensor:
    return torch.arange(len(ptr) - 1).repeat_interleave(ptr.diff())


def _detector(num_keypoints=5, **options) -> KeypointDetector:
    torch.manual_seed(0)
    return KeypointDetector(PointNet2(0, LEVELS, 32, norm="group"), num_keypoints, **options)


class PointMLP(nn.Module):
    """A user's network: called with ``batch``, knows nothing of ``ptr``."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())

    def forward(self, x, pos, batch):
        self.called_with = (x, pos, batch)
        return self.mlp(pos)


# --- the detector ----------------------------------------------------------------------------------------------


def test_shapes_and_operators():
    pos, ptr = _clouds()
    out = _detector()(None, pos, _batch(ptr))
    assert set(out) == {"logits", "presence"}
    assert out["logits"].shape == (90, 5)
    assert out["presence"].shape == (3, 5)
    samples = pcsa.sampling_argmax(out["logits"], pos, 0.01, _batch(ptr), num_samples=7)
    assert samples.shape == (3, 5, 7, 3)


def test_one_cloud_needs_no_batch():
    pos, ptr = _clouds((40,))
    detector = _detector().eval()
    alone = detector(None, pos)
    for other in (detector(None, pos, _batch(ptr)), detector(None, pos, ptr=ptr)):
        assert all(torch.equal(alone[name], other[name]) for name in alone)


def test_batch_is_each_cloud_alone():
    pos, ptr = _clouds((40, 1, 17))
    detector = _detector().eval()
    together = detector(None, pos, ptr=ptr)
    for b, (start, end) in enumerate(zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)):
        alone = detector(None, pos[start:end])
        torch.testing.assert_close(together["logits"][start:end], alone["logits"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together["presence"][b], alone["presence"][0], rtol=1e-4, atol=1e-5)


def test_presence_looks_at_the_cloud_and_at_the_best_point():
    # Features are the coordinates, so all can be written down: two clouds, one keypoint.
    class Coordinates(nn.Module):
        out_channels = 3

        def forward(self, x, pos, batch):
            return pos

    pos = torch.tensor([[1.0, 0.0, 2.0], [3.0, 1.0, 0.0], [0.0, 5.0, 0.0], [2.0, 0.0, 1.0], [0.0, 0.0, 7.0]])
    ptr = torch.tensor([0, 3, 5])
    pos.requires_grad_()
    detector = KeypointDetector(Coordinates(), 2)
    logits, presence = detector(None, pos, ptr=ptr).values()
    maxima = [pos[:3].amax(0), pos[3:].amax(0)]
    for b in range(2):
        for k in range(2):
            best = pos[ptr[b] : ptr[b + 1]][logits[ptr[b] : ptr[b + 1], k].argmax()]
            hidden = (detector.presence_global(maxima[b]) + detector.presence_local(best)).relu()
            expected = hidden @ detector.presence_weight[k] + detector.presence_bias[k]
            torch.testing.assert_close(presence[b, k], expected)
            gradient, wanted = (
                torch.autograd.grad(value, pos, retain_graph=True)[0] for value in (presence[b, k], expected)
            )
            torch.testing.assert_close(gradient, wanted)


def test_calls_a_users_network_as_x_pos_batch():
    pos, ptr = _clouds()
    x = torch.rand(90, 2)
    detector = KeypointDetector(PointMLP(), 3, in_channels=16)
    assert not detector.takes_ptr
    assert detector(x, pos, ptr=ptr)["presence"].shape == (3, 3)
    got_x, got_pos, got_batch = detector.backbone.called_with
    assert got_x is x
    assert got_pos is pos
    assert torch.equal(got_batch, _batch(ptr))
    detector(None, pos)
    assert torch.equal(detector.backbone.called_with[2], torch.zeros(90, dtype=torch.long))


def test_calls_pointnet2_with_ptr_and_options():
    pos, ptr = _clouds()
    detector = _detector().eval()
    assert detector.takes_ptr
    geometry = build_geometry(pos, ptr, LEVELS)
    with_geometry = detector(None, pos, ptr=ptr, geometry=geometry)
    assert torch.equal(with_geometry["logits"], detector(None, pos, ptr=ptr)["logits"])
    with pytest.raises(ValueError, match="`geometry` has 1 levels, must have 2"):
        detector(None, pos, ptr=ptr, geometry=geometry[:1])


def test_gradients_reach_the_backbone_from_both_outputs():
    pos, ptr = _clouds()
    x = torch.rand(90, 2, requires_grad=True)
    torch.manual_seed(0)
    detector = KeypointDetector(PointNet2(2, LEVELS, 32, norm="group"), 5)
    for name in ("logits", "presence"):
        detector.zero_grad()
        x.grad = None
        detector(x, pos, ptr=ptr)[name].square().sum().backward()
        for parameter in detector.backbone.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
        assert float(x.grad.abs().sum()) > 0
        assert (detector.score[2].weight.grad is None) == (name == "presence")


def test_width_of_the_head():
    assert _detector().score[0].out_features == 32  # backbone.out_channels
    assert _detector(hidden_channels=8).score[0].out_features == 8
    assert _detector(hidden_channels=8).presence_weight.shape == (5, 8)
    assert _detector(in_channels=32).score[0].in_features == 32


def test_state_dict_round_trip():
    pos, ptr = _clouds()
    detector = _detector().eval()
    torch.manual_seed(1)
    other = KeypointDetector(PointNet2(0, LEVELS, 32, norm="group"), 5).eval()
    expected = detector(None, pos, ptr=ptr)
    assert not torch.equal(other(None, pos, ptr=ptr)["logits"], expected["logits"])
    other.load_state_dict(detector.state_dict())
    for name, value in other(None, pos, ptr=ptr).items():
        assert torch.equal(value, expected[name])


def test_bf16_autocast():
    pos, ptr = _clouds((200, 50))
    detector = _detector().eval()
    expected = detector(None, pos, ptr=ptr)
    with torch.autocast("cpu", torch.bfloat16):
        out = detector(None, pos, ptr=ptr)
        where = pcsa.soft_argmax(out["logits"], pos, ptr=ptr)
    for name, value in out.items():
        assert value.isfinite().all()
        # bf16 keeps 8 binary digits: 0.4 % for each rounding, a few layers deep.
        assert (value.float() - expected[name]).norm() < 0.03 * expected[name].norm()
    pcsa.losses.position_error(where, torch.zeros_like(where)).backward()
    assert all(p.grad.isfinite().all() for p in detector.backbone.parameters())
    assert where.dtype == torch.float32
    torch.testing.assert_close(where, pcsa.soft_argmax(expected["logits"], pos, ptr=ptr), rtol=0, atol=0.01)


def test_compiles_in_one_piece():
    pos, ptr = _clouds((60, 40))
    geometry = build_geometry(pos, ptr, LEVELS)
    detector = _detector().eval()
    compiled = torch.compile(detector, backend="aot_eager", fullgraph=True)
    expected = detector(None, pos, ptr=ptr, geometry=geometry)
    for name, value in compiled(None, pos, ptr=ptr, geometry=geometry).items():
        torch.testing.assert_close(value, expected[name])


@torch.no_grad()
def test_compiles_in_one_piece_with_blocks():
    pos, ptr = _clouds((60, 40))
    geometry = build_geometry(pos, ptr, LEVELS, 4)
    torch.manual_seed(0)
    backbone = PointNet2(0, LEVELS, 32, local_blocks=1, local_neighbors=4, attention_blocks=1, drop_path=0.1)
    detector = KeypointDetector(backbone, 5, dropout=0.1).eval()
    compiled = torch.compile(detector, backend="aot_eager", fullgraph=True)
    expected = detector(None, pos, ptr=ptr, geometry=geometry)
    for name, value in compiled(None, pos, ptr=ptr, geometry=geometry).items():
        torch.testing.assert_close(value, expected[name])
    assert compiled.train()(None, pos, ptr=ptr, geometry=geometry)["logits"].isfinite().all()


@torch.no_grad()  # dynamo's own look at `.grad` across a break warns
@pytest.mark.slow
def test_compiles_around_the_searches():
    # Without geometry there is one break, at the searches, and new sizes of clouds are no new graphs of them.
    torch.manual_seed(0)
    detector = KeypointDetector(PointNet2(0, LEVELS[:1], 8, norm="none"), 2).eval()
    compiled = torch.compile(detector, backend="aot_eager", dynamic=True)
    for sizes in ((60, 40), (30, 20, 45)):
        pos, ptr = _clouds(sizes)
        expected = detector(None, pos, ptr=ptr)
        for name, value in compiled(None, pos, ptr=ptr).items():
            torch.testing.assert_close(value, expected[name])


def test_nan_features_are_left_for_the_operator_to_report():
    # An index out of range, on a GPU, would end the process before anyone says that a training diverged.
    class Diverged(nn.Module):
        out_channels = 4

        def forward(self, x, pos, batch):
            return pos.new_full((len(pos), 4), torch.nan)

    pos, ptr = _clouds()
    out = KeypointDetector(Diverged(), 2)(None, pos, ptr=ptr)
    assert out["presence"].isnan().all()
    with pytest.raises(ValueError, match="`logits` must be finite"):
        pcsa.soft_argmax(out["logits"], pos, ptr=ptr)


def test_errors():
    pos, ptr = _clouds()
    with pytest.raises(ValueError, match=r"`num_keypoints` \(=0\) must be at least 1"):
        _detector(0)
    with pytest.raises(ValueError, match="`in_channels` must be given for a `backbone` without `out_channels`"):
        KeypointDetector(PointMLP(), 3)
    for batch in (_batch(ptr).flip(0), torch.randint(0, 3, (90,), generator=torch.Generator().manual_seed(0))):
        with pytest.raises(ValueError, match="`batch` must"):
            _detector()(None, pos, batch)
    with pytest.raises(ValueError, match="empty cloud"):
        _detector()(None, pos, ptr=torch.tensor([0, 40, 40, 90]))
    with pytest.raises(ValueError, match=r"`backbone` returned \[90, 16\], must be \[N, C\] = \[90, 8\]"):
        KeypointDetector(PointMLP(), 3, in_channels=8)(None, pos)


# --- the operator on several networks --------------------------------------------------------------------------


class Toy(NamedTuple):
    """Four clouds with two keypoints: the tips of a spike along x and of one along y."""

    pos: Tensor
    ptr: Tensor
    target: Tensor


def _toy(seed=0) -> Toy:
    pos, ptr = _clouds((40, 48, 44, 52), seed)
    target = torch.empty(4, 2, 3)
    for b, cloud in enumerate(pos.tensor_split(ptr[1:-1])):
        for axis in range(2):
            # Sampling can settle for the runner-up where the two differ by little, so they differ by 0.3.
            tip = cloud[cloud[:, axis].argmax()]
            tip[axis] += 0.3
            target[b, axis] = tip
    return Toy(pos, ptr, target)


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    return _toy()


def _overfit(module: nn.Module, logits, pos: Tensor, target: Tensor, *, extra=lambda: 0.0, **clouds) -> None:
    """Train with samples, test with the expectation.

    At the start the maps are about flat: samples are near the middle of a cube of side 2, the tips 1.3 above
    it and more. Constant logits stay there. A one-hot map at the tip leaves the basis noise: the mean length
    of a normal vector in space, sqrt(8 / pi) 0.02 = 0.032.
    """
    steps = 100
    schedule = pcsa.TemperatureSchedule("exponential", start=2.0, end=0.5, num_steps=steps)
    read = pcsa.SamplingArgmax(num_samples=8, temperature=schedule)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    losses = []
    for _ in range(steps):
        loss = pcsa.losses.sample_error(read(logits(), pos, 0.02, **clouds), target)
        optimizer.zero_grad()
        (loss + extra()).backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    module.eval()
    read.eval()
    with torch.no_grad():
        error = (read(logits(), pos, 0.02, **clouds) - target).norm(dim=-1)
    assert losses[0] > 1
    assert sum(losses[-10:]) / 10 < 0.06
    assert error.max() < 0.02


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_overfit_pointnet2_with_presence(toy, norm):
    detector = KeypointDetector(PointNet2(0, LEVELS, 32, norm=norm), 2)
    geometry = build_geometry(toy.pos, toy.ptr, LEVELS)
    # The clouds differ in nothing that says so, but four can be learned by heart.
    visible = torch.tensor([[True, False], [True, True], [False, True], [False, False]])

    out = {}

    def logits():
        out.update(detector(None, toy.pos, ptr=toy.ptr, geometry=geometry))
        return out["logits"]

    def presence():
        return pcsa.losses.presence_loss(out["presence"], visible)

    _overfit(detector, logits, toy.pos, toy.target, ptr=toy.ptr, extra=presence)
    assert torch.equal(out["presence"] > 0, visible)


def test_overfit_edge_conv(toy):
    nn_pyg = pytest.importorskip("torch_geometric.nn")

    class Edges(nn.Module):
        """DGCNN: the second graph is of the features."""

        out_channels = 32

        def __init__(self) -> None:
            super().__init__()
            self.first = nn_pyg.EdgeConv(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32)), aggr="max")
            self.second = nn_pyg.EdgeConv(nn.Sequential(nn.Linear(64, 32), nn.ReLU()), aggr="max")

        def forward(self, x, pos, *, ptr):
            h = self.first(pos, knn_graph(pos, ptr, 8)).relu()
            return self.second(h, knn_graph(h, ptr, 8))

    detector = KeypointDetector(Edges(), 2)
    _overfit(detector, lambda: detector(None, toy.pos, ptr=toy.ptr)["logits"], toy.pos, toy.target, ptr=toy.ptr)


def test_overfit_point_transformer(toy):
    nn_pyg = pytest.importorskip("torch_geometric.nn")

    class Transformer(nn.Module):
        out_channels = 32

        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(3, 32)
            self.layers = nn.ModuleList(nn_pyg.PointTransformerConv(32, 32) for _ in range(2))

        def forward(self, x, pos, *, ptr):
            edges = knn_graph(pos, ptr, 8)
            h = self.lift(pos).relu()
            for layer in self.layers:
                h = h + layer(h, pos, edges).relu()
            return h

    detector = KeypointDetector(Transformer(), 2)
    _overfit(detector, lambda: detector(None, toy.pos, ptr=toy.ptr)["logits"], toy.pos, toy.target, ptr=toy.ptr)


def test_overfit_dense_network(toy):
    """A plain torch network on ``[B, N, 3]``, padded clouds and no detector at all."""
    clouds = toy.pos.tensor_split(toy.ptr[1:-1])
    dense = nn.utils.rnn.pad_sequence(clouds, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(c), dtype=torch.bool) for c in clouds], batch_first=True)
    points = nn.Sequential(nn.Linear(3, 64), nn.ReLU())
    scores = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2))

    def logits():
        h = points(dense)
        whole = h.masked_fill(~mask[..., None], -torch.inf).amax(1, keepdim=True)
        return scores(torch.cat([h, whole.expand_as(h)], 2))

    _overfit(nn.ModuleList([points, scores]), logits, dense, toy.target, mask=mask)
