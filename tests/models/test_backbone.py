"""Networks of per-point features by name: names, arguments, and what is asked of what they return."""

import sys
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from torch import nn

from pcsa.models import KeypointDetector, PointNet2
from pcsa.models.backbone import accepts, backbone_channels, bind_options, check_named, is_own, make_backbone


class Linear(nn.Module):
    """A network of this test's own."""

    def __init__(
        self,
        width: int,
        scale: float = 1.0,
        bias: bool = True,
        act: Literal["relu", "gelu"] = "relu",
        widths: tuple[int, ...] = (),
        pair: tuple[int, float] | None = None,
        sizes: Sequence[int] | int = 1,
        kept: list[int] | None = None,
        extra: "object" = None,
    ) -> None:
        super().__init__()
        self.given = dict(locals())
        self.out_channels, self.layer = width, nn.Linear(3, width, bias)

    def forward(self, x, pos, batch):
        return self.layer(pos)


def function(width: int, **others: int) -> nn.Module:
    """A function that makes a network."""
    return Linear(width)


NAME = f"{__name__}:Linear"


@pytest.mark.parametrize(
    "path",
    ["", "torch", "torch:", ":nn", "torch.nn", "torch:nn.Linear", "a b:c", "a-b:c", "a..b:c", ".a:b", "a:b:c", "ä:b"]
    + ["os:system('x')", "a:b\n", "x" * 300 + ":y", 3, None, b"a:b", ["a:b"]],
)
def test_what_is_no_name(path):
    with pytest.raises(ValueError, match=r"`model.backbone` \(=.*\) must be a name like package\.module:Class"):
        check_named("model.backbone", path, {})


@pytest.mark.parametrize("options", [3, None, [], {"a b": 1}, {1: 2}, {"a": object()}, {"a": float("nan")}, {"a": b""}])
def test_options_that_are_none(options):
    with pytest.raises(ValueError, match=r"`model\.backbone_options`"):
        check_named("model.backbone", "a:B", options)


def test_only_networks_of_the_package_need_no_trust():
    assert is_own("pcsa.models:PointNet2")
    assert is_own("pcsa.models.pointnet2:PointNet2")
    for path in ("pcsa.modelsx:A", "pcsa_models:A", "torch.nn:Linear"):
        assert not is_own(path)
    for path in ("pcsa.datasets.cache:clear_cache", "pcsa:soft_argmax", "pcsa.scripts.cli:main"):
        with pytest.raises(ValueError, match=r"must name a network: those of pcsa are in `pcsa\.models`"):
            make_backbone(path, {})
    for path in ("pcsa.models.pointnet2:nn", "pcsa.models.pointnet2:build_geometry", "pcsa.models.backbone:nn"):
        with pytest.raises(ValueError, match=r"must be a (network of pcsa|class or function)"):
            make_backbone(path, {})
    assert isinstance(make_backbone("pcsa.models:PointNet2", {"out_channels": 8}), PointNet2)


