"""Widgets come from a method's fields, start where the profile says, and end at the model's depth."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from plphp_core.demo.catalogue import Catalogue, draw_examples
from plphp_core.demo.parameters import build, parameters_of
from plphp_core.pruning import method as methods
from plphp_core.pruning.method import Method, method_names
from plphp_core.records.errors import UserError
from tests.demo.factories import ROOT


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
    assert widgets("plphp") == {"r": "Slider", "Δr": "Slider", "α": "Slider", "β": "Slider", "gqa": "Radio"}
    assert widgets("fastv") == {"K": "Slider", "R": "Slider", "rows": "Radio"}
    monkeypatch.setattr(methods, "_registry", lambda: ({"newcomer": Newcomer}, {}))
    assert widgets("newcomer") == {
        "K": "Slider", "window": "Number", "share": "Slider", "temperature": "Number", "pool": "Radio",
        "causal": "Checkbox",
    }  # fmt: skip
    depth, *_, pool, _ = (one.widget(one.default, 8) for one in parameters_of("newcomer"))
    assert (depth.minimum, depth.maximum, pool.choices) == (1, 8, [("mean", "mean"), ("max", "max")])


@pytest.mark.parametrize("method, values, said", [
    ("plphp", {"r": 0.2, "delta_r": 0.3, "alpha": 1, "beta": 0}, r"PLPHP: Δr = 0.3 > r = 0.2"),
    ("vtw", {"K": 9}, "VTW: K = 9, but the model has 8 layers"),
    ("vtw", {"K": 2.5}, "K = 2.5: .*integer"),
    ("vtw", {"K": float("nan")}, "K = nan: .*finite"),
    ("vtw", {"K": None}, "K = None: .*integer"),
    ("plphp", {"alpha": ""}, "α = : .*number"),
])  # fmt: skip
def test_a_refusal_calls_parameters_what_their_widgets_do_and_nothing_is_rounded(method, values, said):
    with pytest.raises(ValueError, match=said):
        build(method, values, 8)


def test_types_are_restored():
    assert type(build("vtw", {"K": 3.0}, 8).K) is int and type(build("plphp", {"beta": 0}, 8).beta) is float


@pytest.fixture(scope="module")
def toy():
    return Catalogue()


def test_start_values_are_the_profiles(toy):
    paper = Catalogue(["profile=paper", "model=qwen2_vl"])
    assert toy.start("qwen2_vl", "plphp") == {"r": 0.4, "delta_r": 0.3, "alpha": 0.5, "beta": 0.3, "gqa": "mean"}
    assert toy.start("llava_onevision", "vtw") == {"K": 4} and paper.start("qwen2_vl", "vtw") == {"K": 14}
    assert paper.start("qwen2_vl", "plphp")["alpha"] == 0.25
    for name in method_names():
        build(name, toy.start("idefics2", name), 8)


def test_models_are_those_of_the_profile_with_plain_prompts(toy, tmp_path):
    paper = Catalogue(["profile=paper", "model=mantis", "device=cpu", f"model.checkpoint={tmp_path}"])
    assert toy.names == ["idefics2", "llava_onevision", "mantis", "qwen2_vl"]
    assert set(paper.names) == {path.stem for path in (ROOT / "configs/model").glob("*.yaml")}
    assert {toy.settings(name).model.prompts for name in toy.names} == {"plain"}
    first, other = paper.settings("mantis").model, paper.settings("qwen3_vl").model
    assert first.device == other.device == "cpu" and first.checkpoint == str(tmp_path) != other.checkpoint
    assert toy.title("qwen2_vl") == "Qwen2-VL (toy)" and paper.title("llava_onevision_0_5b") == "LLaVA-OneVision 0.5b"


@pytest.mark.parametrize("override, said", [
    ("profile=big", "options of profile: paper, toy"),
    ("model=gpt", "options of model: .*idefics2"),
    ("model=qwen3_vl", "unknown model of profile toy 'qwen3_vl'; allowed: idefics2"),
    ("device=tpu", "unknown device 'tpu'"),
    ("dtype=int8", "unknown dtype 'int8'"),
    ("prot=1", "prot"),
])  # fmt: skip
def test_what_cannot_be_is_said(override, said):
    with pytest.raises(UserError, match=said):
        Catalogue([override])


def test_examples_are_the_same_ones_every_time(examples, tmp_path):
    again = [(one["text"], one["files"]) for one in draw_examples(tmp_path).values()]
    assert [text for text, _ in again] == [text for text, _ in examples] and len(again) == 5
    for (_, files), (_, others) in zip(again, examples, strict=True):
        assert [Path(one).read_bytes() for one in files] == [Path(one).read_bytes() for one in others]
