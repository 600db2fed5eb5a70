import numpy as np
import pytest

from pcsa.datasets.colors import from_channels, from_packed


@pytest.mark.parametrize(
    ("channels", "colors"),
    [
        (np.array([[0, 1, 255]], np.uint8), [[0, 1, 255]]),
        (np.array([[0, 1, 1]]), [[0, 1, 1]]),
        (np.array([[0, 256, 65535]], np.uint16), [[0, 1, 255]]),
        (np.array([[0.0, 0.5, 1.0]]), [[0, 128, 255]]),
        (np.array([[0.0, 2.0, 255.0]]), [[0, 2, 255]]),
        (np.array([[0.0, 2.5, 255.0]]), None),
        (np.array([[0, -1, 255]]), None),
        (np.array([[0, 70000, 255]]), None),
        (np.array([[0.0, np.nan, 1.0]]), None),
        (np.array([["a", "b", "c"]]), None),
        (np.zeros((0, 3)), []),
    ],
)
def test_channels(channels: np.ndarray, colors: list | None) -> None:
    found = from_channels(channels)
    assert (None if found is None else found.tolist()) == colors


def test_packed() -> None:
    packed = np.array([0x102030, 0xFFFE0001], np.uint32)
    for spelled in (packed, packed.view(np.int32), packed.astype(np.int64), packed.view(np.float32)):
        assert from_packed(spelled).tolist() == [[16, 32, 48], [254, 0, 1]]
    # In double precision the bits of an opaque color, which are those of a NaN, are gone.
    assert from_packed(packed[:1].view(np.float32).astype(np.float64)).tolist() == [[16, 32, 48]]
    assert from_packed(packed.view(np.float32).astype(np.float64)) is None
