"""The command line as a user meets it: help, mistakes, and the commands that need no network."""

import dataclasses
import importlib
import json
import os
import select
import signal
import subprocess
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

from pcsa.scripts.cli import MODULES, main
from pcsa.tasks import get_task, open_run, task_names
from pcsa.tasks.common.claim import claimed


@pytest.fixture
def shown(capsys, monkeypatch):
    """Runs a command that shows help, and returns its exit status and what it prints."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(arguments):
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr()

    return run


def test_every_command_that_opens_a_checkpoint_can_trust_its_network():
    opened = []
    for name in MODULES.values():
        module = importlib.import_module(f"pcsa.scripts.{name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__.endswith("Config"):
                fields = {field.name for field in dataclasses.fields(kind)}
                if kind.__module__ == module.__name__ and fields & {"checkpoint", "checkpoints", "run"}:
                    opened.append(name)
                    assert "trust_backbone" in fields, name
    assert set(opened) == {"view", "annotate", "animate", "share", "export"}
    for task in map(get_task, task_names()):
        for kind in (task.evaluate_options, task.predict_options):
            assert "trust_backbone" in {field.name for field in dataclasses.fields(kind)}


# --- help


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_the_commands_are_listed(arguments, shown):
    status, text = shown(arguments)
    assert status == (0 if arguments else 2)
    assert all(f"\n  {command} " in text.out for command in MODULES)
    assert all(name in text.out for name in task_names())


def test_the_list_comes_without_torch(tmp_path):
    program = "import sys; from pcsa.scripts.cli import main; sys.exit(main(['--help']) or 'torch' in sys.modules)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: pcsa COMMAND" in done.stdout


@pytest.mark.parametrize("arguments", [["train", "--help"], ["train", "-h"], ["train"]])
def test_the_tasks_are_listed_with_their_presets(arguments, shown):
    status, text = shown(arguments)
    assert status == (0 if len(arguments) > 1 else 2)
    assert "usage: pcsa train TASK [PRESET] [options]" in text.out
    for name in task_names():
        task = get_task(name)
        assert f"\n  {name} " in text.out
        assert task.title in text.out
        assert f"presets: {', '.join(task.presets)}\n" in text.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("train supervised", ["--objective.method", "--data.category", "Presets: default"]),
        ("train unsupervised demo", ["--model.num-keypoints", "Presets: default"]),
        ("train pose2d", ["--objective.method", "--data.input-size", "Presets: small"]),
        ("train oct large", ["--objective.method", "--data.input-size", "Presets: small"]),
        ("compare", ["] TASK", "--seeds", "--methods", "sampling, triangular"]),
        ("compare pose2d", ["--seeds", "--methods", "sampling, triangular"]),
        ("evaluate", ["] CHECKPOINT", "--split", "--num-workers", "pcsa evaluate CHECKPOINT --help"]),
        ("predict", ["] CHECKPOINT ", "--png", "--html", "pcsa predict CHECKPOINT --help"]),
        ("evaluate SUPERVISED", ["--geodesic", "--thresholds", "--split"]),
        ("evaluate LANDMARKS", ["--flip-test", "--split"]),
        ("evaluate POSE2D", ["--flip-test", "--detections", "network of people's joints"]),
        ("evaluate OCT", ["retinal surfaces"]),
        ("predict SUPERVISED", ["--num-points", "--html"]),
        ("predict LANDMARKS", ["--boxes", "--flip-test"]),
        ("data", ["generate", "gallery", "download", "check"]),
        ("data generate", ["--num-shapes", "--meshes", "--overwrite"]),
        ("data gallery", ["--categories", "--seed"]),
        ("data download", ["--categories", "--meshes"]),
        ("data check", ["COCO", "layout"]),
        ("view", ["] CHECKPOINT ", "--num-samples"]),
        ("animate", ["--temperature-start"]),
        ("report", ["--split"]),
        ("bench", ["--device"]),
    ],
)
def test_help(trained, shown, arguments, parts):
    named = [str(trained(a.lower())) if a.isupper() else a for a in arguments.split()]
    status, text = shown([*named, "--help"])
    assert status == 0
    assert not text.err
    assert all(part in text.out for part in parts), text.out


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("data", "Expected one of {generate, gallery, download, import, check"),
        ("compare", "pcsa compare --help"),
        ("evaluate", "pcsa evaluate --help"),
        ("predict", "pcsa predict --help"),
        ("view", "pcsa view --help"),
    ],
)
def test_a_command_alone_says_what_it_needs(command, part, refused):
    assert part in refused([command])


# --- mistakes


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train unsupervised-of-old", "`task` (='unsupervised-of-old') must be one of supervised, "),
        ("train supervised unknown", "`preset` (='unknown') must be one of default, "),
        ("train unsupervised unknown", "`preset` (='unknown') must be one of default, "),
        ("train pose2d unknown", "`preset` (='unknown') must be one of small, "),
        ("train unsupervised --data.root EMPTY --data.category spoon --out EMPTY/run", "spoon"),
        ("train supervised --data.root EMPTY --data.category spoon --out EMPTY/run", "spoon"),
        ("train landmarks --data.root EMPTY --out EMPTY/run", "training.txt"),
        ("train pose2d --data.root EMPTY --out EMPTY/run", "train2017` is missing"),
        # Options that do not go together.
        (
            "train oct --objective.method mixture --out EMPTY/run",
            "`objective.norm` (='l2') has no closed form under the mixture",
        ),
        ("data invent", "Unrecognized options: invent"),
        ("data generate EMPTY --categories spoon", "spoon"),
        ("data gallery EMPTY/pictures --categories spoon", "spoon"),
        ("data gallery EMPTY/pictures --categories mug --seed -1", "`seed` (=-1)"),
        ("bench --device tpu", "`device` (='tpu')"),
        ("bench scan --out EMPTY/none/bench.json", "`out`"),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(tmp_path, refused, command, message):
    assert message in refused(command.replace("EMPTY", str(tmp_path)).split())
    assert not list(tmp_path.iterdir())


def test_an_unknown_command_is_named(capsys):
    assert main(["nonsense"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("pcsa: unknown command 'nonsense'\n")
    assert "usage: pcsa COMMAND" in message


# --- commands


def test_training_says_where_its_checkpoint_is(training, tmp_path, capsys):
    run = tmp_path / "my run"
    assert main(["train", *training("landmarks"), "--out", str(run)]) == 0
    checkpoint = run / "last.ckpt"
    # The second line can be pasted into a shell.
    assert capsys.readouterr().out == f"trained: {checkpoint}\nnext:    pcsa evaluate '{checkpoint}'\n"
    assert json.loads((run / "config.json").read_text())["task"] == "landmarks"


def test_data_check_counts_what_is_broken(root, tmp_path, capsys):
    assert main(["data", "check", str(root)]) == 0
    (tmp_path / "cut.pcd").write_text("VERSION 0.7\n")
    assert main(["data", "check", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "cut.pcd: not a PCD file" in said
    assert f"1 problems in {tmp_path}, checked as clouds" in said


def test_bench_measures_and_writes(tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert main(["bench", "limits", "--quick", "--shrink", "64", "--repeats", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert [result["case"] for result in report["results"]] == ["limits"]
    assert "exponential_" in capsys.readouterr().out


def test_a_folder_that_is_trained_in_is_refused(training, tmp_path, refused):
    run = tmp_path / "run"
    run.mkdir()
    with claimed(run):
        message = refused(["train", *training("landmarks"), "--out", run])
        assert [f.name for f in run.iterdir()] == [".lock"]
    assert f"`{run}` is being written by process {os.getpid()} on " in message


@pytest.mark.slow
def test_of_two_trainings_that_start_together_one_is_refused(training, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [
        sys.executable,
        "-m",
        "pcsa.scripts.cli",
        "train",
        *training("landmarks"),
        "--out",
        str(tmp_path / "run"),
    ]
    runs = [
        subprocess.Popen([*command, "--seed", str(seed)], env=environment, stderr=subprocess.PIPE, text=True)
        for seed in (1, 2)
    ]
    said = [run.communicate()[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 2], said
    winner = [run.returncode for run in runs].index(0)
    message = said[1 - winner]
    # While the other one trains, or right after that.
    assert f"is being written by process {runs[winner].pid} on " in message or "last.ckpt` exists" in message
    # The configuration and the weights are those of one run.
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["seed"] == winner + 1
    assert open_run(tmp_path / "run" / "last.ckpt").config.seed == winner + 1


def test_what_ends_a_command_is_one_line(monkeypatch, capsys):
    def raises(error):
        def run(argv):
            raise error

        monkeypatch.setattr("pcsa.scripts.report.main", run)
        return main(["report"]), capsys.readouterr().err

    assert raises(MemoryError()) == (2, "pcsa report: not enough memory\n")
    assert raises(KeyboardInterrupt()) == (130, "\npcsa report: interrupted\n")


def test_a_fault_in_a_process_that_loads_is_one_line(monkeypatch, capsys):
    class Broken(Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise ValueError("`a.png`: is no picture")

    monkeypatch.setattr("pcsa.scripts.report.main", lambda argv: list(DataLoader(Broken(), num_workers=1)))
    assert main(["report"]) == 2
    assert capsys.readouterr().err == "pcsa report: `a.png`: is no picture\n"


@pytest.mark.skipif(not hasattr(select, "poll"), reason="needs pipes as of Unix")
@pytest.mark.parametrize(("command", "unbuffered"), [("--help", "1"), ("data", ""), ("compare", "1")])
def test_help_into_a_pipe_that_nobody_reads(command, unbuffered):
    """As `pcsa data --help | head -1` does it, which once ended with a complaint and status 2, or 120."""
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = [sys.executable, "-m", "pcsa.scripts.cli", *dict.fromkeys([command, "--help"])]
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(arguments, stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_pipe_that_breaks_elsewhere_is_an_error(monkeypatch, capfd):
    def breaks(command, rest):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("pcsa.scripts.cli._run", breaks)
    assert main(["data"]) == 2
    assert "Broken pipe" in capfd.readouterr().err
