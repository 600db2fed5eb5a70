"""``pcsa report`` as a user calls it, and its curves."""

import json
import logging

import numpy as np
import pytest

from pcsa.scripts.cli import main
from pcsa.scripts.report import read_log
from pcsa.viz import plots


@pytest.fixture
def runs(tmp_path):
    """Two runs whose curves are known, the second resumed once and with a name to be careful with."""
    thresholds = [0.0, 0.01, 0.05, 0.1]
    folders = []
    for i, name in enumerate(("sampling", "<b>soft $x$")):
        folder = tmp_path / "runs" / str(i) / name
        folders.append(folder)
        distance = {"pck": [0.0, 0.4 + 0.1 * i, 0.7, 1.0], "mean_error": 0.02}
        metrics = {
            "task": "supervised",
            "category": "mug",
            "num_items": 5,
            "thresholds": thresholds,
            "overall": {
                "euclidean": distance,
                "geodesic": {**distance, "mean_error": None},
                "presence_average_precision": None,
                "calibration": {
                    "threshold": 0.01,
                    "pearson": None,
                    "reliability": {"confidence": [0.2, 0.6, None], "accuracy": [0.1, 0.5, None], "counts": [3, 3, 0]},
                },
            },
            "per_keypoint": {"mug": {"rim": {"num_shapes": 5, "euclidean": distance}}},
        }
        for part in range(i + 1):
            log = folder / "log" / f"version_{part}"
            log.mkdir(parents=True)
            rows = "".join(f"{s // 10},{1 / (s + 1)},,{s}\n" for s in range(30 * part, 30 * part + 35))
            (log / "metrics.csv").write_text(f"epoch,loss,val_pck@0.01,step\n{rows}0,,0.5,34\n")
        (folder / "metrics-val.json").write_text(json.dumps(metrics))
    return folders


