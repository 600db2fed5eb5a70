"""The commands and the Python of docs/guides/use-a-detector.md run one after the other, with a short training."""

import re
import shlex
from pathlib import Path

from pcsa.scripts.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "use-a-detector.md"
SHORT = {
    "data generate": [],
    "train supervised": "--model.out-channels 16 --optimizer.steps 2 --trainer.accelerator cpu --trainer.no-progress",
    "train landmarks": "--data.num-images 20 --model.channels 8 8 --optimizer.steps 2 --trainer.accelerator cpu "
    "--trainer.no-progress",
    "predict": "--no-progress",
}


def short(command):
    """The arguments of a command of the page, with little to do."""
    name, *arguments = shlex.split(command)
    assert name == "pcsa"
    for prefix, more in SHORT.items():
        if " ".join(arguments).startswith(prefix):
            few = {"60": "6"}
            return [*(few.get(a, a) for a in arguments), *(more.split() if more else [])]
    raise AssertionError(f"{command} is not known here")


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert {kind for kind, _ in blocks} == {"sh", "python"}
    for number, (kind, text) in enumerate(blocks):
        if kind == "python":
            exec(compile(text, f"{PAGE.name}, block {number}", "exec"), names)
            continue
        for command in text.strip().splitlines():
            assert main(short(command)) == 0
    said = capsys.readouterr().out
    assert "6 predictions of " in said
