"""What is there is said, what is broken is found, and nothing hangs."""

import json
import subprocess
import sys
from importlib import metadata

import pytest
import torch

from pcsa.scripts import doctor
from pcsa.scripts.cli import main


def test_what_it_says_is_so(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sound"]
    said = {check["name"]: (check["state"], check["said"]) for check in found["checks"]}
    assert torch.__version__ in said["torch"][1]
    assert ("CUDA device 0" in said) == torch.cuda.is_available()
    assert "farthest by" in said["neighbors on cpu"][1]
    assert said["pictures"][1].startswith("drawn by")
    assert {"cache", "windows", "wandb", "Triton kernels on cpu"} <= said.keys()


def test_a_probe_that_hangs_or_crashes_is_a_fault_and_ends(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "PROBES", {"torch": doctor._torch})
    assert main(["doctor", "--timeout", "0.01"]) == 1
    assert "FAULT  torch: no answer within 0.01 seconds" in capsys.readouterr().out
    (check,) = doctor._probed("none", 60)
    assert check == ("fault", "none", "the check ended with status 1: KeyError: 'none'")


def test_an_error_within_a_probe_is_told(capsys):
    def _broken():
        yield doctor.Check("ok", "a", "b")
        raise OSError("libEGL.so.1: cannot open")

    doctor.tell(_broken)
    line = capsys.readouterr().out.strip().removeprefix(doctor._MARK)
    assert json.loads(line) == [["ok", "a", "b"], ["fault", "broken", "OSError: libEGL.so.1: cannot open"]]


@pytest.mark.parametrize(
    ("wanted", "have", "state", "said"),
    [
        (["numpy>=1"], {"numpy": "2"}, "ok", "numpy 2"),
        (["numpy>=3"], {"numpy": "2"}, "fault", "numpy 2 must be newer: pip install pcsa"),
        (["numpy>=3"], {}, "fault", "numpy not installed: pip install pcsa"),
        (["plotly>=6; extra == 'viz'"], {}, "missing", "plotly not installed: pip install 'pcsa[viz]'"),
        (["tyro; extra == 'train'", "h5py; extra == 'train'"], {"tyro": "1"}, "fault", "h5py not installed"),
    ],
)
def test_packages_are_held_to_what_pcsa_asks_for(wanted, have, state, said, monkeypatch):
    def version(name):
        if name in {**have, "pcsa": "1"}:
            return {**have, "pcsa": "1"}[name]
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(doctor.metadata, "version", version)
    checks = [check for check in doctor._packages() if check.name.startswith("packages")]
    assert (checks[-1].state, checks[-1].said.startswith(said)) == (state, True), checks


def test_a_cache_that_cannot_be_written_is_a_fault(monkeypatch, tmp_path):
    monkeypatch.setenv("PCSA_CACHE_DIR", str(tmp_path / "cache"))
    assert doctor._cache().state == "ok"
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert doctor._cache().state == "fault"


def test_it_imports_nothing_that_may_be_missing():
    code = "import sys, pcsa.scripts.doctor; print([n for n in ('torch', 'numpy', 'tyro') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
