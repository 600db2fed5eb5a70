import numpy as np
import pytest

from pcsa.datasets.colors import color_bytes, unpack_colors


@pytest.mark.parametrize(
    ("channels", "colors"),
    [
        (np.array([[0, 1, 255]], np.uint8), [[0, 1, 255]]),
        (np.array([[0, 1, 1]]), [[0, 1, 1]]),
        (np.array([[0, 256, 65535]], np.uint16), [[0, 1, 255]]),
        (np.array([[0.0, 0.5, 1.0]]), [[0, 128, 255]]),
        (np.array([[0.0, 2.0, 255.0]]), [[0, 2, 255]]),
        (np.array([[0.0, 2.6, 255.0]]), [[0, 3, 255]]),
        (np.array([[0.0, 256.0, 65535.0]]), [[0, 1, 255]]),
        (np.array([[0.0, 256.5, 65535.0]]), None),
        (np.array([[0, -1, 255]]), None),
        (np.array([[0, 70000, 255]]), None),
        (np.array([[0.0, np.nan, 1.0]]), None),
        (np.zeros((0, 3)), None),
    ],
)
def test_channels(channels: np.ndarray, colors: list | None) -> None:
    found = color_bytes(channels)
    assert (None if found is None else found.tolist()) == colors


def test_packed() -> None:
    packed = np.array([0x102030, 0xFFFE0001], np.uint32)
    for spelled in (packed, packed.view(np.int32), packed.astype(np.int64), packed.view(np.float32)):
        assert unpack_colors(spelled).tolist() == [[16, 32, 48], [254, 0, 1]]
    # In double precision the bits of an opaque color, which are those of a NaN, are gone.
    assert unpack_colors(packed[:1].view(np.float32).astype(np.float64)).tolist() == [[16, 32, 48]]
    assert unpack_colors(packed.view(np.float32).astype(np.float64)) is None
