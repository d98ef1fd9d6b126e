"""Widgets come from a method's fields, start where the profile says, and end at the model's depth."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from plphp_core.demo.demo_settings import DemoSettings, draw_examples
from plphp_core.demo.parameters import build, parameters_of
from plphp_core.pruning import method as methods
from plphp_core.pruning.method import Method, method_names
from plphp_core.records.errors import UserError


@dataclass(frozen=True)
class Newcomer(Method):
    name: ClassVar[str] = "newcomer"

    K: int = 2
    window: int = 32
    share: float = 0.5
    temperature: float = 3.0
    pool: Literal["mean", "max"] = "max"
    causal: bool = True


def widgets(method):
    return {one.label: type(one.widget(one.default, 8)).__name__ for one in parameters_of(method)}


def test_every_field_of_every_method_can_be_set(monkeypatch):
    assert widgets("none") == {}
    assert widgets("plphp") == {
        "r": "Slider",
        "Δr": "Slider",
        "α": "Slider",
        "β": "Slider",
        "gqa": "Radio",
        "head_budget": "Radio",
    }
    assert widgets("fastv") == {"K": "Slider", "R": "Slider", "rows": "Radio"}
    monkeypatch.setattr(methods, "_registry", lambda: ({"newcomer": Newcomer}, {}))
    assert widgets("newcomer") == {
        "K": "Slider", "window": "Number", "share": "Slider", "temperature": "Number", "pool": "Radio",
        "causal": "Checkbox",
    }  # fmt: skip
    depth, *_, pool, _ = (one.widget(one.default, 8) for one in parameters_of("newcomer"))
    assert (depth.minimum, depth.maximum, pool.choices) == (1, 8, [("mean", "mean"), ("max", "max")])


@pytest.mark.parametrize("method, values, said", [
    ("plphp", {"r": 0.2, "delta_r": 0.3, "alpha": 1, "beta": 0}, r"PLPHP: delta_r = 0.3 > r = 0.2"),
    ("vtw", {"K": 9}, "VTW: K = 9, but the model has 8 layers"),
    ("vtw", {"K": 2.5}, "K = 2.5: .*integer"),
    ("vtw", {"K": float("nan")}, "K = nan: .*finite"),
    ("vtw", {"K": None}, "K = None: .*integer"),
    ("plphp", {"alpha": ""}, "α = : .*number"),
])  # fmt: skip
def test_a_refusal_names_the_parameter_and_nothing_is_rounded(method, values, said):
    with pytest.raises(ValueError, match=said):
        build(method, values, 8)


def test_types_are_restored():
    assert type(build("vtw", {"K": 3.0}, 8).K) is int and type(build("plphp", {"beta": 0}, 8).beta) is float


def test_start_values_are_the_profiles_and_prompts_are_plain():
    toy = DemoSettings(["model=qwen2_vl"])
    paper = DemoSettings(["profile=paper", "model=qwen2_vl", "device=cpu"])
    assert toy.start["plphp"] == {
        "r": 0.4,
        "delta_r": 0.3,
        "alpha": 0.65,
        "beta": 0.55,
        "gqa": "mean",
        "head_budget": "equal",
    }
    assert toy.start["vtw"] == {"K": 6} and paper.start["vtw"] == {"K": 14} and paper.start["plphp"]["alpha"] == 0.25
    assert toy.toy and not paper.toy and toy.model.prompts == paper.model.prompts == "plain"
    assert set(toy.start) == set(method_names()) - {"oracle", "downsample"}
    for name, values in toy.start.items():
        build(name, values, 12)


@pytest.mark.parametrize("override, said", [
    ("profile=big", "options of profile: paper, toy"),
    ("model=gpt", "options of model: .*idefics2"),
    ("device=tpu", "unknown device 'tpu'"),
    ("dtype=int8", "unknown dtype 'int8'"),
    ("prot=1", "prot"),
])  # fmt: skip
def test_what_cannot_be_is_said(override, said):
    with pytest.raises(UserError, match=said):
        DemoSettings([override])


def test_examples_are_the_same_ones_every_time(examples, tmp_path):
    again = [(one["text"], one["files"]) for one in draw_examples(tmp_path).values()]
    assert [text for text, _ in again] == [text for text, _ in examples] and len(again) == 5
    for (_, files), (_, others) in zip(again, examples, strict=True):
        assert [Path(one).read_bytes() for one in files] == [Path(one).read_bytes() for one in others]
