"""Checkpoints from anywhere: damaged, of another time, or made to harm."""

import io
import logging
import pickle
import random
import zipfile

import pytest
import torch

from pcsa.tasks import open_run
from pcsa.tasks.common.checkpoint import read_checkpoint
from pcsa.tasks.common.checksum import is_signed, sign
from pcsa.tasks.common.last import WholeCheckpoints
from pcsa.tasks.common.outline import check_outline


@pytest.fixture
def content(fuzz):
    """A whole checkpoint, as the library has it."""
    return fuzz("fuzz_outputs").checkpoint_content()


@pytest.fixture
def file(content, tmp_path):
    """A whole checkpoint, as a training writes it."""
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(content, path)
    return path


def test_a_checkpoint_that_was_written_is_read(file, content):
    assert is_signed(file)
    assert open_run(file).step == 4
    state = read_checkpoint(file)["state_dict"]
    assert all(torch.equal(state[name], value) for name, value in content["state_dict"].items())
    # By everybody else, too.
    assert torch.load(file, weights_only=True)["global_step"] == 4
    assert zipfile.ZipFile(file).testzip() is None


def test_one_bit(file):
    whole = file.read_bytes()
    rng = random.Random(0)
    # At the end stands the checksum; in the middle the weights, which no other check looks at.
    places = [*range(4), *range(len(whole) - 110, len(whole)), *(rng.randrange(len(whole)) for _ in range(200))]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"last\.ckpt`"):
            read_checkpoint(file)
    file.write_bytes(whole)
    read_checkpoint(file)


def test_a_file_that_is_cut_off_or_longer(file):
    whole = file.read_bytes()
    for content in (
        b"",
        whole[:1],
        whole[:22],
        whole[:-1],
        whole[:-76],
        whole[: len(whole) // 2],
        whole + b"\0",
        whole * 2,
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"last\.ckpt`"):
            read_checkpoint(file)


def test_what_was_written_before_there_were_checksums(content, tmp_path, caplog):
    for name in ("a.ckpt", "b.ckpt"):
        torch.save(content, tmp_path / name)
        assert not is_signed(tmp_path / name)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert open_run(tmp_path / name).step == 4
    said = [record.message for record in caplog.records if "checksum" in record.message]
    assert len(said) == 2
    assert "a.ckpt` was written before checkpoints had a checksum" in said[0]
    sign(tmp_path / "a.ckpt")
    assert is_signed(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="must be a zip file without a comment"):
        sign(tmp_path / "a.ckpt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(content, tmp_path, value):
    """Checkpoints are not written with such weights now; earlier ones may be."""
    name = next(name for name in content["state_dict"] if content["state_dict"][name].is_floating_point())
    content["state_dict"][name].view(-1)[0] = value
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(
        ValueError, match=rf"last\.ckpt`: 1 of its \d+ tensors of weights are not finite, `{name}` among"
    ):
        open_run(tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_dict": 3}, "`state_dict` must be tensors by their names"),
        ({"state_dict": {"network.x": [1.0]}}, "`state_dict` must be tensors by their names"),
        ({"state_dict": {3: torch.zeros(1)}}, "`state_dict` must be tensors by their names"),
        ({"global_step": "4"}, "`global_step` must be a int, is a str"),
        ({"pcsa": {"task": 3}}, "`task` must be a str, is a int"),
        ({"pcsa": {"task": "landmarks", "config": [1]}}, "`config` must be a dict, is a list"),
        ({"pcsa": {"task": "landmarks", "labels": None}}, "`labels` must be a dict, is a NoneType"),
    ],
)
def test_fields_of_another_kind(content, tmp_path, changes, message):
    torch.save({**content, **changes}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=rf"last\.ckpt`: {message}"):
        open_run(tmp_path / "last.ckpt")


def test_what_lightning_would_miss_is_named(content, tmp_path):
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"last\.ckpt`: must have `callbacks` to be resumed"):
        WholeCheckpoints().load_checkpoint(tmp_path / "last.ckpt")


def written(path, description, **more):
    """A zip file as torch writes it, with a description of ours."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", description)
        file.writestr("archive/version", "3\n")
        for name, value in more.items():
            file.writestr(f"archive/data/{name}", value)
    sign(path)
    return path


class Call:
    """What a pickle calls, with what."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Described(pickle._Pickler):
    """Writes storages as torch does."""

    def persistent_id(self, value):
        return value if isinstance(value, tuple) and value[:1] == ("storage",) else None


def described(value):
    stream = io.BytesIO()
    Described(stream, protocol=2).dump(value)
    return stream.getvalue()


def tensor(numbers, shape, stride, offset=0, key="0"):
    storage = ("storage", torch.FloatStorage, key, "cpu", numbers)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False, {})


