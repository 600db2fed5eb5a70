import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from pcsa.viz import Stage, sampling_frames, save_animation


def test_samples_tighten_as_a_map_sharpens():
    generator = torch.Generator().manual_seed(0)
    pos = torch.rand(300, 3, generator=generator)
    logits = -20 * (pos - pos[0]).norm(dim=1, keepdim=True)
    stages = [Stage(f"step {i}", logits * s, 0.2) for i, s in enumerate((0.1, 1.0, 5.0))]
    frames = sampling_frames(pos, stages, num_samples=50, bandwidth=0.005, annotated=pos[:1])
    assert [f.title for f in frames] == ["step 0", "step 1", "step 2"]
    spread = [f.samples.std(1).mean() for f in frames]
    assert spread[0] > 2 * spread[1] > 4 * spread[2]
    # The noise is the same: two equal stages have equal samples.
    again = sampling_frames(pos, [stages[1], stages[1]], num_samples=50, bandwidth=0.005)
    np.testing.assert_array_equal(again[0].samples, again[1].samples)
    np.testing.assert_array_equal(again[0].samples, frames[1].samples)


def test_a_gif_plays_every_frame_in_one_view(box, tmp_path):
    wide, last = (dataclasses.replace(box, samples=box.samples * s, title=f"times {s}") for s in (1.6, 1.0))
    # Two equal frames would be one that is seen for longer.
    save_animation(tmp_path / "new" / "a.gif", [wide, box, last], seconds=0.3, size=(320, 240), backend="matplotlib")
    with Image.open(tmp_path / "new" / "a.gif") as gif:
        assert gif.n_frames == 3
        assert gif.info["loop"] == 0
        frames, durations = [], []
        for i in range(3):
            gif.seek(i)
            durations.append(gif.info["duration"])
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
    assert durations == [300, 300, 1500]
    assert (frames[0][0, 0] == 255).all()  # white stays white
    # Below the title, the last two are the same; in the first the samples need more room, and the cloud does not move.
    np.testing.assert_array_equal(frames[1][30:, :320], frames[2][30:, :320])
    gray = [(np.ptp(f[30:, :320], axis=2) < 12) & (f[30:, :320, 0] < 225) for f in frames]
    assert (gray[0] & gray[1]).sum() > 0.9 * gray[1].sum()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.mp4", {}, r"`path` \(=.*a.mp4\) must end in .gif or .html"),
        ("a.gif", {"seconds": 0}, r"`seconds` \(=0\)"),
    ],
)
def test_bad_options(box, tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message):
        save_animation(tmp_path / name, [box], **options)
    with pytest.raises(ValueError, match="`frames`"):
        save_animation(tmp_path / "a.gif", [])
