import pytest

from pcsa.datasets.splits import check_split, split_rows


def test_split_rows() -> None:
    assert split_rows(20, 5, "train", None) == range(20)
    assert split_rows(20, 5, "val", None) == range(18, 20)
    assert split_rows(20, 5, "test", None) == range(20, 25)
    assert split_rows(20, 5, "train", 4) == range(16)
    assert split_rows(20, 5, "val", 4) == range(16, 20)
    assert split_rows(3, 0, "val", None) == range(2, 3)
    for bad in (0, 20, -1, 1.5):
        with pytest.raises(ValueError, match="`num_val`"):
            split_rows(20, 5, "train", bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`split`"):
        split_rows(20, 5, "dev", None)  # type: ignore[arg-type]


def test_splits_and_more() -> None:
    for split in ("train", "val", "test"):
        check_split(split)
    check_split("all", "all")
    with pytest.raises(ValueError, match=r"`split` \(='all'\) must be one of 'train', 'val', 'test'$"):
        check_split("all")
    with pytest.raises(ValueError, match=r"must be one of 'train', 'val', 'test', 'all'$"):
        check_split("dev", "all")
