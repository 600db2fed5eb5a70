"""The references compute what the package computes; the command runs and writes what it says. No time is asserted."""

import json
import math
import sys

import pytest
import torch
from torch import nn

import pcsa
from pcsa.losses import composite_chamfer
from pcsa.models import SkeletonMerger
from pcsa.models.pointnet2 import Level, PointNet2
from pcsa.scripts import _launches, _references as references, benchmark
from pcsa.scripts._report import BEGIN, END, format_report
from pcsa.skeleton import skeleton_points


def test_literal_sampler_has_the_moments_of_the_operator():
    torch.manual_seed(0)
    logits, pos = torch.randn(1, 6, 2), torch.randn(1, 6, 3)
    bandwidth = torch.rand(1, 6)
    S = 20_000
    for temperature in (0.3, 1.0):
        ours = pcsa.sampling_argmax(logits, pos, bandwidth, num_samples=S, temperature=temperature)
        literal = references.literal_sampling_argmax(logits, pos, bandwidth, S, temperature)
        assert literal.shape == ours.shape == (1, 2, S, 3)
        a, b = ours.flatten(0, 1), literal.flatten(0, 1)
        error = ((a.var(1) + b.var(1)) / S).sqrt()
        assert ((a.mean(1) - b.mean(1)).abs() < 5 * error).all()
        # The standard error of a variance is at most sqrt(kurtosis / S) of it: 5 of them, kurtosis at most 5.
        torch.testing.assert_close(a.var(1), b.var(1), rtol=5 * math.sqrt(2 * 5 / S), atol=0)


def test_literal_sampler_on_one_hot_and_padded_points():
    logits = torch.tensor([[[0.0], [1000.0], [-math.inf]]], requires_grad=True)
    pos = torch.tensor([[[5.0, 0.0, 0.0], [1.0, 2.0, 3.0], [math.pi, 0.0, 0.0]]])
    samples = references.literal_sampling_argmax(logits, pos, torch.zeros(1, 3), 4, 1.0)
    torch.testing.assert_close(samples, pos[:, 1].expand(1, 1, 4, 3))
    (gradient,) = torch.autograd.grad(samples.sum(), logits)
    assert gradient.isfinite().all()


def test_searches_by_hand():
    line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 0, 0]]])
    assert references.farthest_points_loop(line, 3).tolist() == [[0, 3, 2]]
    # Around 2: rows 1 and 2 (and 0 at distance 2) in the order of their index; around 9: itself, repeated.
    found = references.ball_query_by_sort(2.0, 2, line, line[:, 2:])
    assert found.tolist() == [[[0, 1], [3, 3]]]
    distance, index = references.nearest_by_sort(line, line[:, 3:], 2)
    assert index.tolist() == [[[3, 2]]]
    assert distance.tolist() == [[[0.0, 49.0]]]


