"""What the fuzzing has found, once each: how a whole file is to be changed so that an old reader fails at it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import fuzz_outputs as outputs
import fuzz_seeds as seeds


def _json(make: Callable[[], list[bytes]], **changes: object) -> bytes:
    content = json.loads(make()[0])
    first = content[0] if isinstance(content, list) else content
    first.update(changes)
    return json.dumps(content).encode()


def _patched(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def _matrix(kind: int, shape: tuple[int, ...], *values: bytes) -> bytes:
    axes = struct.pack(f"<{len(shape)}i", *shape).ljust((4 * len(shape) + 7) // 8 * 8, b"\0")
    body = struct.pack("<IIII", 6, 8, kind, 0) + struct.pack("<II", 5, 4 * len(shape)) + axes
    body += struct.pack("<II", 1, 6) + b"joints\0\0" + b"".join(values)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + struct.pack("<II", 14, len(body)) + body


def _circle() -> bytes:
    import io

    import numpy as np
    import tifffile

    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((4, 4), np.float16))
    content = stream.getvalue()
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    return _patched(content, first + 2 + 12 * count, struct.pack("<I", first))


def _frames_of_no_character() -> bytes:
    import io

    import numpy as np

    with np.load(io.BytesIO(seeds.frames()[0])) as loaded:
        frames = dict(loaded)
    text = frames["imgname"].copy()
    text.view(np.uint32)[0] = 0x110000
    return seeds.npz(**{**frames, "imgname": text})


REGRESSIONS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "box of numbers beyond 64 bits": ("coco detections", lambda: _json(seeds.detections, bbox=[10**30, 1, 10**30, 9])),
    "face list of one line": ("mtfl", lambda: seeds.mtfl()[0].splitlines(keepends=True)[0]),
    "method that is a number": ("studies", lambda: outputs.studies()[0].replace(b"[methods]", b"[methods]\nodd = 3")),
    "category that is a path": ("studies", lambda: b'categories = ["../../x"]\n' + b"\n".join(
        line for line in outputs.studies()[0].splitlines() if not line.startswith(b"categories"))),
    "run that is an object": ("shapes", lambda: json.dumps({"run": {}}).encode() + b"\n"),
    "directory of a zip file before its begin": (
        "predictions npz", lambda: outputs.predictions_npz()[0][:-6] + b"\xff\xff\xff\xff\0\0"
    ),
    "record without items": ("records", lambda: outputs.records()[0].replace(b'"items"', b'"x"')),
    "brackets without end": ("records", lambda: outputs.records()[0] + b"[" * 100_000 + b"\n"),
    "brackets without end in annotations": ("annotations", lambda: b'[{"keypoints": ' + b"[" * 100_000),
    "boxes without end": ("boxes", lambda: b'{"a":' * 100_000),
    "pickle that takes from nothing": ("weights", lambda: b"\x80\x02]q\x00ee."),
    "pages that follow themselves": ("images", _circle),
    "laser chunk of four billion points": ("laz", lambda: _patched(seeds.laz()[0], 296, b"\xff")),
    "cells of two billion": ("mat", lambda: _matrix(1, (1 << 30, 2))),
    "cells that are negative": ("mat", lambda: _matrix(1, (-1, -1))),
    "numbers of a shape beyond 64 bits": ("mat", lambda: _matrix(6, (1 << 30,) * 3, struct.pack("<II", 9, 0))),
    "axes that are many": ("mat", lambda: _matrix(6, (1,) * 40, struct.pack("<IId", 9, 8, 0.0))),
    "text as numbers": ("mat", lambda: _matrix(4, (1, 1), struct.pack("<IIH", 4, 2, 65))),
    "surfaces of two billion": ("delineations", lambda: _matrix(1, (1 << 30, 2)).replace(b"joints", b"bd_pts")),
    "array of a tebibyte": ("npy", lambda: seeds.npy(seeds.POINTS).replace(b"(40, 3), }      ", b"(1099511627776,)}")),
    "half a character in a landmark": ("landmarks json", lambda: seeds.markups()[0].replace(b"nose", b"\\ud800")),
    "half a character in a keypoint": ("annotations", lambda: _json(seeds.annotations, model_id="\udfff")),
    "text that is no character": ("frames", lambda: _frames_of_no_character()),
    "state that is a number": ("checkpoints", lambda: _checkpoint(state_dict=3)),
    "layers without end": ("checkpoints", lambda: _checkpoint(model={"channels": [2] * 2000})),
    "layers beyond memory": ("checkpoints", lambda: _checkpoint(model={"channels": [10**6, 10**6]})),
    "network that is a number": ("detectors", lambda: _detector(3, {})),
    "network of many letters": ("detectors", lambda: _detector("a" * 10**6 + ":A", {})),
    "network that is a command": ("detectors", lambda: _detector("os:system", {"command": "touch /"})),
    "network that clears the cache": ("detectors", lambda: _detector("pcsa.datasets.cache:clear_cache", {})),
    "network that is a function of pcsa": ("detectors", lambda: _detector("pcsa.models:load_imagenet_weights", {})),
    "options that are a list": ("detectors", lambda: _detector("a:B", [1])),
    "options of no JSON": ("detectors", lambda: _detector("a:B", {"a": {1, 2}})),
    "options without a network": ("detectors", lambda: _detector(None, {"a": 1})),
    "network beyond memory": ("detectors", lambda: _detector("pcsa.models:PointNet2", {"out_channels": 2**40})),
    "network without end": ("detectors", lambda: _detector("pcsa.models:PointNet2", {"local_blocks": 10**9})),
}  # fmt: skip


#: Those that a reader makes something of: a box that is cut off at the picture, and a journal that begins anew.
READ = ("box of numbers beyond 64 bits", "brackets without end")


def _detector(backbone: object, options: object) -> bytes:
    import io

    import torch

    stream = io.BytesIO()
    torch.save(outputs.detector_content(backbone, options), stream)
    return stream.getvalue()


def _checkpoint(model: object = None, **changes: object) -> bytes:
    import io

    import torch

    content = {**outputs.checkpoint_content(), **changes}
    if model is not None:
        content["pcsa"]["config"]["model"] = model
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()
