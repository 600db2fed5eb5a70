"""Every kernel compiles for cards that are not here, and spills nothing."""

import pytest
import torch

from pcsa._core.triton.launch import Launch, interpreted
from pcsa.scripts import cli
from pcsa.scripts.bench import kernels
from pcsa.scripts.bench.kernels import TARGETS, Built, Spec, build, specs, table

pytestmark = pytest.mark.skipif(interpreted(), reason="what is interpreted is not compiled")


@pytest.fixture(scope="module")
def listed():
    pytest.importorskip("triton", reason="Triton is not installed", exc_type=ImportError)
    return specs()


def test_one_of_each_part_does_not_spill(listed):
    for name in ("farthest points", "nearest points", "draw"):
        assert build(next(spec for spec in listed if spec.name == name), 90).spilled_bytes == 0


@pytest.mark.skipif(torch.version.hip is not None, reason="instructions of NVIDIA's")
def test_noise_is_made_by_the_instructions_of_a_card(listed):
    # Triton's own logarithm is 20 instructions: with it a kernel had twice as many.
    for name, samples, powers in (("draw", 8, 16), ("choose", 4, 0)):
        text = kernels.compiled(next(spec for spec in listed if spec.name == name), 90).asm["ptx"]
        assert text.count("lg2.approx.ftz.f32") == 2 * samples
        assert text.count("ex2.approx.ftz.f32") == powers
        assert text.count("ex2.approx.f32") == 0


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_no_kernel_spills(target, listed):
    built = {f"{spec.name}, {spec.size}": build(spec, target) for spec in listed}
    assert len(built) == len(listed)
    assert {name: found for name, found in built.items() if found.spilled_bytes} == {}
    # What a thread and a program may have on these cards.
    assert all(0 < found.registers <= 255 and found.shared_bytes <= 99 * 1024 for found in built.values())


def test_what_spills_is_seen(listed):
    spec = next(spec for spec in listed if spec.name == "nearest points")
    launch = spec.launch._replace(options={**spec.launch.options, "maxnreg": 24})
    found = build(Spec(spec.name, spec.size, launch, spec.signature, 1, 1, 1), 90)
    assert found.spilled_bytes > 0
    assert found.registers <= 24


def test_least_time():
    # 3.35 TB/s, 67 TFLOP/s with two operations in each multiplication with addition, 132 multiprocessors.
    launch = Launch(None, {}, {})
    moves = Spec("", "", launch, {}, 1000, bytes=3.35e9, operations=1e6)
    assert moves.seconds == pytest.approx(1e-3)
    computes = Spec("", "", launch, {}, 1000, bytes=1, operations=33.5e9)
    assert computes.seconds == pytest.approx(1e-3)
    few = Spec("", "", launch, {}, 66, bytes=1, operations=33.5e9)
    assert few.seconds == pytest.approx(2e-3)


def test_table(monkeypatch, capsys):
    spec = Spec("sums", "N=8", Launch(None, {}, {}), {}, 1000, bytes=3.35e6, operations=2e6)
    monkeypatch.setattr(kernels, "SPECS", [lambda: iter([spec])])
    monkeypatch.setattr(kernels, "build", lambda spec, target: Built(target, 2 * target, 0))
    assert cli.main(["bench", "kernels", "80", "90"]) == 0
    head, _, row = capsys.readouterr().out.strip().splitlines()
    assert "registers (sm_80 / sm_90)" in head
    assert "estimate" in head
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("sums", "N=8", "80 / 90", "160 / 180", "0 / 0", "3.35", "2", "1")
    ]
    assert row.strip() == table((80, 90)).splitlines()[-1].strip()