def test_report(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    pictures = ["keypoints-mug.png", "pck.png", "reliability.png", "training.png"]
    assert sorted(f.name for f in out.glob("*.png")) == pictures
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(pictures)
    assert "&lt;b&gt;soft $x$" in page
    assert "<b>soft" not in page
    assert "<td>40</td>" in page
    assert "<td>50</td>" in page
    assert "http" not in page  # nothing from a network


def _rows(page):
    """The rows of the tables of a page, each by the heads."""
    found = []
    for table in page.split("<table>")[1:]:
        lines = table.split("</table>")[0].strip().splitlines()
        heads, *rows = ([c.split("</")[0] for c in line.replace("<td>", "<th>").split("<th>")[1:]] for line in lines)
        found += [dict(zip(heads, row, strict=True)) for row in rows]
    return found


def test_columns_are_those_of_the_tasks(trained, scored, tmp_path):
    names = ("supervised", "unsupervised", "pose2d", "oct", "landmarks")
    metrics = {name: scored(name)[0] for name in names}
    assert main(["report", *(str(trained(n).parent) for n in names), "--split", "test", "--out", str(tmp_path)]) == 0
    found = _rows((tmp_path / "report.html").read_text())
    rows = dict(zip(names, (row for row in found if "figures of" not in row), strict=True))
    assert [row["task"] for row in rows.values()] == list(names)
    assert [row["items"] for row in rows.values()] == ["2", "2", "4", "4", "4"]
    assert [row.get("category") for row in rows.values()] == ["mug", None, None, None, None]
    assert [row["objective"] for row in rows.values()] == ["cross_entropy", *["sampling"] * 4]
    euclidean = metrics["supervised"]["overall"]["euclidean"]
    assert rows["supervised"]["PCK@0.1"] == f"{100 * euclidean['pck'][10]:.3g}"
    assert rows["supervised"]["mean error"] == f"{euclidean['mean_error']:.3g}"
    for part, head in (("category", "DAS, all shapes"), ("held_out", "DAS")):
        scores = metrics["unsupervised"][part]["rows"]["detector"]
        assert rows["unsupervised"][head] == f"{100 * scores['dual_alignment']['mean']:.3g}"
    assert rows["unsupervised"]["mIoU@0.1"] == f"{100 * scores['miou_euclidean'][-1]:.3g}"
    assert rows["unsupervised"]["mIoU@0.1 geodesic"] == f"{100 * scores['miou_geodesic'][-1]:.3g}"
    assert rows["pose2d"]["AP"] == f"{100 * metrics['pose2d']['average_precision']['AP']:.3g}"
    assert rows["oct"]["MAD (px)"] == f"{metrics['oct']['mean_px']:.3g}"
    assert rows["landmarks"]["NME (%)"] == f"{100 * metrics['landmarks']['nme']:.3g}"
    # Each task has a table of its own: the PCK of people and of clouds have other units.
    assert rows["pose2d"].keys() & rows["supervised"].keys() >= {"PCK@0.1"}
    assert "MAD (px)" not in rows["landmarks"]
    # What no run has makes no column.
    assert "pck_head@0.5" not in metrics["pose2d"]
    assert "PCKh@0.5" not in rows["pose2d"]


def test_figures_beside_the_columns_are_those_of_the_files(trained, scored, tmp_path):
    names = ("supervised", "unsupervised")
    metrics = {name: scored(name)[0] for name in names}
    assert main(["report", *(str(trained(n).parent) for n in names), "--split", "test", "--out", str(tmp_path)]) == 0
    rows = [row for row in _rows((tmp_path / "report.html").read_text()) if "figures of" in row]
    detector, skeleton = ({r["figures of"]: r for r in rows if r["task"] == name} for name in names)
    assert all(row["run"] == trained(row["task"]).parent.name for row in rows)
    for name, scores in metrics["supervised"]["read_outs"].items():
        row = detector["template of the training labels (floor)" if name == "template" else name]
        at = metrics["supervised"]["thresholds"].index(0.01)
        for head, kind in (("PCK@0.01", "euclidean"), ("on a point @0.01", "surface"), ("geodesic @0.01", "geodesic")):
            assert row[head] == f"{100 * scores[kind]['pck'][at]:.3g}"
        if name != "template":
            assert row["ECE"] == f"{scores['mass']['expected_calibration_error']:.3g}"
            assert (row["mass"], row["right"]) == tuple(f"{scores['mass'][k]:.3g}" for k in ("mean", "correct"))
            assert row.get("r", "–") == (
                "–" if scores["mass"]["pearson"] is None else f"{scores['mass']['pearson']:.3g}"
            )
    ceiling = metrics["supervised"]["labels"]["ceiling"]
    assert detector["ceiling of the labels"]["PCK@0.02"] == f"{100 * ceiling[2]:.3g}"
    scores = {part: metrics["unsupervised"][part]["rows"] for part in ("category", "held_out")}
    for title, key in (("detector", "detector"), ("template in each cloud's box", "template_in_box")):
        row = skeleton[title.replace("'", "&#x27;")]
        assert row["DAS, all shapes"] == f"{100 * scores['category'][key]['dual_alignment']['mean']:.3g}"
        assert row["mIoU@0.1"] == f"{100 * scores['held_out'][key]['miou_euclidean'][-1]:.3g}"


def test_figures_of_an_old_file_are_left_out(runs, tmp_path):
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    assert "figures of" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("task", [None, "invented"])
def test_metrics_without_a_known_task_have_their_name_alone(runs, task, tmp_path, caplog):
    file = runs[1] / "metrics-val.json"
    metrics = json.loads(file.read_text())
    del metrics["task"]
    file.write_text(json.dumps({**metrics, **({} if task is None else {"task": task})}))
    with caplog.at_level(logging.WARNING):
        assert main(["report", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    first, second = _rows((tmp_path / "out" / "report.html").read_text())
    assert (first["task"], first["PCK@0.01"]) == ("supervised", "40")
    assert second == {"run": "&lt;b&gt;soft $x$"}
    assert "<b>soft $x$: its metrics name no task of this version" in caplog.text


def test_a_run_without_metrics_shows_its_log(runs, tmp_path, caplog):
    (runs[0] / "metrics-val.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert main(["report", str(runs[0]), "--out", str(tmp_path / "out")]) == 0
    assert "has no metrics-val.json: pcsa evaluate writes it" in caplog.text
    assert _rows((tmp_path / "out" / "report.html").read_text()) == [{"run": "sampling"}]
    assert [f.name for f in (tmp_path / "out").glob("*.png")] == ["training.png"]
    # The configuration says what was trained, and how.
    about = {"task": "supervised", "config": {"objective": {"method": "soft", "plus": [["nll", 0.1]]}}}
    (runs[0] / "config.json").write_text(json.dumps(about))
    assert main(["report", str(runs[0]), "--out", str(tmp_path / "out")]) == 0
    row = {"run": "sampling", "task": "supervised", "objective": "soft + 0.1 nll"}
    assert _rows((tmp_path / "out" / "report.html").read_text()) == [row]
    about["config"] |= {"seed": 3, "optimizer": {"steps": 800, "epochs": None}}
    (runs[0] / "config.json").write_text(json.dumps(about))
    assert main(["report", str(runs[0]), "--out", str(tmp_path / "out"), "--picture-format", "pdf"]) == 0
    assert (tmp_path / "out" / "training.pdf").read_bytes().startswith(b"%PDF")
    row |= {"steps": "800", "seed": "3"}
    assert _rows((tmp_path / "out" / "report.html").read_text()) == [row]


def test_curves_hold_the_numbers_of_the_files(runs):
    metrics = {f.name: json.loads((f / "metrics-val.json").read_text()) for f in runs}
    figure = plots.plot_pck(metrics)
    euclidean, _geodesic = figure.axes
    assert [a.get_title() for a in figure.axes] == ["Euclidean", "geodesic"]
    np.testing.assert_allclose(euclidean.lines[1].get_ydata(), [0, 50, 70, 100])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [f.name for f in runs]
    assert not any(t.get_parse_math() for t in figure.legends[0].get_texts())
    bins = plots.plot_reliability(metrics).axes[0].lines[1]
    np.testing.assert_array_equal(bins.get_xdata(), [0.2, 0.6, np.nan])
    bars = plots.plot_keypoints(metrics, "mug").axes[0].patches
    assert [b.get_height() for b in bars] == [0.02, 0.02]
    # A resumed run's parts are one curve, and the later part counts where both have a step.
    log = read_log(runs[1] / "log")
    np.testing.assert_array_equal(log["loss"][0], np.arange(65))
    np.testing.assert_allclose(log["loss"][1], 1 / np.arange(1, 66))
    np.testing.assert_array_equal(log["val_pck@0.01"][1], [0.5])
    assert plots.plot_miou(metrics) is None


def test_miou_is_drawn_with_its_floors():
    rows = {"detector": {"miou_geodesic": [0.0, 0.5]}, "template": {"miou_geodesic": [0.1, 0.2], "miou_other": [1.0]}}
    metrics = {
        "a": {"held_out": {"thresholds": [0.0, 0.1], "rows": rows}},
        "b": {"category": "bed", "thresholds": [0.0, 0.1], "overall": {}},
    }
    curves = [(title, row) for m in metrics.values() for title, row, *_ in plots.miou_curves(m)]
    assert curves == [("geodesic, held out", "detector"), ("geodesic, held out", "template")]
    figure = plots.plot_miou(metrics)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0, 50])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "a: template"]


def test_a_broken_log_is_named(runs, tmp_path, refused):
    file = runs[0] / "log" / "version_0" / "metrics.csv"
    file.write_text("epoch,loss,step\n0,many,1\n")
    assert str(file) in refused(["report", runs[0], "--out", tmp_path / "out"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics-val.json", '{"task": "supervised", "overall": 3}'),
        ("metrics-val.json", '{"task": "supervised", "overall": {"euclidean": {"pck": "high"}}}'),
        ("metrics-val.json", '{"per_keypoint": ['),
        ("metrics-val.json", "\xff"),
        ("config.json", '{"task": "supervised", "config": []}'),
        ("config.json", "[]"),
        ("log/version_0/metrics.csv", "epoch,loss,step\n0,many,1\n"),
        ("log/version_0/metrics.csv", "epoch,loss,step\n0,1,2,3\n"),
        ("log/version_0/metrics.csv", "epoch,loss,step\n0,\xff,2\n"),
    ],
)
def test_a_broken_file_is_named(runs, tmp_path, refused, name, content):
    (runs[0] / name).write_text(content, encoding="latin-1")
    message = refused(["report", *runs, "--out", tmp_path / "out"])
    assert message.startswith(f"pcsa report: `{runs[0]}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "`runs` must name at least one folder or metrics file"),
        (["EMPTY"], "has neither metrics-val.json"),
        (["EMPTY/none"], "neither a run's folder nor a metrics file"),
        (["CHECKPOINT"], "cannot be read as JSON"),
        (["ROOT", "ROOT"], "must be different"),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(root, checkpoint, tmp_path, refused, arguments, message):
    for name, value in {"CHECKPOINT": checkpoint, "EMPTY": tmp_path, "ROOT": root}.items():
        arguments = [a.replace(name, str(value)) for a in arguments]
    assert message in refused(["report", *arguments, "--out", tmp_path / "r"])
    assert not list(tmp_path.iterdir())


def test_any_number_of_runs_with_any_names_have_a_page(tmp_path):
    """Thirty runs, and names that matplotlib, a file system or a page might take for something else."""
    names = [
        "_hidden",
        "$x_1$ 100% & more",
        "左眼",
        "🙂",
        "שלום",
        "<script>alert(1)</script>",
        "x" * 120,
        *map(str, range(23)),
    ]
    keypoints = [
        "a keypoint whose name is longer than anybody reads, all eighty letters of it " + str(k) for k in range(60)
    ]
    for i, name in enumerate(names):
        folder = tmp_path / "runs" / f"{i}" / name.replace("/", "")
        folder.mkdir(parents=True)
        distance = {"pck": [0.0, float("nan"), 1.0], "mean_error": float("nan")}
        metrics = {
            "task": "supervised",
            "category": "a/b",
            "num_items": 5,
            "thresholds": [0.0, 0.05, 0.1],
            "overall": {"euclidean": distance},
            "per_keypoint": {"a/b $c$": {k: {"num_shapes": 1, "euclidean": distance} for k in keypoints}},
        }
        (folder / "metrics-val.json").write_text(json.dumps(metrics))
    out = tmp_path / "out"
    assert (
        main(["report", *(str(f.parent) for f in tmp_path.glob("runs/*/*/metrics-val.json")), "--out", str(out)]) == 0
    )
    page = (out / "report.html").read_text(encoding="utf-8")
    for word in ("undefined", "nan<", "None", "<script"):
        assert word not in page
    assert sorted(f.name for f in out.glob("*.png")) == ["keypoints-a_b__c_.png", "pck.png"]
    from PIL import Image

    for file in out.glob("*.png"):
        with Image.open(file) as picture:
            assert max(picture.size) < 4500


def test_the_legend_leaves_the_panels_their_room():
    metrics = {
        f"_run {'x' * 60 * (i % 2)}{i}": {"thresholds": [0, 1], "overall": {"euclidean": {"pck": [0.0, 1.0]}}}
        for i in range(30)
    }
    figure = plots.plot_pck(metrics)
    figure.draw_without_rendering()
    box = figure.axes[0].get_window_extent()
    assert box.height > 150
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 < box.y0
    assert legend.y0 >= 0
    assert len(figure.legends[0].get_texts()) == 30
    assert (
        len({line.get_color() if isinstance(c := line.get_color(), str) else tuple(c) for line in figure.axes[0].lines})
        == 30
    )


def test_curves_go_on_around_values_that_are_not_finite():
    steps = np.arange(100.0)
    values = np.ones(100)
    values[[10, 50]] = np.nan, np.inf
    curve = plots.plot_training({"run": {"loss": (steps, values)}}).axes[0].lines[-1].get_ydata()
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(curve)), [10, 50])
    np.testing.assert_allclose(curve[np.isfinite(curve)], 1)


@pytest.mark.parametrize(
    "broken",
    [
        {"thresholds": None},
        {"overall": {"euclidean": {}}},
        {"per_keypoint": {"mug": {"rim": 3}}},
        {"read_outs": {"peak": {}}, "confidence": {"threshold": 0.01}, "labels": {}},
    ],
)
def test_malformed_metrics_are_named(runs, tmp_path, refused, broken):
    file = runs[0] / "metrics-val.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **broken}))
    assert "sampling`: its metrics" in refused(["report", *runs, "--out", tmp_path / "out"])
