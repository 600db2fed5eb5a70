"""The page on sharing does what it says, command after command."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import pcsa
from pcsa.scripts.cli import main

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "share.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # the hub's client's own, with httpx
def test_the_page(trained, root, hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained("supervised").parent, "runs/mug")
    Path("data").symlink_to(root)
    Path("scans").mkdir()
    for file in sorted((root / "pcds").rglob("*.pcd"))[:2]:
        shutil.copy(file, "scans")
    names = {"points": np.random.default_rng(0).random((300, 3))}
    done = 0
    for kind, block in re.findall(r"^```(sh|py)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        if kind == "sh":
            for line in block.splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
        elif "pcsa.load(" not in block or hasattr(pcsa, "load"):
            exec(compile(block, "share.md", "exec"), names)
        done += 1
    assert done == 7
    assert Path("mug.onnx").stat().st_size > 10_000
    assert "position" in names["found"]
