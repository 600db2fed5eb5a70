"""How shapes stand, by their keypoints."""

import json
import math
import re

import numpy as np
import pytest

from pcsa.datasets.keypointnet.annotations import read_records
from pcsa.datasets.keypointnet.check import check_root
from pcsa.datasets.keypointnet.standing import standings
from pcsa.datasets.pcd import write_pcd


def turn(degrees, axis):
    angle, k = math.radians(degrees), "xyz".index(axis)
    i, j = (k + 1) % 3, (k + 2) % 3
    out = np.eye(3)
    out[i, i] = out[j, j] = math.cos(angle)
    out[j, i], out[i, j] = math.sin(angle), -math.sin(angle)
    return out


def shapes(n, noise=0.0, k=8):
    rng = np.random.default_rng(0)
    base = rng.standard_normal((k, 3)) * [1, 2, 3]
    # Of any size and at any place: neither is how a shape stands.
    return [
        (base + noise * rng.standard_normal(base.shape)) * rng.uniform(0.5, 2) + 10 * rng.standard_normal(3)
        for _ in range(n)
    ]


@pytest.mark.parametrize("axis", "xyz")
def test_turns_are_found_about_the_axis_and_off_it(axis):
    angles = [0, 0, 0, 10, -10, 40, -40, 179, -179]
    other = "xyz"["xyz".index(axis) - 1]
    given = [s @ turn(a, axis).T for s, a in zip(shapes(9), angles, strict=True)]
    leaning = [s @ turn(a, other).T for s, a in zip(shapes(2), (25, -25), strict=True)]
    found = standings(given + leaning, up=axis)
    assert [round(s.heading) for s in found[:9]] == angles
    assert [round(s.turn) for s in found] == [abs(a) for a in angles] + [25, 25]
    assert [round(s.lean) for s in found] == [0] * 9 + [25, 25]
    assert not any(s.mirrored for s in found)


def test_without_an_axis_that_points_up_there_is_neither_heading_nor_lean():
    found = standings([s @ turn(a, "x").T for s, a in zip(shapes(3), (0, 30, -30), strict=True)], up="none")
    assert [round(s.turn) for s in found] == [0, 30, 30]
    assert all(math.isnan(s.heading) and math.isnan(s.lean) for s in found)


def test_mirror_images_are_told_and_are_not_turned_by_that():
    # The first one, with which the mean begins, is one of the fewer.
    flipped = [True, True, False, False, False, False, True]
    angles = [0, 20, 20, -20, 0, 0, 0]
    given = [
        (s * ([-1, 1, 1] if f else [1, 1, 1])) @ turn(a, "z").T
        for s, f, a in zip(shapes(7, noise=0.05), flipped, angles, strict=True)
    ]
    found = standings(given, up="z")
    assert [s.mirrored for s in found] == flipped
    np.testing.assert_allclose([s.heading for s in found], angles, atol=3)
    assert max(s.lean for s in found) < 3


def test_shapes_that_say_nothing_are_left_out():
    given = shapes(5)
    given[1][4:] = np.nan  # four keypoints are enough
    given[2][3:] = np.nan
    given[3][:, 2] = 0.0  # flat
    found = standings(given, up="y")
    assert [s is None for s in found] == [False, False, True, True, False]
    assert found[1].turn < 1e-3
    assert standings([given[2], given[3]]) == [None, None]
    assert standings([]) == []


def test_noise_is_no_mirror_image():
    assert not any(s.mirrored for s in standings(shapes(20, noise=0.5)))


def test_the_facts_of_a_root_say_who_stands_otherwise(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "splits").mkdir()
    (tmp_path / "pcds" / "b").mkdir(parents=True)
    base, records = rng.random((40, 3)) * [1, 2, 4], []
    for name, angle in (("one", 0), ("two", 0), ("three", 0), ("odd", 35)):
        points = (base @ turn(angle, "z").T).astype(np.float32)
        write_pcd(tmp_path / "pcds" / "b" / f"{name}.pcd", points)
        keypoints = [{"xyz": points[i].tolist(), "semantic_id": i, "pcd_info": {"point_index": i}} for i in range(6)]
        records.append({"class_id": "b", "model_id": name, "keypoints": keypoints, "up": "z"})
    path = tmp_path / "annotations" / "thing.json"
    path.write_text(json.dumps(records))
    assert read_records(path)[0][0].up == "z"
    facts = []
    check_root(tmp_path, facts)
    (fact,) = facts
    # They stand at 0, 0, 0 and 35 degrees: on average at 8.5, of which 35 is 26 away.
    assert "turned by up to 26 degrees (odd, half of them by less than 9)" in fact
    assert re.search("about the axis that points up by 26, off it by 0$", fact)
    assert "mirror images" not in fact
    path.write_text(json.dumps(records[:2]))
    facts.clear()
    check_root(tmp_path, facts)
    assert "turned" not in facts[0]


def test_a_file_of_several_classes_says_nothing_of_how_shapes_stand(tmp_path):
    rng, records = np.random.default_rng(1), []
    (tmp_path / "annotations").mkdir()
    (tmp_path / "splits").mkdir()
    for class_id in "ab":
        (tmp_path / "pcds" / class_id).mkdir(parents=True)
        for name in ("one", "two", "three"):
            points = rng.random((20, 3)).astype(np.float32)
            write_pcd(tmp_path / "pcds" / class_id / f"{name}.pcd", points)
            keypoints = [
                {"xyz": points[i].tolist(), "semantic_id": i, "pcd_info": {"point_index": i}} for i in range(6)
            ]
            records.append({"class_id": class_id, "model_id": name, "keypoints": keypoints})
    (tmp_path / "annotations" / "all.json").write_text(json.dumps(records))
    facts = []
    check_root(tmp_path, facts)
    assert "6 clouds" in facts[0]
    assert "turned" not in facts[0]
