"""The family that docs/add-a-family.md walks through works as printed."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from plphp_core import PLPHP, prune
from plphp_core.families.base import Family
from plphp_core.pruning import session
from tests.families.mantis_factory import PATCH, SIDE, mantis_processor, tiny_mantis

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-family.md").read_text()


@pytest.fixture(scope="module")
def example():
    scope = {}
    exec(re.search(r"```python\n(.*?)```", PAGE, re.S).group(1), scope)
    (found,) = [v for v in scope.values() if isinstance(v, type) and issubclass(v, Family) and v is not Family]
    return found


def test_prompts_are_those_of_transformers_documentation(example):
    expected = "<|im_start|>user <image>\nWhat is it?<|im_end|><|im_start|>assistant"
    assert example().prompt("What is it?", 1) == expected
    turns = json.dumps([{"from": who, "value": text} for who, text in (("human", "a"), ("gpt", "b"), ("human", "c"))])
    expected = "<|im_start|>user a<|im_end|><|im_start|>assistant b<|im_end|><|im_start|>user c<|im_end|>"
    assert example("plain").prompt(turns, 0) == f"{expected}<|im_start|>assistant"
    with pytest.raises(ValueError, match="marks 1 images with <image>, but there are 2"):
        example().prompt("<image>?", 2)


@pytest.mark.parametrize("strategy, dropped", [("full", 0), ("default", 1)])
@pytest.mark.parametrize("call", ["generate", "forward"])
def test_its_images_are_found_and_pruned(example, monkeypatch, strategy, dropped, call):
    monkeypatch.setattr(session, "family_of", lambda model: example())
    model, processor = tiny_mantis(strategy=strategy), mantis_processor(strategy=strategy)
    images = [[Image.effect_noise((20, 30), 50).convert("RGB")] * n for n in (2, 0, 1)]
    prompts = [example().prompt("w1 w2", len(own)) for own in images]
    inputs = example().encode(processor, prompts, images)
    with torch.no_grad(), prune(model, PLPHP()) as trace:
        model.generate(**inputs, max_new_tokens=2, do_sample=False) if call == "generate" else model(**inputs)
    size = (SIDE // PATCH) ** 2 - dropped
    assert [[len(image) for image in own] for own in trace.images] == [[size] * n for n in (2, 0, 1)]
    assert trace.retention[0, 3] < 1 and trace.retention[1, 3] == 1


def test_its_configuration_names_what_every_model_configuration_names(example):
    ours = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.S).group(1))
    shipped = yaml.safe_load((Path(__file__).parents[2] / "configs" / "model" / "mantis.yaml").read_text())
    assert set(ours) == set(shipped)
    assert ours["family"] == example.name and example.default_checkpoint in ours["checkpoint"]