def test_networks_are_made_with_their_arguments():
    options = {"width": 4, "scale": 2, "act": "gelu", "widths": [1, 2], "pair": [1, 2.5], "sizes": [3], "kept": [1]}
    made = make_backbone(NAME, options)
    assert made.given.items() >= {"width": 4, "scale": 2, "act": "gelu", "widths": (1, 2)}.items()
    assert made.given.items() >= {"pair": (1, 2.5), "sizes": (3,), "kept": [1]}.items()
    assert make_backbone(NAME, {"width": 4, "sizes": 3, "extra": [[1]]}).given["extra"] == [[1]]
    assert make_backbone(f"{__name__}:function", {"width": 4, "other": 1}).out_channels == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"`backbone_options` must have `width`, which `.*:Linear` needs"),
        (
            {"width": 4, "k": 3},
            r"`backbone_options` \(='k'\) must be an argument of `.*:Linear`, which takes width",
        ),
        ({"width": "4"}, r"`backbone_options.width` \(='4'\) must be int, as `.*:Linear` has it"),
        ({"width": True}, r"`backbone_options.width` \(=True\) must be int"),
        ({"width": 4.0}, r"`backbone_options.width` \(=4.0\) must be int"),
        ({"width": 4, "scale": "x"}, r"`backbone_options.scale` \(='x'\) must be float"),
        ({"width": 4, "bias": 1}, r"`backbone_options.bias` \(=1\) must be bool"),
        ({"width": 4, "act": "elu"}, r"`backbone_options.act` \(='elu'\) must be Literal\['relu', 'gelu'\]"),
        ({"width": 4, "widths": [1, "a"]}, r"`backbone_options.widths` \(=\[1, 'a'\]\) must be tuple\[int, ...\]"),
        ({"width": 4, "pair": [1, 2, 3]}, r"`backbone_options.pair` \(=\[1, 2, 3\]\) must be tuple\[int, float\] \| N"),
        ({"width": -1}, r"`backbone` \(='.*:Linear'\) cannot be made with `backbone_options` \(=.*\): RuntimeError, "),
    ],
)
def test_arguments_are_checked_against_the_signature(options, message):
    with pytest.raises(ValueError, match=message):
        make_backbone(NAME, options)


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_broken_module.py").write_text("1 / 0")
    (tmp_path / "own_module_here.py").write_text("from torch import nn\nclass A(nn.Module):\n  pass\nnumber = 3\n")
    for path, message in (
        ("no_such_package.nets:A", rf"must name a module that can be imported: ModuleNotFoundError.*{tmp_path}"),
        ("own_broken_module:A", "must name a module that can be imported: ZeroDivisionError, division by zero"),
        ("own_module_here:B", "must name something in its module: `own_module_here` has no `B`"),
        ("own_module_here:number", "must be a class or function, is a int"),
        ("builtins:dict", r"must make a torch\.nn\.Module, makes a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            make_backbone(path, {})
    # What is in the current folder is found there, behind all that is installed.
    assert sys.path[-1] == str(tmp_path)
    assert type(make_backbone("own_module_here:A", {})).__name__ == "A"


class Returns(nn.Module):
    """Returns whatever it was given."""

    def __init__(self, what, out_channels=4):
        super().__init__()
        self.what, self.out_channels = what, out_channels

    def forward(self, x, pos, batch):
        return self.what


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ((torch.zeros(6, 4),), r"`backbone` returned a tuple, must be a tensor \[N, C\]"),
        (None, "`backbone` returned a NoneType, must be a tensor"),
        (torch.zeros(2, 4), r"returned \[2, 4\], must be \[N, C\] = \[6, 4\]: a row for each point"),
        (torch.zeros(6, 5), r"returned \[6, 5\], must be \[N, C\] = \[6, 4\]"),
        (torch.zeros(1, 6, 4), r"returned \[1, 6, 4\], must be \[N, C\] = \[6, 4\]"),
        (torch.zeros(6, 4, dtype=torch.long), r"returned torch\.int64, must be features of floating point"),
    ],
)
def test_a_network_that_does_not_keep_the_protocol(what, message):
    with pytest.raises(ValueError, match=message):
        KeypointDetector(Returns(what), 2)(None, torch.rand(6, 3))


def test_the_width_is_what_the_network_says():
    network = Returns(torch.zeros(6, 4))
    assert backbone_channels(network, None) == 4
    assert backbone_channels(network, 8) == 8
    del network.out_channels
    network.num_features = 5
    assert backbone_channels(network, None) == 5
    for wrong in ("5", 0, True, None):
        network.num_features = wrong
        with pytest.raises(ValueError, match=r"without `out_channels` or `num_features`.*: Returns has none"):
            backbone_channels(network, None)


def test_a_geometry_goes_only_to_who_takes_it():
    pos, ptr = torch.rand(40, 3), torch.tensor([0, 20, 40])
    own = KeypointDetector(Linear(4), 2)
    assert not own.takes_geometry
    assert own(None, pos, ptr=ptr, geometry=None)["logits"].shape == (40, 2)
    assert KeypointDetector(PointNet2(out_channels=8), 2).takes_geometry
    assert accepts(own.backbone, "batch")


def test_what_has_no_signature_takes_any_argument():
    assert bind_options(type, "builtins:type", {"a": 1}) == {"a": 1}
