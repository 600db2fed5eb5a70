"""``pcsa predict`` on many files: some of them broken, cut off, called again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.scripts.cli import main
from pcsa.tasks.common.claim import claimed
from pcsa.tasks.common.clouds import CloudPredictor

PCD = "VERSION .7\nFIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 100\nHEIGHT 1\nPOINTS 100\nDATA ascii\n"
BROKEN = {"03.npy": b"no array", "11.pcd": b"VERSION .7\nFIELDS x y z\n", "20.ply": b"ply\n"}


@pytest.fixture
def folder(root, tmp_path):
    """Thirty clouds, three of them broken, and what is not to be read."""
    folder = tmp_path / "clouds"
    folder.mkdir()
    pos = KeypointNet(root, "mug", "val")[0].pos.numpy()
    for i in range(30):
        np.save(folder / f"{i:02}.npy", pos[i : 100 + i])
    for name, content in BROKEN.items():
        (folder / f"{name[:2]}.npy").unlink()
        (folder / name).write_bytes(content)
    for name in ("._00.npy", ".01.npy", "notes.doc", "a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"no cloud")
    return folder


@pytest.fixture
def run(checkpoint, capsys):
    """Predicts, and returns exit status, what is written, and what is said."""

    def run(out, *arguments):
        capsys.readouterr()
        status = main(["predict", str(checkpoint), *map(str, arguments), "--out", str(out), "--no-progress"])
        return status, json.loads(out.read_text()) if out.exists() else None, capsys.readouterr()

    return run


@pytest.fixture
def stop(monkeypatch):
    """Interrupts the prediction of a file while a block runs, and counts those before."""

    @contextlib.contextmanager
    def stop(name):
        predict, seen = CloudPredictor.predict, []

        def watched(self, file):
            seen.append(file.name)
            if file.name == name:
                raise KeyboardInterrupt
            return predict(self, file)

        with monkeypatch.context() as patch:
            patch.setattr(CloudPredictor, "predict", watched)
            yield seen

    return stop


def test_what_is_broken_is_listed_and_the_rest_is_there(run, folder, tmp_path):
    status, written, said = run(tmp_path / "p.json", folder)
    assert status == 3
    assert [item["input"] for item in written["items"]] == [
        str(f) for f in sorted(folder.glob("[0-9]*.npy")) if f.name != "03.npy"
    ]
    assert [fault["input"] for fault in written["failed"]] == [str(folder / name) for name in BROKEN]
    for fault in written["failed"]:
        assert fault["reason"].startswith(f"`{fault['input']}`")
        assert f"  {fault['reason']}\n" in said.err
    assert "failed: 3 of 30 inputs\n" in said.err
    assert "27 predictions of " in said.out
    assert "skipped 3 files: 2 .jpg, 1 .doc\n" in said.out
    assert sorted(f.name for f in tmp_path.iterdir()) == ["clouds", "p.json"]


def test_a_link_that_leads_nowhere_fails_as_other_files_do(run, folder, tmp_path):
    link = folder / "30.npy"
    link.symlink_to("none")
    status, written, _ = run(tmp_path / "p.json", folder)
    assert status == 3
    assert {"input": str(link), "reason": f"`{link}`: No such file or directory"} in written["failed"]


def test_strict_stops_at_the_first_and_keeps_what_was_found(run, folder, tmp_path):
    out = tmp_path / "p.json"
    status, written, said = run(out, folder, "--strict")
    assert (status, written) == (2, None)
    assert said.err.startswith(f"pcsa predict: `{folder / '03.npy'}`")
    assert len((tmp_path / "p.json.partial").read_text().splitlines()) == 1 + 3
    assert run(out, folder)[0] == 3
    assert not (tmp_path / "p.json.partial").exists()


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_a_call_that_is_cut_off_goes_on_to_the_same_file(checkpoint, folder, tmp_path, stop, capsys, suffix):
    arguments = ["predict", str(checkpoint), str(folder), "--no-progress", "--out"]
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"p.{suffix}"
    assert main([*arguments, str(whole)]) == 3
    with stop("17.npy") as seen:
        assert main([*arguments, str(out)]) == 130
    assert f"the same call goes on from {out}.partial" in capsys.readouterr().err
    assert not out.exists()
    partial = tmp_path / f"p.{suffix}.partial"
    # A kill may cut a line.
    with partial.open("a") as file:
        file.write('{"input": "half')
    with stop(None) as again:
        assert main([*arguments, str(out)]) == 3
    assert len(seen) == 18
    # What failed is tried again.
    assert again == ["03.npy", "11.pcd", *sorted(f.name for f in folder.glob("*.*") if "17" <= f.name[:2] <= "29")]
    assert out.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_a_second_call_adds_what_is_new_changed_or_mended(run, root, folder, tmp_path, stop):
    run(tmp_path / "p.json", folder)
    status, first, said = run(tmp_path / "p.json", folder)
    assert status == 3
    assert "27 of 30 inputs were there already\n" in said.out
    pos = KeypointNet(root, "mug", "val")[0].pos.numpy()
    (folder / "20.ply").unlink()
    np.save(folder / "20.npy", pos[20:120])  # another input
    np.save(folder / "03.npy", pos[3:103])  # mended
    np.save(folder / "05.npy", 10 * pos[:77])  # changed
    (folder / "07.npy").write_bytes(b"broken now")
    (folder / "08.npy").unlink()
    with stop(None) as seen:
        status, second, said = run(tmp_path / "p.json", folder)
    assert seen == ["03.npy", "05.npy", "07.npy", "11.pcd", "20.npy"]
    before, after = ({i["input"]: i for i in d["items"]} for d in (first, second))
    changed = {str(folder / name) for name in ("03.npy", "05.npy", "07.npy", "20.npy")}
    assert {k: v for k, v in before.items() if k not in changed} == {k: v for k, v in after.items() if k not in changed}
    assert after[str(folder / "05.npy")]["num_points"] == 77
    # What was found in another content is not what is found in this one.
    assert str(folder / "07.npy") not in after
    # The file is gone, what was found in it is not.
    assert str(folder / "08.npy") in after
    assert sorted(fault["input"] for fault in second["failed"]) == [
        str(folder / name) for name in ("07.npy", "11.pcd", "20.ply")
    ]


def test_other_options_or_another_file_are_not_mixed(run, trained, folder, tmp_path, stop):
    out = tmp_path / "p.json"
    run(out, folder / "00.npy")
    content = out.read_bytes()
    status, _, said = run(out, folder / "00.npy", "--read-out", "mode")
    assert status == 2
    assert "`read_out` (='expectation', now 'mode'): set `overwrite` to replace it, or choose another `out`" in said.err
    assert run(out, folder / "01.npy", "--num-points", "7")[0] == 2
    assert out.read_bytes() == content
    # Neither where the first call was cut off.
    with stop("05.npy"):
        run(tmp_path / "q.json", folder)
    assert "`read_out`" in run(tmp_path / "q.json", folder, "--read-out", "mode")[2].err
    assert run(tmp_path / "q.json", folder)[0] == 3
    # What only says how to go about it is no other option.
    assert run(out, folder / "00.npy", "--strict", "--recursive", "--device", "cpu")[0] == 0
    status, written, _ = run(out, folder / "00.npy", "--read-out", "mode", "--overwrite")
    assert (status, written["read_out"]) == (0, "mode")
    assert len(written["items"]) == 1
    (tmp_path / "mine.json").write_text('{"my": "data"}')
    status, written, said = run(tmp_path / "mine.json", folder / "00.npy")
    assert (status, written) == (2, {"my": "data"})
    assert "mine.json` exists, and `pcsa predict` of this version did not write it" in said.err
    assert main(["predict", str(trained("unsupervised")), str(folder / "00.npy"), "--out", str(out)]) == 2
    assert sorted(f.name for f in tmp_path.iterdir()) == ["clouds", "mine.json", "p.json", "q.json"]


def test_pictures_are_drawn_as_it_goes_and_keep_their_names(run, folder, tmp_path, stop):
    png = tmp_path / "png"
    with stop("04.npy"):
        assert run(tmp_path / "p.json", folder, "--png", png)[0] == 130
    assert sorted(f.name for f in png.iterdir()) == ["00.npy.png", "01.npy.png", "02.npy.png"]
    (png / "01.npy.png").unlink()
    for file in folder.iterdir():
        if file.name > "06":
            file.unlink()
    before = (png / "00.npy.png").stat().st_mtime_ns
    with stop(None) as seen:
        assert run(tmp_path / "p.json", folder, "--png", png)[0] == 3
    # One picture was missing.
    assert seen == ["01.npy", "03.npy", "04.npy", "05.npy"]
    assert sorted(f.name for f in png.iterdir()) == [f"0{i}.npy.png" for i in (0, 1, 2, 4, 5)]
    assert (png / "00.npy.png").stat().st_mtime_ns == before
    # Another cloud of the same name does not take the picture of the first.
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "00.npy", np.load(folder / "00.npy")[:50])
    _, written, _ = run(tmp_path / "p.json", tmp_path / "other", "--png", png)
    assert (png / "00.npy.png").stat().st_mtime_ns == before
    assert (png / "other" / "00.npy.png").exists()
    assert len(written["items"]) == 6


def test_a_picture_that_cannot_be_drawn_is_listed(run, folder, tmp_path, monkeypatch, checkpoint):
    from pcsa.viz import png as drawing

    titled = drawing.titled

    def fragile(picture, title, *rest):
        if title == "01.npy":
            raise RuntimeError("no way")
        return titled(picture, title, *rest)

    monkeypatch.setattr(drawing, "titled", fragile)
    names = [folder / f"0{i}.npy" for i in range(3)]
    status, written, _ = run(tmp_path / "p.json", *names, "--png", tmp_path / "png")
    assert status == 3
    assert [os.path.basename(item["input"]) for item in written["items"]] == ["00.npy", "02.npy"]
    assert "01.npy`: its picture cannot be drawn (RuntimeError: no way)" in written["failed"][0]["reason"]
    assert sorted(f.name for f in (tmp_path / "png").iterdir()) == ["00.npy.png", "02.npy.png"]


def test_subfolders_keep_files_of_one_name_apart(run, folder, tmp_path):
    for name in ("a", "b/c"):
        (tmp_path / "in" / name).mkdir(parents=True)
        np.save(tmp_path / "in" / name / "x.npy", np.load(folder / "00.npy")[: 40 + len(name)])
    png = tmp_path / "in" / "png"
    for _ in range(2):
        status, written, _ = run(tmp_path / "p.json", tmp_path / "in", "--recursive", "--png", png)
        assert status == 0
        assert {item["input"]: item["num_points"] for item in written["items"]} == {
            str(tmp_path / "in" / "a" / "x.npy"): 41,
            str(tmp_path / "in" / "b" / "c" / "x.npy"): 43,
        }
        assert sorted(f.relative_to(png).as_posix() for f in png.rglob("*.png")) == ["a/x.npy.png", "b/c/x.npy.png"]


def test_numbers_are_those_of_the_cloud_to_the_last_digit(run, checkpoint, folder, tmp_path):
    offset = np.array([500_000.25, 5_412_345.5, 312.125])  # as UTM coordinates
    np.save(tmp_path / "utm.npy", np.load(folder / "00.npy").astype(np.float64) + offset)
    _, written, _ = run(tmp_path / "p.json", tmp_path / "utm.npy")
    item = written["items"][0]
    points = np.load(tmp_path / "utm.npy")
    np.testing.assert_array_equal(item["point"], points[item["index"]])
    assert main(["predict", str(checkpoint), str(tmp_path / "utm.npy"), "--out", str(tmp_path / "p.npz")]) == 0
    arrays = np.load(tmp_path / "p.npz")
    for name in ("position", "point", "covariance"):
        assert arrays[name].dtype == np.float64
        np.testing.assert_array_equal(arrays[name][0], item[name])


def test_columns_are_named_and_invalid_points_are_dropped_and_counted(run, folder, tmp_path):
    points = np.load(folder / "00.npy").astype(np.float64)
    points[[5, 7]] = np.nan
    np.savetxt(tmp_path / "a.xyz", np.c_[np.arange(100), points])
    np.save(tmp_path / "b.npy", np.c_[np.zeros(100), points])
    # The columns of this one have names of their own.
    (tmp_path / "c.pcd").write_text(PCD + "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in points.tolist()))
    inputs = [tmp_path / "a.xyz", tmp_path / "b.npy", tmp_path / "c.pcd"]
    assert run(tmp_path / "p.json", *inputs)[0] == 3
    # Where nothing was found, nothing has to be overwritten.
    status, written, said = run(tmp_path / "p.json", *inputs, "--columns", "label x y z")
    assert status == 3
    assert said.err.count("2 points are not finite") == 3
    options = ["--columns", "label x y z", "--drop-invalid"]
    status, written, _ = run(tmp_path / "p.json", *inputs, *options)
    assert status == 0
    assert [(item["num_points"], item["num_dropped"]) for item in written["items"]] == [(98, 2)] * 3
    kept = np.delete(points, [5, 7], 0)
    for item in written["items"]:
        np.testing.assert_array_equal(item["point"], kept[item["index"]])


def test_what_is_not_finite_is_no_prediction(run, folder, tmp_path, monkeypatch):
    predict = CloudPredictor.predict

    def odd(self, file):
        for found in predict(self, file):
            yield found._replace(fields={**found.fields, "entropy": [float("nan")]}) if "01" in file.name else found

    monkeypatch.setattr(CloudPredictor, "predict", odd)
    status, written, _ = run(tmp_path / "p.json", folder / "00.npy", folder / "01.npy")
    assert status == 3
    assert written["failed"][0]["reason"].endswith("01.npy`: the prediction has numbers that are not finite")
    assert len(written["items"]) == 1


def test_two_calls_do_not_write_one_file(run, folder, tmp_path):
    with claimed(tmp_path / "p.json"):
        status, written, said = run(tmp_path / "p.json", folder)
    assert (status, written) == (2, None)
    assert f"`{tmp_path / 'p.json'}` is being written by process {os.getpid()} on " in said.err
    assert [f.name for f in tmp_path.iterdir()] == ["clouds"]


@pytest.mark.slow
def test_a_call_that_is_killed_leaves_what_it_found(checkpoint, folder, tmp_path):
    for file in folder.iterdir():
        if file.name > "12":
            file.unlink()
    command = [sys.executable, "-m", "pcsa.scripts.cli", "predict", str(checkpoint), str(folder), "--out", "p.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Pictures take time enough to be killed in.
    killed = subprocess.Popen([*command, "--png", "png"], cwd=tmp_path, env=environment)
    partial = tmp_path / "p.json.partial"
    end = time.monotonic() + 100
    while not (partial.exists() and partial.read_bytes().count(b"\n") > 4):
        assert killed.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    done = partial.read_bytes().count(b"\n") - 1
    again = subprocess.run([*command, "--png", "png"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 3, again.stderr
    assert f"{done} of 12 inputs were there already" in again.stdout
    assert (
        main(
            [
                "predict",
                str(checkpoint),
                str(folder),
                "--out",
                str(tmp_path / "q.json"),
                "--png",
                str(tmp_path / "png2"),
            ]
        )
        == 3
    )
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "q.json").read_bytes()
    for picture in (tmp_path / "png2").iterdir():
        assert (tmp_path / "png" / picture.name).read_bytes() == picture.read_bytes()
