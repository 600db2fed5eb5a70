import os
import subprocess
import sys

import pytest

import pcsa.tasks
from pcsa.tasks import get_task, register, task_names
from pcsa.tasks.common.task import Task

BUILT_IN = ("supervised", "unsupervised", "pose2d", "pose3d", "oct", "landmarks")


def test_names_come_in_the_order_in_which_one_meets_them():
    assert task_names() == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_task_is_found_by_its_name(name):
    task = get_task(name)
    assert isinstance(task, Task)
    assert task.name == name
    assert get_task(name) is task
    assert task.title
    assert task.presets
    assert task.columns
    assert type(task) is type(sys.modules[f"pcsa.tasks.{name}"].TASK)


@pytest.mark.parametrize("name", ["spaceship", "common", "__init__", "", "Supervised", "common.config"])
def test_an_unknown_name_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=rf"^`task` \(='{name}'\) must be one of {', '.join(BUILT_IN)}$"):
        get_task(name)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(ValueError, match=rf"^`task` \(='{name}'\) must have a name of its own: that one is taken$"):
        register(get_task(name))


def test_names_of_the_package():
    assert pcsa.tasks.Task is Task
    assert pcsa.tasks.Run.__module__ == "pcsa.tasks.common.task"
    assert pcsa.tasks.open_run.__module__ == "pcsa.tasks.common.run"
    with pytest.raises(AttributeError, match=r"'pcsa\.tasks' has no attribute 'spaceship'"):
        _ = pcsa.tasks.spaceship


def test_tasks_are_listed_without_torch():
    # Help should come at once.
    code = (
        "import sys, pcsa.tasks; print(*pcsa.tasks.task_names());"
        "assert not {'torch', 'lightning', 'torch_geometric', 'tyro'} & set(sys.modules), 'imported'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert tuple(done.stdout.split()) == BUILT_IN
