"""Sliders come from a method's fields, start where the profile says, and end at the model's depth."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from plphp_core.demo.catalogue import Catalogue
from plphp_core.demo.parameters import build, in_symbols, parameters_of
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


def test_every_field_of_every_method_can_be_set():
    assert parameters_of("none") == []
    assert [one.label for one in parameters_of("plphp")] == ["r", "Δr", "α", "β", "gqa"]
    assert [one.kind for one in parameters_of("plphp")] == ["share"] * 4 + ["choice"]
    assert [(one.name, one.kind) for one in parameters_of("fastv")] == [
        ("K", "depth"),
        ("R", "share"),
        ("rows", "choice"),
    ]


def test_a_new_method_brings_its_own(monkeypatch):
    monkeypatch.setattr(methods, "_registry", lambda: ({"newcomer": Newcomer}, {}))
    kinds = {one.name: one.kind for one in parameters_of("newcomer")}
    assert kinds == {
        "K": "depth", "window": "whole", "share": "share", "temperature": "number", "pool": "choice", "causal": "flag",
    }  # fmt: skip
    assert next(one for one in parameters_of("newcomer") if one.name == "pool").choices == ("mean", "max")


def test_depth_is_limited_by_the_model_and_types_are_restored():
    (depth,) = parameters_of("vtw")
    assert depth.within(14, 8) == 8 and depth.within(3.0, 8) == 3 and type(depth.typed(3.0)) is int
    assert type(parameters_of("plphp")[0].typed(0)) is float


def test_the_methods_own_message():
    with pytest.raises(ValueError, match=r"PLPHP: delta_r = 0.3 > r = 0.2"):
        build("plphp", {"r": 0.2, "delta_r": 0.3}, 8)
    with pytest.raises(ValueError, match=r"VTW: K = 9, but the model has 8 layers"):
        build("vtw", {"K": 9}, 8)


def test_messages_call_parameters_what_their_sliders_do():
    assert in_symbols("PLPHP: delta_r = 0.3 > r; beta ≤ alpha", "plphp") == "PLPHP: Δr = 0.3 > r; β ≤ α"
    assert in_symbols("a delta_rule, alphabet", "plphp") == "a delta_rule, alphabet"
    assert in_symbols("beta is unknown", "vtw") == "beta is unknown" and in_symbols("alpha", "none") == "alpha"


@pytest.mark.parametrize("value", [2.5, None, "", float("nan")])
def test_a_whole_number_is_not_made_of_another(value):
    with pytest.raises(ValueError, match=r"^K (is empty; give a number|= .*, but must be a whole number)$"):
        parameters_of("vtw")[0].typed(value)


@pytest.fixture(scope="module")
def toy():
    return Catalogue(ROOT)


def test_start_values_are_the_profiles(toy):
    paper = Catalogue(ROOT, "paper", "qwen2_vl")
    assert toy.start("qwen2_vl", "plphp") == {"r": 0.4, "delta_r": 0.3, "alpha": 0.5, "beta": 0.3, "gqa": "mean"}
    assert toy.start("llava_onevision", "vtw") == {"K": 4} and paper.start("qwen2_vl", "vtw") == {"K": 14}
    assert paper.start("qwen2_vl", "plphp")["alpha"] == 0.25
    for name in method_names():
        for model, layers in (("idefics2", 8), ("mantis", 8)):
            started = toy.start(model, name)
            build(name, {one.name: one.within(started[one.name], layers) for one in parameters_of(name)}, layers)


def test_models_are_those_of_the_profile_with_plain_prompts(toy):
    paper = Catalogue(ROOT, "paper", "mantis", {"device": "cpu", "dtype": "float32"})
    assert toy.names == ["idefics2", "llava_onevision", "mantis", "qwen2_vl"]
    assert set(paper.names) == {path.stem for path in (ROOT / "configs/model").glob("*.yaml")}
    assert {toy.settings(name).prompts for name in toy.names} == {"plain"}
    assert (paper.settings("qwen3_vl").device, paper.settings("qwen3_vl").dtype) == ("cpu", "float32")
    assert toy.title("qwen2_vl") == "Qwen2-VL (toy)" and paper.title("llava_onevision_0_5b") == "LLaVA-OneVision 0.5b"


@pytest.mark.parametrize("given, said", [
    ({"profile": "big"}, "unknown profile 'big'; allowed: paper, toy"),
    ({"first": "gpt"}, "unknown model of profile toy 'gpt'; allowed: idefics2"),
    ({"first": "qwen3_vl"}, "unknown model of profile toy 'qwen3_vl'"),
    ({"loading": {"device": "tpu"}}, "unknown device 'tpu'"),
    ({"loading": {"dtype": "int8"}}, "unknown dtype 'int8'"),
])  # fmt: skip
def test_what_cannot_be_is_said(given, said):
    with pytest.raises(UserError, match=said):
        Catalogue(ROOT, **given)


def test_a_checkpoint_of_ones_own_is_the_first_models_alone(tmp_path):
    one = Catalogue(ROOT, checkpoint=str(tmp_path))
    assert one.settings("llava_onevision").checkpoint == str(tmp_path) != one.settings("mantis").checkpoint
