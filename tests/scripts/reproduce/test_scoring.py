"""Scores of a run under several read-outs."""

from pathlib import Path
from types import SimpleNamespace

from pcsa.scripts.reproduce.scoring import add_scores
from pcsa.tasks import get_task


def test_all_read_outs_come_from_one_look_at_the_clouds(monkeypatch, tmp_path):
    asked = []

    def evaluate(run, options):
        names = [*options.compared, *(f"ball, {radius:g}" for radius in options.ball_radii), "template"]
        asked.append((options.read_out, options.device))
        read_outs = {name: {"euclidean": [0.001]} for name in names}
        shapes = {"a": {"num_keypoints": 1, "read_outs": read_outs}}
        return {"num_items": 1, "read_out": options.read_out, "per_shape": shapes, "thresholds": []}

    monkeypatch.setattr("pcsa.scripts.reproduce.scoring.evaluate", evaluate)
    monkeypatch.setattr(
        "pcsa.scripts.reproduce.scoring.open_run", lambda *_, **__: SimpleNamespace(task=get_task("supervised"))
    )
    row = {"figures": {}, "shapes": {}}
    wanted = ("expectation", "mode", "ball, 0.02")
    add_scores(row, [Path("a.ckpt")], wanted, split="val", test_time=1, out=tmp_path, device="cpu")
    assert asked == [("expectation", "cpu")]
    # The floor is kept, what is not asked for is not.
    assert row["figures"].keys() == {*wanted, "template"}
