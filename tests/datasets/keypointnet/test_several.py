import pytest
import torch
from torch_geometric.data import Batch

from pcsa.datasets.keypointnet import KeypointCategories, KeypointNet
from pcsa.datasets.procedural import generate


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = generate(tmp_path_factory.mktemp("two"), ["chair", "mug"], 4, num_points=256)
    return KeypointNet(root, "mug", "all"), KeypointNet(root, "chair", "all", keypoint_ids=[2, 0, 1])


def test_columns_are_those_of_one_category_after_the_other(parts):
    both = KeypointCategories(parts)
    mugs, chairs = parts
    K, n = mugs.num_keypoints, len(mugs)
    assert len(both) == n + len(chairs) == len(both.model_ids)
    assert both.category == "mug,chair"
    assert both.num_keypoints == K + 3
    assert both.semantic_ids == (*mugs.semantic_ids, 2, 0, 1)
    assert both.categories == ("mug",) * K + ("chair",) * 3
    assert both.names == tuple(f"mug/{name}" for name in mugs.names) + tuple(f"chair/{name}" for name in chairs.names)
    assert torch.equal(both.visible, torch.stack([both[i].visible[0] for i in range(len(both))]))
    for i, own, part, other in ((1, slice(K), mugs[1], slice(K, None)), (n + 2, slice(K, None), chairs[2], slice(K))):
        item = both[i]
        assert item.category == ("mug" if i < n else "chair")
        for name in ("keypoints", "visible", "keypoint_index"):
            assert torch.equal(item[name][:, own], part[name])
        assert item.counted[:, own].all()
        assert not item.counted[:, other].any()
        assert not item.visible[:, other].any()
        assert not item.keypoints[:, other].any()
        assert (item.keypoint_index[:, other] == -1).all()


def test_symmetries_are_in_columns_of_all(parts):
    both = KeypointCategories(parts)
    K, n = parts[0].num_keypoints, len(parts[0])
    found = [both.symmetry(i) for i in range(len(both))]
    assert found[:n] == [parts[0].symmetry(i) for i in range(n)]
    for i, symmetry in enumerate(found[n:]):
        alone = parts[1].symmetry(i)
        assert symmetry.reflection == [(a + K, b + K) for a, b in alone.reflection]
        assert symmetry.rotation == [([k + K for k in group], circle) for group, circle in alone.rotation]
    assert any(symmetry.reflection for symmetry in found[n:])
    # The same, from the tables of an item.
    for i, symmetry in enumerate(found):
        assert [tuple(pair) for pair in both[i].reflection[0].tolist() if pair[0] >= 0] == symmetry.reflection


def test_a_batch_mixes_categories(parts):
    both = KeypointCategories(parts)
    batch = Batch.from_data_list([both[i] for i in (0, len(both) - 1, 1)])
    assert batch.category == ["mug", "chair", "mug"]
    assert batch.keypoints.shape == (3, both.num_keypoints, 3)
    assert batch.counted.sum(1).tolist() == [parts[0].num_keypoints, 3, parts[0].num_keypoints]


def test_errors(parts):
    for wrong in ((), (parts[0], parts[0]), (parts[0], KeypointNet(parts[1].root, "chair", "train"))):
        with pytest.raises(ValueError, match=r"`parts` .* must be different categories of one split"):
            KeypointCategories(wrong)
