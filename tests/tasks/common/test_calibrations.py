"""What a checkpoint keeps of the temperatures of its confidences."""

import pytest
import torch

from pcsa.tasks.common.calibrations import (
    Calibration,
    Way,
    fitted_for,
    network_state,
    read_calibrations,
    store_calibration,
    weights_digest,
)


def state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "layer.weight": torch.randn(3, 4, generator=generator),
        "layer.count": torch.tensor(7),
        "half": torch.randn(2, generator=generator).bfloat16(),
    }


@pytest.fixture
def file(tmp_path):
    """A checkpoint with all that torch can keep of tensors."""
    shared = torch.arange(12.0).view(3, 4)
    content = {
        "state_dict": {f"network.{name}": value for name, value in state().items()},
        "optimizer_states": [{"exp_avg": shared.t(), "part": shared[1:], "step": torch.tensor(3.0)}],
        "global_step": 12,
        "pcsa": {"task": "supervised", "config": {"seed": 0, "plus": [["nll", 0.1]]}},
    }
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    return path


WAY, OTHER = Way(("a", "b"), 8), Way(("a",), 8)


def test_a_digest_is_that_of_the_weights():
    assert weights_digest(state()) == weights_digest(dict(reversed(state().items())))
    # Copies that lie otherwise in memory, or in the precision of a network that was put together again.
    lying = {name: torch.stack([value, value], -1)[..., 0] for name, value in state().items()}
    assert not lying["layer.weight"].is_contiguous()
    assert (
        weights_digest(lying) == weights_digest(state()) == weights_digest(state() | {"half": state()["half"].float()})
    )
    others = [
        state(1),
        state() | {"layer.count": torch.tensor(8)},
        {"other" * (k == "half") or k: v for k, v in state().items()},
    ]
    others.append(state() | {"layer.weight": state()["layer.weight"].view(4, 3)})
    assert len({weights_digest(other) for other in (state(), *others)}) == 5


def test_each_way_has_its_own(file):
    digest = weights_digest(state())
    stored = {
        None: Calibration(1.5, "val"),
        WAY: Calibration(0.8, "val"),
        OTHER: Calibration(1.1, "fold 0 of 5 of train"),
    }
    for way, calibration in stored.items():
        store_calibration(file, Calibration(9.0, "val"), way, digest)
        store_calibration(file, calibration, way, digest)
    about = torch.load(file, weights_only=True)["pcsa"]
    assert read_calibrations(about) == stored
    # What the versions before read of it is what they wrote.
    assert about["calibration"] == {"temperature": 1.5, "split": "val"}
    assert len(about["calibrations"]) == 2


def test_old_checkpoints_have_the_temperature_of_their_network():
    assert read_calibrations({}) == {}
    assert read_calibrations({"calibration": {"temperature": 2.0, "split": "val"}}) == {None: Calibration(2.0, "val")}


def test_nothing_else_of_a_checkpoint_changes(file):
    before = torch.load(file, weights_only=True)
    store_calibration(file, Calibration(1.5, "val"), WAY, weights_digest(state()))
    after = torch.load(file, weights_only=True)
    assert after["pcsa"].pop("calibrations")
    assert list(after) == list(before)
    assert (after["pcsa"], after["global_step"]) == (before["pcsa"], before["global_step"])
    pairs = [(after["state_dict"][name], value) for name, value in before["state_dict"].items()]
    own, old = after["optimizer_states"][0], before["optimizer_states"][0]
    pairs += [(own[name], value) for name, value in old.items()]
    for found, value in pairs:
        assert (found.dtype, found.stride(), found.storage_offset()) == (
            value.dtype,
            value.stride(),
            value.storage_offset(),
        )
        assert torch.equal(found, value)
    # What was a view of the same memory still is.
    assert own["exp_avg"].untyped_storage().data_ptr() == own["part"].untyped_storage().data_ptr()
    assert network_state(after).keys() == state().keys()


def test_a_checkpoint_is_whole_at_every_moment(file, monkeypatch):
    before = file.read_bytes()

    def save(_, out):
        out.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="no space left"):
        store_calibration(file, Calibration(1.5, "val"), None, weights_digest(state()))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]


def test_another_network_is_not_given_the_temperature(file):
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"last.ckpt` has other weights than when it was opened: the temperature 1.5 "):
        store_calibration(file, Calibration(1.5, "val"), None, weights_digest(state(1)))
    assert file.read_bytes() == before


def test_the_first_that_knows_a_way_counts(caplog):
    first, second = {WAY: Calibration(0.8, "val")}, {WAY: Calibration(0.9, "val"), None: Calibration(1.5, "val")}
    assert fitted_for(WAY, [first, second]) == (0.8, "val")
    assert fitted_for(WAY, [{}, second, first]) == (0.9, "val")
    # Where nothing is fitted, nothing needs to be said.
    assert fitted_for(OTHER, [{}, {}]) == Calibration()
    assert not caplog.records
    assert fitted_for(OTHER, [first, second]) == Calibration()
    assert caplog.messages == [
        "no temperature of the confidences is fitted for one network over 8 variations of each cloud, only for the "
        "mean of 2 networks over 8 variations of each cloud, one network: they are as trained, unless `pcsa evaluate "
        "--fit-temperature` fits one"
    ]
