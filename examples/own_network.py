"""Sampling-argmax on your own PyTorch Geometric network, on clouds of different sizes.

Every cloud is a box of random proportions, sampled on its surface; the keypoints are its eight corners. Two layers of
message passing score every point, and the samples' error trains them.

    python examples/own_network.py
"""

import itertools

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import PointTransformerConv

import pcsa

CORNERS = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))


def box() -> Data:
    """Between 200 and 400 points on the surface of a box, and the box's corners."""
    half = 0.2 + 0.5 * torch.rand(3)
    pos = 2 * torch.rand(int(torch.randint(200, 401, ())), 3) - 1
    axis = torch.randint(3, (len(pos), 1))
    pos = pos.scatter(1, axis, pos.gather(1, axis).sign())  # onto one of the six faces
    return Data(pos=half * pos, keypoints=(half * CORNERS)[None])


class Network(nn.Module):
    """Scores of every point, from its position and from its neighbors'."""

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        self.lift = nn.Sequential(nn.Linear(3, 32), nn.ReLU())
        self.layers = nn.ModuleList(PointTransformerConv(32, 32) for _ in range(2))
        self.score = nn.Linear(32, num_keypoints)

    def forward(self, clouds: Batch) -> Tensor:
        edges = pcsa.neighbors.knn_graph(clouds, k=8)
        features = self.lift(clouds.pos)
        for layer in self.layers:
            features = features + layer(features, clouds.pos, edges).relu()
        logits: Tensor = self.score(features)
        return logits


def main() -> None:
    """Train for some steps; print the error on boxes that were not trained on."""
    torch.manual_seed(0)
    network = Network(num_keypoints=len(CORNERS))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    held_out = Batch.from_data_list([box() for _ in range(20)])

    @torch.no_grad()
    def held_out_error() -> float:
        found = pcsa.soft_argmax(network(held_out), held_out)
        return float((found - held_out.keypoints).norm(dim=-1).mean())

    before = held_out_error()
    schedule = pcsa.TemperatureSchedule("linear", start=1.0, end=0.3, num_steps=60)
    for step in range(60):
        batch = Batch.from_data_list([box() for _ in range(8)])
        samples = pcsa.sampling_argmax(
            network(batch),
            batch,
            pcsa.knn_bandwidth(batch),
            num_samples=10,
            temperature=schedule.value,
        )
        loss = pcsa.losses.sample_error(samples, batch.keypoints)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 15 == 14:
            print(f"step {step + 1:2}: expected error of the samples {loss.item():.3f}")
    print(f"mean error on held-out boxes: {before:.3f} before, {held_out_error():.3f} after")


if __name__ == "__main__":
    main()
