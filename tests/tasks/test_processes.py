"""Several processes of one training: the same objective as one, whatever is missing, and one end."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcsa.tasks import task_names
from pcsa.tasks.common.processes import mean_over_processes, of_all_processes, share_of
from pcsa.tasks.common.reconstruction import ReconstructionConfig

OBJECTIVES = [
    {"method": "sampling"},
    {"method": "soft", "norm": "l1", "regularization": "variance"},
    {"method": "discrete", "norm": "bounded", "regularization": "js", "regularization_weight": 0.3},
    {"method": "mixture", "norm": "squared"},
    {"method": "nll"},
    {"method": "cross_entropy", "plus": (("sampling", 0.1), ("mixture", 2.0)), "norm": "bounded"},
    {"method": "soft_label", "plus": (("soft", 0.5),)},
]
# Of the four items, which keypoints count, over and over: nine of ten in the first half, one in the second.
VISIBLE = {
    "uneven": [[True, True, True], [False, False, True], [True, True], [False]],
    "a process with none": [[True, False], [False], [True], [False]],
    "none": [[False]] * 4,
}


@pytest.fixture(scope="module")
def found(tiny, tmp_path_factory):
    """Losses and gradients of two processes and of one, by the case."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = []
    for task in task_names():
        config = tiny(task)
        if task == "unsupervised":
            still = {"num_loss_points": None, "separation_weight": 0.1, "mirror_weight": 0.1}
            objective = ReconstructionConfig(num_samples=2, contrast_weight=0.5, spread_weight=1.0, **still)
            model = replace(config.model, norm="group")
            cases.append((task, task, replace(config, model=model, objective=objective), [[True]] * 4))
            continue
        for given in OBJECTIVES:
            if task == "supervised":
                config = replace(config, model=replace(config.model, norm="group"))
            elif given != OBJECTIVES[0] and task in ("pose2d", "pose3d", "landmarks"):
                continue  # the same loss as that of oct
            case = replace(config, objective=replace(config.objective, **given))
            cases.append((f"{task} {given['method']}", task, case, VISIBLE["uneven"]))
        for name, visible in VISIBLE.items():
            cases.append((f"{task} {name}", task, config, visible))
    (folder / "cases").write_bytes(pickle.dumps(cases))
    script = Path(__file__).with_name("of_a_rank.py")
    ranks = [subprocess.Popen([sys.executable, script, str(rank), folder]) for rank in (0, 1)]
    try:
        assert [rank.wait(300) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    halves, whole = torch.load(folder / "found", weights_only=True)
    assert list(halves) == [name for name, *_ in cases]
    return halves, whole


@pytest.mark.slow
@pytest.mark.parametrize("task", task_names())
def test_two_processes_minimize_what_one_does(found, task):
    halves, whole = found
    names = [name for name in halves if name.startswith(task)]
    assert len(names) >= (1 if task == "unsupervised" else 4)
    for name in names:
        assert halves[name].keys() == whole[name].keys()
        size = max(float(value.abs().max()) for key, value in whole[name].items() if key.startswith("gradient"))
        assert size > 0 or name.endswith("none")
        for key, value in whole[name].items():
            scale = max(size, 1e-12) if key.startswith("gradient") else max(float(value.abs()), 1e-12)
            torch.testing.assert_close(
                halves[name][key] / scale, value / scale, rtol=0, atol=1e-6, msg=f"{name}: {key}"
            )


def test_one_process_exchanges_nothing(monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", None)
    monkeypatch.setattr(torch.distributed, "all_gather", None)
    x, values = torch.rand(2, 3), {"loss": torch.tensor(1.0)}
    assert share_of(x > 0.5) is None
    assert of_all_processes(x) is x
    assert mean_over_processes(values) is values