def copy_weights(net: PointNet2, dense: references.DensePointNet2) -> None:
    """Layer by layer; the dense code has one layer where ours has one for each part of the input."""

    def put(source: list[nn.Module], target: nn.Sequential, first: torch.Tensor, bias: torch.Tensor | None) -> None:
        linear = [m for s in source for m in s.modules() if isinstance(m, nn.Linear)]
        norms = [m for s in source for m in s.modules() if isinstance(m, nn.BatchNorm1d)]
        convolutions = [m for m in target if isinstance(m, (nn.Conv1d, nn.Conv2d))]
        weights = [(first, bias)] + [(m.weight, m.bias) for m in linear]
        with torch.no_grad():
            for (weight, b), convolution in zip(weights, convolutions, strict=True):
                convolution.weight.copy_(weight.view_as(convolution.weight))
                if b is not None:
                    convolution.bias.copy_(b)
        batch_norms = [m for m in target if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
        for norm, other in zip(norms, batch_norms, strict=True):
            other.load_state_dict(norm.state_dict())

    for scales, mlps in zip(net.abstractions, dense.abstractions, strict=True):
        for scale, mlp in zip(scales, mlps, strict=True):
            first = torch.cat([scale.of_features.weight, scale.of_offset.weight], 1)
            put([scale.norm, scale.rest], mlp, first, scale.of_offset.bias)
    layers = [m for m in net.context if isinstance(m, nn.Linear)]
    put([net.context[1:]], dense.context, layers[0].weight, layers[0].bias)
    for ours, mlp in zip(net.propagations, dense.propagations, strict=True):
        put(
            [ours.norm, ours.rest], mlp, torch.cat([ours.of_coarse.weight, ours.of_fine.weight], 1), ours.of_coarse.bias
        )


@pytest.mark.parametrize("norm", [True, False])
def test_dense_pointnet2_is_the_same_network(norm):
    torch.manual_seed(0)
    # As many neighbors as points: a ball never holds more, so the first k and the nearest k are the same.
    levels = (
        Level(24, (0.3, 0.6), (60, 60), ((8, 16), (8, 12))),
        Level(8, (0.9,), (24,), ((16, 20),)),
    )
    net = PointNet2(levels=levels, out_channels=10, norm="batch" if norm else "none").double()
    dense = references.DensePointNet2(levels, 10, norm).double()
    pos = torch.randn(3, 60, 3, dtype=torch.float64)
    pos = pos / pos.norm(dim=-1, keepdim=True)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    copy_weights(net, dense)
    net.eval(), dense.eval()
    ptr = torch.arange(0, 181, 60)
    a, b = net(None, pos.view(-1, 3), ptr=ptr), dense(pos)
    assert a.std() > 0.01
    # The usual interpolation adds 1e-8 to squared distances of down to 1e-3, hence not closer.
    torch.testing.assert_close(b.reshape(-1, 10), a, rtol=1e-4, atol=1e-4)
    # Gradients too. Not under batch norm: free slots repeat different neighbors, which its statistics count.
    if not norm:
        ours, usual = pos.clone().requires_grad_(), pos.clone().requires_grad_()
        net(None, ours.view(-1, 3), ptr=ptr).square().sum().backward()
        dense(usual).square().sum().backward()
        assert net.context[0].weight.grad.abs().max() > 0
        torch.testing.assert_close(
            dense.context[0].weight.grad.squeeze(-1), net.context[0].weight.grad, rtol=1e-3, atol=1e-3
        )


def test_literal_skeleton_merger_is_the_same_loss():
    torch.manual_seed(0)
    levels = (Level(24, (0.3, 0.6), (60, 60), ((8, 16), (8, 12))), Level(8, (0.9,), (24,), ((16, 20),)))
    pos = torch.rand(60, 3, dtype=torch.float64) * 2 - 1
    anchors = torch.rand(4, 3, dtype=torch.float64) * 2 - 1
    merger = SkeletonMerger(PointNet2(levels=levels, out_channels=10, norm="none"), 4, anchors=anchors).double()
    merger.anchors = anchors  # kept in float32
    literal = references.LiteralSkeletonMerger(levels, 4, 10, norm=False).double()
    copy_weights(merger.backbone, literal.backbone)
    literal.score.load_state_dict(merger.score.state_dict())
    literal.strength.load_state_dict(merger.strength.state_dict())
    with torch.no_grad():
        for offsets, own in zip(literal.offsets, merger.offsets, strict=True):
            offsets.copy_(own)
    out = merger(None, pos)
    skeleton = skeleton_points(out["keypoints"], out["offsets"])
    ours = sum(composite_chamfer(skeleton.points, skeleton.ptr, out["activation"], pos))
    ours = ours + 0.01 * out["offsets"].square().sum()
    usual = literal(pos[None], anchors)
    # As near as the two networks are, which interpolate a little differently.
    torch.testing.assert_close(usual, ours, rtol=1e-4, atol=1e-4)
    ours.backward(), usual.backward()
    for a, b in (
        (merger.score, literal.score),
        (merger.strength, literal.strength),
        (merger.backbone.context, literal.backbone.context),
    ):
        for ours_weight, usual_weight in zip(a.parameters(), b.parameters(), strict=True):
            assert ours_weight.grad.abs().max() > 0 or ours_weight.dim() == 1
            torch.testing.assert_close(usual_weight.grad.view_as(ours_weight), ours_weight.grad, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(
        torch.stack([o.grad for o in literal.offsets]), merger.offsets.grad, rtol=2e-3, atol=1e-5
    )


def test_peak_memory_is_that_of_the_call():
    sizes = {"clouds": [512] * 4, "K": 10, "S": 30}
    tiny = {"clouds": [32] * 4, "K": 10, "S": 2}
    peak = benchmark.peak_memory("literal", sizes, tiny, torch.device("cpu"))
    # Of [B, S, K, N] elements at least the noise of three axes, the moved points and the weights live at once;
    # nothing needs 40 floats for each.
    elements = 4 * 512 * 10 * 30
    assert 7 * 4 * elements < peak < 40 * 4 * elements
    # What the module says of a reference that would not fit.
    assert 0.5 < benchmark.literal_bytes(sizes["clouds"], 10, 30) / peak < 2


def test_counts_by_hand():
    a, b = torch.empty(2, 3, device="meta"), torch.empty(3, 4, device="meta")
    # A product of 6 + 12 numbers to 8 and a sum of them in place; a transpose and an empty tensor launch nothing.
    counted = _launches.count(lambda: (a @ b).add_(1.0).t().new_empty(5))
    assert counted == _launches.Work(kernels=2, bytes=4 * (6 + 12 + 8) + 4 * 8, flops=2 * 2 * 3 * 4)
    # The gradient: two products more.
    a.requires_grad_(), b.requires_grad_()
    assert _launches.count(lambda: (a @ b).backward(torch.empty(2, 4, device="meta"))).flops == 3 * 2 * 2 * 3 * 4
    with pytest.raises(RuntimeError, match="meta"):
        _launches.count(lambda: float(a.sum()))  # would wait for the device


def test_a_step_launches_as_many_kernels_for_more_points():
    few, many = _launches.step_parts(2, 1024, 5, 4), _launches.step_parts(2, 2048, 5, 4)
    for name in ("network", "operator", "losses"):
        assert few[name].kernels == many[name].kernels > 10
    # Of the operator nearly every number belongs to a point; of the network only the finest level's.
    assert 1.8 < many["operator"].bytes / few["operator"].bytes <= 2.0
    assert few["network"].flops < many["network"].flops < 2 * few["network"].flops


def test_turns_alternate_and_ratios_are_paired():
    order = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = benchmark.take_turns(runs, 2, torch.device("cpu"))
    assert {len(x) for x in seconds.values()} == {2}
    blocks = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert blocks == ["a", "b"] * 3  # once to warm up
    # 1/2, 4/1 and 9/3 have the median 3; the medians of the times have the ratio 4/2.
    ratio = benchmark._ratio("x", [1.0, 4.0, 9.0], [2.0, 1.0, 3.0], 1.5)
    assert (ratio["median"], ratio["target"]) == (3.0, 1.5)


def test_command_measures_writes_and_draws(tmp_path, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(benchmark, "peak_memory", lambda function, *_: called.append(function) or 1_000_000)
    monkeypatch.delenv("PCSA_TEST_DATA", raising=False)
    page, out, picture = tmp_path / "page.md", tmp_path / "bench.json", tmp_path / "curves.png"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    cases = [case for case in benchmark.CASES if case != "compiled"]
    options = ["--quick", "--shrink", "64", "--repeats", "1", "--memory-budget", "0.03"]
    files = ["--out", str(out), "--plot", str(picture), "--markdown", str(page)]
    threads = torch.get_num_threads()
    assert benchmark.main([*cases, *options, *files]) == 0
    assert torch.get_num_threads() == threads
    report = json.loads(out.read_text())
    assert set(report) == {"machine", "settings", "results", "curves"}
    assert {"cpu", "cores", "threads", "torch", "date", "load_before", "load_after"} <= set(report["machine"])
    assert {result["case"] for result in report["results"]} == set(cases) - {"scaling"}
    for result in report["results"]:
        for row in result["rows"]:
            assert row["what"]
            assert 0 < row["low"] <= row["median"] <= row["high"]
        assert all({"what", "unit", "median", "low", "high", "target"} == set(check) for check in result["checks"])
    step = next(result for result in report["results"] if result["case"] == "step")
    parts = [f"  {part}" for part in ("data", "forward", "objective", "backward", "optimizer")]
    kinds = ["searches in the step", "searches done before", "searches done before, 1 loading"]
    assert [row["what"] for row in step["rows"]] == [name for kind in kinds for name in (kind, *parts)]
    assert [curve["over"] for curve in report["curves"]] == ["S", "K", "N", "B", "share of the largest cloud"]
    # 8 clouds of 32 points, K=10: S=100 needs 256,000 elements of 56 bytes, and fits 30 MB; of K=40 and S=30 too.
    S = report["curves"][0]
    assert S["values"] == [1, 10, 100]
    assert all(isinstance(x, float) for name in ("sampler", "literal") for x in S["seconds"][name])
    # B=16 is 153,600 elements; the cloud of 8,192 / 64 = 128 points 307,200 elements: 17 MB.
    assert all(isinstance(x, int) for x in report["curves"][2]["memory_bytes"]["literal"])
    assert {"sampler", "literal", "network", "skeleton"} == set(called)
    assert picture.stat().st_size > 10_000
    text = page.read_text()
    assert text.startswith(f"# Before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert format_report(report) in text
    assert format_report(report) in capsys.readouterr().out


def test_literal_beyond_the_budget_is_left_out(monkeypatch):
    monkeypatch.setattr(benchmark, "peak_memory", lambda function, *_: 1_000_000)
    config = benchmark.BenchConfig(("operator",), shrink=64, repeats=1, memory_budget=0.005)
    (result,) = benchmark.bench(config)["results"]
    # 8 × 32 points, K=10: S=30 needs 76,800 elements × 56 bytes = 4.3 MB, S=100 needs 14 MB.
    assert [row["what"] for row in result["rows"]] == [
        "sampling_argmax, S=30",
        "literal Eq. 11-12, S=30",
        "sampling_argmax, S=100",
    ]


def test_targets_show_whether_they_are_met():
    check = benchmark._check("memory", 3.0, "GB", 4.0), benchmark._check("time", 2.0, "×", 1.3)
    report = {
        "machine": benchmark.describe_machine(torch.device("cpu"), 1) | {"load_after": 0.0},
        "settings": {"repeats": 1, "quick": False, "shrink": 1},
        "results": [{"case": "scan", "title": "Scan", "rows": [], "checks": list(check)}],
        "curves": [],
    }
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in format_report(report).splitlines()]
    assert ["memory", "3 GB", "", "≤ 4", "yes"] in lines
    assert ["time", "2 ×", "", "≤ 1.3", "no"] in lines


def test_bad_input(tmp_path, monkeypatch):
    for options, message in (
        ({"repeats": 0}, r"`repeats` \(=0\)"),
        ({"threads": 0}, r"`threads` \(=0\)"),
        ({"shrink": 0}, r"`shrink` \(=0\)"),
        ({"memory_budget": -1.0}, r"`memory-budget` \(=-1.0\)"),
        ({"num_workers": 0}, r"`num-workers` \(=0\)"),
        ({"cases": ("scan",), "plot": tmp_path / "x.png"}, "`plot` .* scaling"),
    ):
        with pytest.raises(ValueError, match=message):
            benchmark.BenchConfig(**options)
    with pytest.raises(FileNotFoundError, match="`markdown`"):
        benchmark.main(["scan", "--markdown", str(tmp_path / "none.md")])
    with pytest.raises(FileNotFoundError, match="`out`"):
        benchmark.main(["scan", "--out", str(tmp_path / "none" / "bench.json")])
    with pytest.raises(ValueError, match=r"`device` .*'tpu'"):
        benchmark.main(["scan", "--device", "tpu"])
    (tmp_path / "plain.md").write_text("no marks")
    with pytest.raises(ValueError, match=r"`markdown` .* must have the lines"):
        benchmark.main(["scan", "--markdown", str(tmp_path / "plain.md")])
    with pytest.raises(FileNotFoundError, match=r"`root` .* annotations"):
        benchmark.bench(benchmark.BenchConfig(("data",), root=tmp_path))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"`device` .*'cuda'"):
            benchmark.bench(benchmark.BenchConfig(("scan",), device="cuda"))
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match=r"measuring memory of .*literal"):
        benchmark.peak_memory("literal", {}, {}, torch.device("cpu"))
