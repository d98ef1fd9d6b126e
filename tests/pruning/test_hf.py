"""The installed transformers and the declared ranges are what `hf.py` says: the next rename, in one line."""

import tomllib
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import DynamicCache

from plphp_core import PLPHP, prune
from plphp_core.families import family_of
from plphp_core.pruning import hf
from tests.factories import prompt_batch, tiny_llava_onevision
from tests.families.tiny_models import FAMILIES

MODELS = {name: kind.model for name, kind in FAMILIES.items()}


@pytest.mark.parametrize("name", MODELS)
def test_models_layers_and_attention_of_every_family_are_as_written(name):
    model = MODELS[name](layers=2)
    decoder = family_of(model).decoder(model)
    assert hf.contract(model, decoder) == []
    assert decoder is model.get_decoder()
    argument = hf.cache_argument(model, DynamicCache())
    assert list(argument) == ["cache" if "cache" in argument else "past_key_values"]


def test_a_renamed_cache_argument_is_refused_at_the_door_in_one_sentence():
    model = tiny_llava_onevision(layers=2)

    class Renamed(type(model.model.language_model.layers[0].self_attn)):
        def forward(self, hidden_states, position_embeddings, attention_mask, memory=None, **kwargs):
            return super().forward(hidden_states, position_embeddings, attention_mask, memory, **kwargs)

    Renamed.__module__ = type(model.model.language_model.layers[0].self_attn).__module__
    model.model.language_model.layers[1].self_attn.__class__ = Renamed
    with (
        pytest.raises(ValueError, match=r"Renamed\.forward takes no KV cache under"),
        prune(model, PLPHP()),
    ):
        pass
    assert not model._forward_pre_hooks


@torch.no_grad()
def test_the_cache_is_found_whatever_it_is_called():
    model = tiny_llava_onevision(layers=4)
    inputs = prompt_batch(model, [[3, (16, 16, 1), 4]])
    out = model(**inputs, **hf.cache_argument(model, DynamicCache()))
    assert hf.cache_among(out.values()) is not None and hf.cache_among([1, None, "x"]) is None
    cache = DynamicCache()
    first = hf.first_output(out.logits, cache)
    assert hf.cache_among(first.values()) is cache


def test_declared_ranges_are_the_tested_ones():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for name, (first, after) in hf.TESTED.items():
        assert f"{name}>={first},<{after}" in project["dependencies"]


def test_a_release_outside_of_the_range_is_one_warning_that_names_the_range():
    with pytest.warns(UserWarning, match=r"transformers 5\.25\.0 \(tested: 5\.19 up to, not including, 5\.25\)"):
        hf.warn_untested({"transformers": "5.25.0", "torch": "2.13.0+cu130"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hf.warn_untested({"transformers": "5.19.0", "torch": "2.15.0a0+git1"})


def test_no_other_module_of_the_product_reads_what_this_one_reads():
    """`past_key_values`, modelling files in `sys.modules`, `_attn_implementation`: one door."""
    root = Path(__file__).parents[2]
    words = ('"past_key_values"', "past_key_values=", ".past_key_values", "._attn_implementation", "sys.modules[type(")
    found = [
        f"{path.relative_to(root)}: {word}"
        for package in ("plphp_core", "baselines")
        for path in sorted((root / package).rglob("*.py"))
        if path.name != "hf.py"
        for word in words
        if word in path.read_text()
    ]
    assert found == []


def test_modules_compiled_in_place_are_found_by_name():
    layers = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    assert hf.compiled(enumerate(layers)) is None
    layers[1].compile(backend="eager")
    assert hf.compiled([("a", layers[0]), ("b", layers[1])]) == "b"
