"""What NumPy and SciPy search for an exported graph is what the library searches."""

import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pcsa
from pcsa import exported
from pcsa.models import MULTI_SCALE, SINGLE_SCALE, Level, build_geometry
from pcsa.neighbors import farthest_points
from pcsa.tasks.common.programs import geometry_names, normalized, packed

KEEPS_ALL = (Level(None, (0.3,), (8,), ((4,),)), Level(20, (0.5,), (8,), ((4,),)))


def clouds(*sizes, copies=0):
    rng = np.random.default_rng(sum(sizes))
    made = [rng.normal(size=(n, 3)).astype(np.float32) for n in sizes]
    for cloud in made:
        cloud[1 : 1 + copies] = cloud[0]
    return made


@pytest.mark.parametrize("levels", [SINGLE_SCALE, MULTI_SCALE, KEEPS_ALL])
@pytest.mark.parametrize("frame", ["unit_sphere", "min_max"])
@pytest.mark.parametrize("given", [clouds(700, 90, 1, 4), clouds(40), clouds(60, 50, copies=7)])
def test_the_same_as_the_library(levels, frame, given):
    known = {"frame": frame, "local_neighbors": 5, "levels": [asdict(level) for level in levels]}
    found = exported.inputs_of(given, known)
    points, ptr = torch.from_numpy(found["points"]), torch.from_numpy(found["ptr"])
    batch = torch.searchsorted(ptr, torch.arange(len(points)), right=True) - 1
    pos, _, _ = normalized(points, batch, ptr, frame)
    geometry = build_geometry(pos, ptr, levels, 5)
    # A cloud smaller than the neighborhood repeats its nearest point.
    expected = dict(zip(geometry_names(levels, True), packed(geometry, levels, True), strict=True))
    torch.testing.assert_close(torch.from_numpy(found["bandwidth"]), pcsa.knn_bandwidth(pos, ptr=ptr))
    assert found.keys() == {"points", "ptr", "bandwidth", *expected}
    for name, value in expected.items():
        mine = torch.from_numpy(found[name])
        assert (mine.shape, mine.dtype) == (value.shape, value.dtype), name
        if not name.startswith(("neighbors", "coarse_", "around")) or name == "coarse_ptr":
            torch.testing.assert_close(mine, value, rtol=1e-5, atol=1e-6)
    # Of points in one place, either: they look alike to the network.
    places = points
    for i in range(len(levels)):
        kept = places[expected[f"index_{i}"]]
        ball = expected[f"inside_{i}"].any(-1, keepdim=True)
        for name, rows, counts in ((f"neighbors_{i}", places, ball), (f"coarse_{i}", kept, torch.tensor(True))):
            mine, theirs = (torch.where(counts, rows[x], 0.0) for x in (torch.from_numpy(found[name]), expected[name]))
            assert torch.equal(mine, theirs), name
        places = kept
    assert torch.equal(points[torch.from_numpy(found["around"])], points[expected["around"]])


def test_farthest_points_of_equal_places_come_once_and_last():
    pos = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=np.float32)
    expected = farthest_points(torch.from_numpy(pos), torch.tensor([0, 5]), 5)[0]
    assert exported.farthest(pos, 9).tolist() == expected.tolist() == [0, 2, 1, 3, 4]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "at least one cloud"),
        ([np.zeros((0, 3))], r"one is \[0, 3\]"),
        ([np.zeros((4, 2))], r"one is \[4, 2\]"),
        ([np.array([[0, np.nan, 0]])], "must be finite"),
    ],
)
def test_clouds_that_are_none(given, message):
    class Session:
        def get_outputs(self):
            return []

        def get_modelmeta(self):
            return SimpleNamespace(custom_metadata_map={"pcsa": "{}"})

    with pytest.raises(ValueError, match=message):
        exported.run(Session(), given)


def test_it_needs_neither_torch_nor_the_package():
    program = f"import runpy, sys; runpy.run_path({exported.__file__!r}); sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path = {sys.path!r}; {program}"]).returncode == 0
    )
