"""Rules on the numbers of a configuration, wherever they stand in its annotations, and its way to JSON and back."""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import tyro

from pcsa.tasks.common.config import (
    Count,
    FromZero,
    LocalizationConfig,
    OptimizerConfig,
    Positive,
    Rule,
    TrainConfig,
    check_numbers,
    from_plain,
    to_plain,
)
from pcsa.tasks.supervised import SupervisedConfig, SupervisedData


@dataclass(frozen=True)
class Inner:
    width: Count = 1
    widths: tuple[Count, ...] = (1, 2)


@dataclass(frozen=True)
class Middle:
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Outer:
    count: Count = 1
    positive: Positive = 0.5
    from_zero: FromZero = 0.0
    at_least_two: Annotated[int, Rule(2)] = 2
    perhaps: Count | None = None
    several: Annotated[tuple[int, int], Rule(1)] = (1, 1)
    several_perhaps: tuple[Positive, ...] | None = None
    free: float = -1.0
    text: str = ""
    paths: tuple[Path, ...] = ()
    path: Path | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    pair: tuple[int, int] | None = None
    middle: Middle = field(default_factory=Middle)
    anything: Any = None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, r"^`count` \(=0\) must be at least 1$"),
        ({"count": -3}, r"^`count` \(=-3\) must be at least 1$"),
        ({"positive": 0.0}, r"^`positive` \(=0\.0\) must be above 0 and finite$"),
        ({"positive": math.inf}, r"^`positive` \(=inf\) must be above 0 and finite$"),
        ({"positive": math.nan}, r"^`positive` \(=nan\) must be above 0 and finite$"),
        ({"from_zero": -0.1}, r"^`from_zero` \(=-0\.1\) must be at least 0 and finite$"),
        ({"from_zero": math.nan}, r"^`from_zero` \(=nan\) must be at least 0 and finite$"),
        ({"at_least_two": 1}, r"^`at_least_two` \(=1\) must be at least 2$"),
        ({"perhaps": 0}, r"^`perhaps` \(=0\) must be at least 1$"),
        ({"several": (1, 0)}, r"^`several` \(=\(1, 0\)\) must be at least 1$"),
        ({"several": [0, 1]}, r"^`several` \(=\[0, 1\]\) must be at least 1$"),
        ({"several_perhaps": (0.5, 0.0)}, r"^`several_perhaps` \(=\(0\.5, 0\.0\)\) must be above 0 and finite$"),
        ({"count": 2.5}, r"^`count` \(=2\.5\) must be a whole number of at least 1$"),
        ({"count": True}, r"^`count` \(=True\) must be a whole number of at least 1$"),
        ({"count": np.float64(2)}, r"^`count` \(=.*2\.0.*\) must be a whole number of at least 1$"),
        ({"count": "2"}, r"^`count` \(='2'\) must be a whole number of at least 1$"),
        ({"positive": "2"}, r"^`positive` \(='2'\) must be a number above 0 and finite$"),
        ({"from_zero": np.True_}, r"^`from_zero` \(=.*True.*\) must be a number of at least 0 and finite$"),
        ({"several": np.array([1, 0])}, r"^`several` \(=\[1 0\]\) must be at least 1$"),
        ({"several": (1, 0.5)}, r"^`several` \(=\(1, 0\.5\)\) must be a whole number of at least 1$"),
        ({"middle": Middle(Inner(width=0))}, r"^`middle\.inner\.width` \(=0\) must be at least 1$"),
        ({"middle": Middle(Inner(widths=(1, 0)))}, r"^`middle\.inner\.widths` \(=\(1, 0\)\) must be at least 1$"),
    ],
)
def test_a_broken_rule_names_the_field_by_its_path(change, message):
    with pytest.raises(ValueError, match=message):
        check_numbers(replace(Outer(), **change))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"perhaps": 1},
        {"positive": 1e-30, "from_zero": 1e30},
        {"several": ()},
        {"several_perhaps": (0.1,)},
        {"free": math.nan},
        {"text": "0"},
    ],
)
def test_what_keeps_the_rules_is_left_alone(change):
    check_numbers(replace(Outer(), **change))


def test_a_prefix_comes_before_the_path():
    with pytest.raises(ValueError, match=r"^`options\.middle\.inner\.width` "):
        check_numbers(Outer(middle=Middle(Inner(width=0))), "options.")


