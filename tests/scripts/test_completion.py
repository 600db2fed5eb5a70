"""The script of bash completes commands, tasks, presets, options and their values."""

import shutil
import subprocess

import pytest

from pcsa.scripts.cli import MODULES, main
from pcsa.scripts.completion import script
from pcsa.tasks import get_task, task_names

ASK = """
. "$1"; shift
function=$(complete -p pcsa | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$function pcsa "${COMP_WORDS[$COMP_CWORD]}" "${COMP_WORDS[$((COMP_CWORD - 1))]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    file = tmp_path_factory.mktemp("completion") / "pcsa"
    file.write_text(script("bash"))

    def complete(*words):
        command = ["bash", "-c", ASK, "bash", str(file), "pcsa", *words]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        return set(found.split())

    return complete


def test_commands_tasks_presets_options_and_values(complete):
    assert set(MODULES) <= complete("")
    assert complete("tr") == {"train"}
    assert set(task_names()) <= complete("train", "")
    assert complete("train", "supervised", "--optimizer.ki") == {"--optimizer.kind"}
    assert complete("train", "supervised", "--optimizer.kind", "ada") >= {"adam", "adadelta", "adamw"}
    assert set(get_task("oct").presets) <= complete("train", "oct", "")
    assert "--config" in complete("train", "oct", "--conf")
    # Of one task alone: which it is, only the checkpoint says.
    assert complete("evaluate", "a.ckpt", "--thresh") == {"--thresholds"}
    assert complete("evaluate", "a.ckpt", "--flip-t")
    assert {"generate", "download", "check"} <= complete("data", "")
    assert complete("data", "download", "--cat") == {"--categories"}
    assert {"bash", "zsh", "fish"} <= complete("completion", "")
    assert complete("doctor", "--j") == {"--json"}


def test_every_command_has_something_to_complete(complete):
    assert {name: bool(complete(name, "--") - {"--help"} or complete(name, "")) for name in MODULES} == dict.fromkeys(
        MODULES, True
    )


def test_other_shells_and_mistakes(capsys):
    assert main(["completion", "fish"]) == 0
    assert "--command $_prog_basename" in capsys.readouterr().out
    assert script("zsh").startswith("#compdef pcsa")
    with pytest.raises(SystemExit):
        main(["completion", "tcsh"])
