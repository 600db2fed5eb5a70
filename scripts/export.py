"""``pcsa export``: a network with its read-out as a file that runs elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from pcsa._core.checks import check_positive
from pcsa.localization import ReadOut
from pcsa.tasks.common.exporting import export
from pcsa.tasks.common.run_programs import Geometry, program_of
from pcsa.tasks.common.sources import open_source
from pcsa.tasks.common.task import Checkpoint


@dataclass(frozen=True)
class ExportConfig:
    """Write a network with its read-out as one graph, and check it against the library before it is left.

    A cloud goes in as it is, and its keypoints come out in its units: normalization is a part of the graph.
    """

    checkpoint: Checkpoint
    out: Path
    """File to write: .onnx, for ONNX Runtime and all that reads ONNX, or .pt2, for torch.export.load."""
    geometry: Geometry = "inside"
    """Of clouds: the graph searches neighbors by itself, in one cloud of any size, with memory that grows with the
    square of its points (inside); or it takes several clouds of any sizes with what pcsa.exported searches in them
    (input)."""
    read_out: ReadOut = "expectation"
    """Way to read a keypoint from its map, see pcsa.localize."""
    radius: float | None = None
    """Radius of the ball that a keypoint is read by, in units of the clouds or in pixels of the input; the confidence
    is the probability within it."""
    size: tuple[int, ...] | None = None
    """Of images, volumes and scans: size of the input; default that of the training."""
    trust_backbone: bool = False
    """Import the module outside of pcsa that the checkpoint names as its network, and run it: it may do anything."""

    def __post_init__(self) -> None:
        if self.radius is not None:
            check_positive("radius", self.radius)


def main(argv: list[str]) -> int:
    """Parse options, export, and say how far off the file is."""
    config = tyro.cli(ExportConfig, args=argv, prog="pcsa export")
    run = open_source(config.checkpoint, trust=config.trust_backbone)
    program = program_of(
        run, geometry=config.geometry, read_out=config.read_out, radius=config.radius, size=config.size
    )
    try:
        worst = export(program, config.out)
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from error
    print(f"written: {config.out}; its largest difference from the network is {worst:.1g} of a value")
    return 0