def test_a_training_is_checked_when_it_is_made():
    with pytest.raises(ValueError, match=r"^`optimizer\.steps` \(=0\) must be at least 1$"):
        TrainConfig(optimizer=OptimizerConfig(steps=0))
    with pytest.raises(ValueError, match=r"^`objective\.norm` \(='l2'\) has no closed form"):
        TrainConfig(objective=LocalizationConfig(method="mixture"))
    TrainConfig(objective=LocalizationConfig(method="mixture", norm="l1"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"plus": (("cross_entropy", 0.0),)}, r"^`objective\.plus` \(=0\.0\) must be above 0 and finite$"),
        ({"plus": (("crossentropy", 1.0),)}, r"^`objective\.plus` \(='crossentropy'\) must be one of 'sampling', "),
        ({"plus": (("sampling", 1.0),)}, r"^`objective\.plus` \(='sampling'\) must be a term that the sum does not "),
        ({"plus": (("soft", 1.0), ("soft", 2.0))}, r"^`objective\.plus` \(='soft'\) must be a term that "),
        ({"plus": (("mixture", 1.0),)}, r"^`objective\.norm` \(='l2'\) has no closed form"),
        ({"norm_sigma": 0.0}, r"^`objective\.norm_sigma` \(=0\.0\) must be above 0"),
        ({"label_sigma": 0.0}, r"^`objective\.label_sigma` \(=0\.0\) must be above 0"),
    ],
)
def test_a_sum_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(objective=LocalizationConfig(**values))


def test_a_sum_is_parsed_from_the_command_line_and_kept_in_a_checkpoint():
    arguments = ["--objective.norm", "bounded", "--objective.plus", "cross_entropy", "0.1", "mixture", "2"]
    config = tyro.cli(SupervisedConfig, args=arguments)
    assert config.objective.terms == (("sampling", 1.0), ("cross_entropy", 0.1), ("mixture", 2.0))
    assert config.objective.has("nll", "mixture")
    assert not config.objective.has("nll", "soft")
    back = from_plain(SupervisedConfig, json.loads(json.dumps(to_plain(config))))
    assert back.objective == config.objective


@pytest.mark.parametrize(
    ("values", "temperature"), [({"temperature": "constant"}, 0.7), ({"temperature": "cosine"}, 0.3)]
)
def test_final_temperature(values, temperature):
    assert LocalizationConfig(temperature_start=0.7, temperature_end=0.3, **values).final_temperature == temperature


def test_json_and_back(tmp_path, monkeypatch):
    config = Outer(
        positive=1.0,
        several_perhaps=(0.5, 1.5),
        perhaps=3,
        paths=(tmp_path / "a", tmp_path / "b"),
        path=tmp_path,
        pairs=((1, 2), (3, 4)),
        pair=(5, 6),
        middle=Middle(Inner(widths=(7, 8, 9))),
        text="/not/a/path",
    )
    plain = to_plain(config)
    assert plain["middle"] == {"inner": {"width": 1, "widths": [7, 8, 9]}}
    back = from_plain(Outer, json.loads(json.dumps(plain, allow_nan=False)))
    assert back == config
    assert isinstance(back.text, str)
    assert isinstance(back.positive, float)
    # A relative path is where it led when the run began.
    monkeypatch.chdir(tmp_path)
    assert to_plain(Outer(path=Path("x")))["path"] == str(tmp_path.resolve() / "x")


def test_what_a_configuration_does_not_have_is_refused():
    with pytest.raises(KeyError, match="unknown"):
        from_plain(Outer, {"unknown": 1})


def test_numbers_may_be_numpy_s_and_become_plain():
    given = Outer(
        count=np.int64(3),
        positive=np.float32(0.25),
        several=np.array([2, 3]),
        several_perhaps=(np.float64(0.5),),
        anything=np.bool_(True),
    )
    check_numbers(given)
    plain = json.loads(json.dumps(to_plain(given)))
    assert from_plain(Outer, plain) == Outer(
        count=3, positive=0.25, several=(2, 3), several_perhaps=(0.5,), anything=True
    )
    TrainConfig(seed=np.int64(1))
    with pytest.raises(ValueError, match=r"`seed` \(=1.5\)"):
        TrainConfig(seed=1.5)


def test_a_text_stands_for_a_path():
    config = SupervisedConfig(data=SupervisedData(root="data/mine"), out="runs/mine", init_from="a/last.ckpt")
    assert (config.data.root, config.out, config.init_from) == tuple(
        map(Path, ("data/mine", "runs/mine", "a/last.ckpt"))
    )
    # Other texts stay what they are.
    assert config.data.category == "chair"
