import pytest
import torch

from pcsa.metrics import fit_temperature
from pcsa.tasks.common.cross_fitting import cross_fit


def maps(counts, seed=0):
    """Clouds with so many annotated keypoints."""
    generator = torch.Generator().manual_seed(seed)
    logits = [3 * torch.randn(30, count, generator=generator) for count in counts]
    index = [
        torch.multinomial((x / 2).softmax(0).T, 1, generator=generator)[:, 0] if x.shape[1] else torch.empty(0).long()
        for x in logits
    ]
    return logits, index


@pytest.mark.parametrize(("counts", "parts"), [([4, 3, 4, 2, 4, 4, 3], 3), ([4, 0, 3, 2, 0, 5], 5), ([6, 6], 5)])
def test_each_cloud_has_a_temperature_of_others(counts, parts):
    logits, index = maps(counts)
    found = cross_fit(logits, index, parts)
    known = [i for i, count in enumerate(counts) if count]
    assert found.temperature == fit_temperature([logits[i] for i in known], [index[i] for i in known])
    parts = min(parts, len(known))
    assert len(found.of_others) == len(counts)
    for i, count in enumerate(counts):
        if not count:
            assert found.of_others[i] == found.temperature
            continue
        others = [j for j in known if known.index(j) % parts != known.index(i) % parts]
        assert i not in others
        assert found.of_others[i] == fit_temperature([logits[j] for j in others], [index[j] for j in others])
    # What it says of a cloud does not depend on that cloud.
    index[known[0]] = (index[known[0]] + 1) % 30
    assert cross_fit(logits, index, parts).of_others[known[0]] == found.of_others[known[0]]


def test_one_cloud_has_no_others():
    logits, index = maps([0, 5, 0])
    assert cross_fit(logits, index) == (fit_temperature(logits[1:2], index[1:2]), [])
    with pytest.raises(ValueError, match="must have an annotated keypoint"):
        cross_fit(*maps([0, 0]))


def test_a_temperature_is_found_without_the_clouds_it_is_judged_on():
    found = cross_fit(*maps([5] * 200))
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert len(set(found.of_others)) == 5
    assert all(t == pytest.approx(found.temperature, rel=0.05) for t in found.of_others)