def test_a_description_of_ours_is_as_torchs(tmp_path):
    """Else what follows would test nothing."""
    file = written(tmp_path / "a.ckpt", described({"x": tensor(4, (2, 2), (2, 1))}), **{"0": bytes(16)})
    check_outline(file)
    assert torch.equal(torch.load(file, weights_only=True)["x"], torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: tensor(4, (2**40,), (1,)), r"has a tensor \[1099511627776\] of 4 numbers"),
        (lambda: tensor(4, (4,), (2**40,)), r"has a tensor \[4\] of 4 numbers"),
        (lambda: tensor(4, (2**40,), (0,)), r"has a tensor \[1099511627776\] of 4 numbers"),
        (lambda: tensor(4, (2,), (1,), offset=3), r"has a tensor \[2\] of 4 numbers"),
        (lambda: tensor(4, (-1,), (1,)), "has a tensor whose shape is not described"),
        (lambda: tensor(4, (1,) * 200, (1,) * 200), "has a tensor whose shape is not described"),
        (lambda: tensor(2**40, (4,), (1,)), "has 16 bytes where 1099511627776 numbers of a tensor must be"),
        (lambda: tensor(4, (4,), (1,), key="9"), "has 0 bytes where 4 numbers of a tensor must be"),
        (lambda: Call(bytearray, 2**40), r"holds `.*bytearray`, which no checkpoint of this package has"),
        (lambda: Call(eval, "print"), r"holds `.*eval`, which no checkpoint of this package has"),
        (
            lambda: Call(torch._utils._rebuild_sparse_tensor, 1),
            r"holds `.*sparse_tensor`, which no checkpoint of this package has",
        ),
    ],
)
def test_tensors_that_are_not_in_the_file(tmp_path, value, message):
    file = written(tmp_path / "a.ckpt", described({"pcsa": {"task": "oct"}, "x": value()}), **{"0": bytes(16)})
    with pytest.raises(ValueError, match=rf"a\.ckpt`: {message}"):
        read_checkpoint(file)


def test_structures_without_end(tmp_path):
    itself: list = []
    itself.append(itself)
    laughs: list = ["ha"] * 10
    for _ in range(10):
        laughs = [laughs] * 10
    deep: list = []
    for _ in range(100):
        deep = [deep]
    for value in (itself, laughs, deep):
        file = written(tmp_path / "a.ckpt", described({"pcsa": {"task": "oct", "config": {"x": value}}}))
        with pytest.raises(
            ValueError, match=r"a\.ckpt`: describes more than 1000000 parts, or parts more than 60 deep"
        ):
            read_checkpoint(file)


def test_a_pickle_that_asks_for_memory(tmp_path):
    """A place in the memory of C's unpickler takes eight bytes for each place before it: here 34 GB."""
    file = written(tmp_path / "a.ckpt", b"\x80\x02}r\xff\xff\xff\xff.")
    with pytest.raises(ValueError, match=r"a\.ckpt`: has a description that takes more memory than it may"):
        read_checkpoint(file)


def test_a_compressed_checkpoint(file, tmp_path):
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(tmp_path / "a.ckpt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match=r"a\.ckpt`: is compressed, which no checkpoint is"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_configuration_of_more_network_than_there_is(content, tmp_path, soon):
    """The network is made of it before its weights are compared: with a million layers, or for a terabyte."""
    for channels in ([2] * 300, [2**20, 2**20]):
        content["pcsa"]["config"]["model"]["channels"] = channels
        torch.save(content, tmp_path / "a.ckpt")
        with pytest.raises(
            ValueError, match=r"a\.ckpt` must fit pcsa .*(its configuration describes|size mismatch|deep)"
        ):
            open_run(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        (
            "os:system",
            {"command": "true"},
            r"names a network outside of pcsa, `os:system` with command=true: to open it is to import `os`",
        ),
        ("a" * 300 + ":A", {}, "must be a name like"),
        (["os:system"], {}, "must be a name like"),
        ("torch.nn.Linear", {}, "must be a name like"),
        ("pcsa.datasets.cache:clear_cache", {}, "must name a network: those of pcsa are in `pcsa.models`"),
        ("pcsa.models:load_imagenet_weights", {}, "must be a network of pcsa"),
        ("pcsa.models.pointnet2:nn", {}, "must be a class or function, is a module"),
        ("pcsa.models:PointNet2", {"out_channels": 2**24}, "its configuration describes|size mismatch|Missing key"),
        ("pcsa.models:PointNet2", {"local_blocks": 10**9}, "its configuration describes a network of more"),
        ("pcsa.models:PointNet2", {"there": 1}, "must be an argument of `pcsa.models:PointNet2`"),
        ("os:system", {"a b": 1}, "must be values by the names of arguments"),
    ],
)
def test_networks_that_a_file_names(fuzz, tmp_path, soon, monkeypatch, backbone, options, message):
    """Nothing of it is imported, and nothing is run but networks of this package."""

    def imports(*arguments):
        raise AssertionError(f"imports {arguments}")

    if not (isinstance(backbone, str) and backbone.startswith("pcsa.models")):
        monkeypatch.setattr("pcsa.models.backbone.import_by_name", imports)
    file = tmp_path / "a.ckpt"
    torch.save(fuzz("fuzz_outputs").detector_content(backbone, options), file)
    with pytest.raises(ValueError, match=rf"a\.ckpt` .*({message})"):
        open_run(file)
