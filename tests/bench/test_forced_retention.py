"""A forced plan says what a real prefill would leave behind."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.bench.decoder_shapes import SHAPES, build, prompts
from plphp_core.bench.forced_retention import forced_lengths, forced_method
from plphp_core.pruning.method import Method
from plphp_core.records.errors import UserError

TINY = SHAPES["tiny"]


@pytest.mark.parametrize(
    "method",
    [None, forced_method("plphp", {"r": 0.4, "delta_r": 0.3}), forced_method("plphp", {"r": 0.3, "delta_r": 0.3}),
     FastV(K=2, R=0.5), FastV(K=6, R=0.9), VTW(K=3)],
    ids=str,
)  # fmt: skip
def test_plan_equals_the_trace_of_a_prefill(method):
    model = build(TINY, "cpu", torch.float32)
    inputs = prompts(TINY, 2, 2, 20, "cpu", torch.float32)
    with torch.inference_mode(), prune(model, method) as trace:
        model(**inputs, use_cache=True)
    planned = forced_lengths(method, TINY, 2, 20)
    assert [[tokens] * 2 for tokens in planned] == [list(layer.counts) for layer in trace.layers]


def test_layers_take_turns():
    method = forced_method("plphp", {"r": 0.5, "delta_r": 0.2})
    shape = replace(TINY, layers=11, image_side=10)
    assert forced_lengths(method, shape, 2, 10) == [212, 212, 110, 150, 70, 110, 150, 70, 110, 150, 212]


@dataclass(frozen=True)
class Needy(Method):
    """Withdraws half if the last row looks at vision."""

    name: ClassVar[str] = "needy"

    def withdraw(self, layer, previous):
        looks = float(previous.vision_attention[0]) > 0.5
        return VTW(K=layer).withdraw(layer, previous) if looks else None


def test_a_method_that_decides_by_scores_has_no_plan():
    with pytest.raises(UserError, match=r"'needy' keeps tokens by attention scores"):
        forced_lengths(Needy(), TINY, 2, 10)
    with pytest.raises(UserError, match="'plphp' keeps tokens by attention scores"):
        forced_lengths(PLPHP(), TINY, 2, 10)


@pytest.mark.parametrize("name, params, said", [
    ("plphp", {"alpha": 0.5}, "plphp.alpha = 0.5 needs attention scores"),
    ("plphp", {"r": 0.4, "delta_r": 0.5}, "delta_r ≤ r is needed"),
    ("fastv", {"Q": 1}, "no parameter Q"),
    ("vtw", {"K": 0}, "must be a whole number from 1 on"),
])  # fmt: skip
def test_impossible_parameters_are_named(name, params, said):
    with pytest.raises(UserError, match=said):
        forced_method(name, params)
