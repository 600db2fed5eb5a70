"""Show that a change of the code changes no number: train, score and predict each task, before and after.

    python tests/fingerprint.py write CHECKOUT before.json     # in a checkout of the old state
    python tests/fingerprint.py write CHECKOUT after.json
    python tests/fingerprint.py compare before.json after.json

Each case runs the commands of the checkout in processes of their own, on one thread. Written are a hash of the weights
of the checkpoint and every number of the metrics and of the predictions, to the last bit. A number may move within its
file; it may not change or be lost.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

DATA = os.environ.get("PCSA_TEST_DATA")
SMALL = "--optimizer.steps 4 --optimizer.batch-size 4 --trainer.no-progress"
CLOUDS = f"{SMALL} --model.out-channels 16"
MUGS = f"{CLOUDS} --data.category mug --data.num-shapes 30"
# Fields that say the same number by another name than before.
RENAMED = {"num_clouds": "num_items", "num_clouds_missing": "num_missing"}
# Name: arguments of `pcsa train`, kind of the inputs that are predicted.
CASES = {
    "supervised": (f"supervised {MUGS}", "clouds"),
    "supervised-soft": (f"supervised soft {MUGS} --seed 1 --objective.regularization js", "clouds"),
    "supervised-nll": (
        f"supervised {MUGS} --objective.method nll --data.precompute --data.augment.axis-scale 0 --data.num-keypoints 3"
        " --model.norm group",
        "clouds",
    ),
    "supervised-multi": (f"supervised {MUGS} --model.scales multi --objective.method cross_entropy", "clouds"),
    "unsupervised": (f"unsupervised {MUGS}", "clouds"),
    "unsupervised-soft": (f"unsupervised soft {MUGS} --model.anchors farthest --objective.mirror-weight 1", "clouds"),
    "pose2d": (f"pose2d {SMALL} --data.num-images 20", "images"),
    "pose2d-unet": (f"pose2d {SMALL} --data.num-images 20 --model.network unet --objective.basis gaussian", "images"),
    "pose3d": (f"pose3d {SMALL} --data.num-items 20", "volumes"),
    "pose3d-image": (f"pose3d image {SMALL} --data.num-items 20 --objective.form released", "images"),
    "oct": (f"oct {SMALL} --data.num-scans 20", "scans"),
    "landmarks": (f"landmarks {SMALL} --data.num-images 20 --objective.method soft", "images"),
}
REAL = {
    "supervised-beds": (
        f"supervised {CLOUDS} --data.root {DATA}/keypointnet --data.category bed --optimizer.steps 2",
        "clouds",
    ),
    "unsupervised-beds": (
        f"unsupervised {CLOUDS} --data.root {DATA}/keypointnet --data.category bed --optimizer.steps 2",
        "clouds",
    ),
    "pose2d-lsp": (f"pose2d {SMALL} --data.root {DATA}/lsp --data.layout lsp", "images"),
    "landmarks-mtfl": (f"landmarks {SMALL} --data.root {DATA}/mtfl", "images"),
    "oct-scan": (f"oct {SMALL} --data.root {DATA}/oct --data.input-size 128 64", "scans"),
}


def write_inputs(folder):
    """Inputs of every kind that `pcsa predict` reads, made from a seed."""
    rng = np.random.default_rng(0)
    for kind in ("clouds", "images", "volumes", "scans"):
        (folder / kind).mkdir()
    np.save(folder / "clouds" / "a.npy", rng.normal(size=(300, 3)) + 5)
    np.save(folder / "clouds" / "b.npy", rng.normal(size=(500, 3)) * 100)
    (folder / "clouds" / "c.off").write_text(
        "OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
    )
    from PIL import Image

    for name, size in (("a.png", (90, 70)), ("b.png", (64, 128))):
        Image.fromarray(rng.integers(0, 256, size=(*size, 3), dtype=np.uint8)).save(folder / "images" / name)
    for name in "ab":
        np.save(folder / "volumes" / f"{name}.npy", rng.random((32, 32, 32), dtype=np.float32))
        np.save(folder / "scans" / f"{name}.npy", rng.random((128, 64), dtype=np.float32))


def leaves(value, key=""):
    """Every number below ``value``, as (name of the field, exact text)."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    elif value is None or isinstance(value, (int, float)):
        yield f"{key} {value!r}"


def renamed(leaf):
    """A number under its present name."""
    name, _, value = leaf.partition(" ")
    return f"{RENAMED.get(name, name)} {value}"


def fingerprint(checkout, case, arguments, inputs, folder):
    """What one case comes to in a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}

    def pcsa(*args):
        done = subprocess.run(
            [sys.executable, "-m", "pcsa.scripts.cli", *args],
            capture_output=True, text=True, env=environment, cwd=folder,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{case}: pcsa {' '.join(args)}\n{done.stderr[-3000:]}")

    out = folder / case
    pcsa("train", *arguments.split(), "--out", str(out))
    checkpoint = torch.load(out / "last.ckpt", weights_only=True)
    digest = hashlib.sha256()
    for name, value in sorted(checkpoint["state_dict"].items()):
        # The name within the network: what the training calls its network is no number.
        digest.update(name.partition(".")[2].encode() + value.contiguous().numpy().tobytes())
    split = "val" if case.endswith("-beds") else "test"
    pcsa("evaluate", str(out / "last.ckpt"), "--split", split, "--batch-size", "8", "--out", str(out / "metrics.json"))
    pcsa(
        "predict", str(out / "last.ckpt"), str(inputs),
        "--out", str(out / "predictions.json"), "--png", str(out / "pictures"),
    )  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    predictions = json.loads((out / "predictions.json").read_text())
    items = predictions.get("items", predictions.get("clouds"))
    return {
        "weights": digest.hexdigest(),
        "metrics": sorted(leaves(metrics)),
        "predictions": [sorted(leaves(item)) for item in items],
    }


def write(checkout, file):
    """Run every case in a checkout."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder)
        for case, (arguments, kind) in {**CASES, **(REAL if DATA else {})}.items():
            found[case] = fingerprint(Path(checkout).resolve(), case, arguments, folder / kind, folder)
            print(f"{case}: weights {found[case]['weights'][:16]}, {len(found[case]['metrics'])} numbers", flush=True)
    Path(file).write_text(json.dumps(found, indent=1) + "\n")


def compare(before, after):
    """Exit with 1 if a number has changed or is gone."""
    old, new = (json.loads(Path(file).read_text()) for file in (before, after))
    different = 0
    for case in old:
        wrong = []
        if case not in new:
            wrong.append("is missing")
        else:
            if old[case]["weights"] != new[case]["weights"]:
                wrong.append("weights differ")
            pairs = [("metrics", old[case]["metrics"], new[case]["metrics"])]
            rows = (old[case]["predictions"], new[case]["predictions"])
            if len(rows[0]) != len(rows[1]):
                wrong.append("numbers of predictions differ")
            pairs += [(f"prediction {i}", a, b) for i, (a, b) in enumerate(zip(*rows, strict=False))]
            for what, a, b in pairs:
                lost = Counter(map(renamed, a)) - Counter(map(renamed, b))
                if lost:
                    wrong.append(f"{what}: {sum(lost.values())} of {len(a)} numbers differ, such as {next(iter(lost))}")
        different += bool(wrong)
        print(f"{case}: {'; '.join(wrong) or 'bit-equal'}")
    print(f"{len(old) - different} of {len(old)} cases are bit-equal")
    return int(different > 0)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("write", "compare"):
        sys.exit(__doc__)
    sys.exit({"write": write, "compare": compare}[sys.argv[1]](*sys.argv[2:]))
