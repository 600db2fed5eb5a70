"""Sampling-argmax on heatmaps: a small CNN finds the centers of a disk and of a square in noisy images.

The map has a cell for every four pixels, and positions are trained in pixels of the image, between the cells.

    python examples/heatmap.py
"""

import torch
from torch import Tensor, nn

import pcsa

SIZE, STRIDE = 32, 4


def images(count: int) -> tuple[Tensor, Tensor]:
    """Noisy images [B, 1, y, x], and the centers [B, 2, 2] of the disk and of the square, x first."""
    centers = 6 + (SIZE - 13) * torch.rand(count, 2, 2)
    pixels = pcsa.grid.cells((SIZE, SIZE)).view(1, 1, SIZE, SIZE, 2)
    offset = pixels - centers.view(count, 2, 1, 1, 2)
    disk, square = offset[:, 0].norm(dim=-1) < 4, offset[:, 1].abs().amax(-1) < 4
    image = torch.where(disk, 1.0, 0.0) - torch.where(square, 1.0, 0.0) + 0.2 * torch.randn(count, SIZE, SIZE)
    return image[:, None], centers


def main() -> None:
    """Train for some steps; print the error in images that were not trained on."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, 2, 3, padding=1),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    test_image, test_centers = images(100)

    @torch.no_grad()
    def test_error() -> float:
        found = pcsa.grid.soft_argmax(network(test_image), frame="pixels", spacing=STRIDE)
        return float((found - test_centers).norm(dim=-1).mean())

    before = test_error()
    for step in range(120):
        image, centers = images(16)
        samples = pcsa.grid.sampling_argmax(
            network(image), "triangular", num_samples=10, frame="pixels", spacing=STRIDE
        )  # [B, K, S, 2]
        loss = pcsa.losses.sample_error(samples, centers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 30 == 29:
            print(f"step {step + 1:3}: expected error of the samples {loss.item():.2f} pixels")
    print(f"mean error in test images: {before:.2f} pixels before, {test_error():.2f} after; a cell is {STRIDE}")


if __name__ == "__main__":
    main()
