import pytest

from pcsa.datasets.keypointnet import CLASS_IDS
from pcsa.scripts.reproduce.combined import Combination
from pcsa.scripts.reproduce.study import open_study, study_names
from pcsa.scripts.train import parse_training

GOOD = """
title = "Two"
task = "supervised"
preset = "sampling"
baseline = "a"
categories = ["bed"]
columns = ["PCK@0.01"]
options = "--optimizer.steps 7"
[methods]
a = "--objective.method soft"
b = "--objective.num-samples 3"
"""


@pytest.mark.parametrize("name", study_names())
def test_studies_of_the_package(name):
    study = open_study(name)
    assert set(study.categories) <= set(CLASS_IDS)
    for method in study.methods:
        task, _ = parse_training(study.arguments(method), "reproduce")
        assert task.name == study.task
    for rows in study.published.values():
        assert {category for row in rows.values() for category in row} <= set(study.categories)


def test_the_tables_of_the_paper_have_all_categories():
    assert set(open_study("table6").categories) == set(open_study("table7").categories) == set(CLASS_IDS)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(GOOD)
    study = open_study(str(path))
    assert (study.name, study.folds, study.split, study.seeds) == ("two", 0, "val", 3)
    _, config = parse_training(study.arguments("b"), "reproduce")
    assert (config.optimizer.steps, config.objective.num_samples) == (7, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('baseline = "a"', 'baseline = "c"', "`baseline` (='c') must be out of 'a', 'b'"),
        ('baseline = "a"', "", "must have 'baseline'"),
        ("title =", "titel =", "has the unknown key 'titel'"),
        ("[methods]", "[baselines]\nb = 'c'\n[methods]", "`baselines` (='c') must be out of 'a', 'b'"),
        ("[methods]", "[baselines]\nc = 'a'\n[methods]", "`baselines` (='c') must be out of 'a', 'b'"),
        ("[methods]", "baselines = 'a'\n[methods]", "`baselines` (='a') must be a table"),
        ('task = "supervised"', 'task = "supervised"\nfolds = 1', "`folds` (=1) must be at least 2, or 0"),
        ('task = "supervised"', 'task = "supervised"\nseeds = 0', "`seeds` (=0) must be at least 1"),
        ('task = "supervised"', 'task = "supervised"\nseeds = "3"', "`seeds` (='3') must be a whole number"),
        ('task = "supervised"', 'task = "supervised"\nsplit = "train"', "`split` (='train') must be one of val, test"),
        ('task = "supervised"', 'task = "supervised"\nsplit = "test"\nfolds = 3', "`split` (='test') must be 'val'"),
        ('["bed"]', '"bed"', "`categories` (='bed') must be a list"),
        ("title =", "title", "cannot be read as a study (TOMLDecodeError"),
    ],
)
def test_a_broken_file_is_named(tmp_path, old, new, message):
    path = tmp_path / "broken.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        open_study(str(path))
    assert str(caught.value).startswith(f"`{path}`")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c = 3", "`combined` (='c') must be a table with 'of' and out of 'networks', 'test_time'"),
        ("c = { networks = 2 }", "`combined` (='c') must be a table with 'of' and"),
        ('c = { of = "a", size = 2 }', "`combined` (='c') must be a table with 'of' and"),
        ('c = { of = "d", networks = 2 }', "`of` (='d') of 'c' must be out of 'a', 'b'"),
        ('a = { of = "b", networks = 2 }', "`combined` (='a') must not have the name of a method"),
        ('c = { of = "a", networks = 4 }', "`networks` (=4) of 'c' must be at most `seeds` (=3)"),
        ('c = { of = "a", networks = 1 }', "`networks` or `test_time` must be above 1"),
    ],
)
def test_a_broken_mean_is_named(tmp_path, line, message):
    path = tmp_path / "broken.toml"
    path.write_text(f"{GOOD}[combined]\n{line}\n")
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is compared below
        open_study(str(path))
    assert str(caught.value).startswith(f"`{path}`")
    assert message in str(caught.value)


def test_combined_ones_stand_behind_the_methods(tmp_path):
    path = tmp_path / "three.toml"
    path.write_text(GOOD.replace('baseline = "a"', 'baseline = "c"') + '[combined]\nc = { of = "b", networks = 3 }\n')
    study = open_study(str(path))
    assert study.names == ("a", "b", "c")
    assert study.combined == {"c": Combination("b", networks=3, test_time=1)}
    assert list(study.combined["c"].seeds(1)) == [3, 4, 5]


def test_there_is_no_such_study(tmp_path):
    with pytest.raises(ValueError, match=r"`study` \(='table5'\) must be one of ablation, .*, or a .toml file"):
        open_study("table5")
    with pytest.raises(FileNotFoundError, match="is missing"):
        open_study(str(tmp_path / "none.toml"))
