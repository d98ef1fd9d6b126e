"""lmms-eval's own wrappers, run on a model that only listens: the same inputs, options and answers as our families."""

import importlib
import itertools
import json
import sys
import types

import pytest
import torch
from PIL import Image

from plphp_core.evaluation.options import generation_arguments
from plphp_core.families import get_family
from tests.families.qwen_factory import EOS_TOKEN, GENERATIONS, PAD_TOKEN, tiny_qwen_processor
from tests.families.qwen_templates import TEMPLATES
from tests.families.upstream import wrapper_call

WRAPPERS = {"qwen2_vl": "Qwen2_VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3_VL"}
PATCHES = {"qwen2_vl": 14, "qwen2_5_vl": 14, "qwen3_vl": 16}
TURNS = [
    {"from": "human", "value": "<image><image>\nw1?"},
    {"from": "gpt", "value": "w2."},
    {"from": "human", "value": "w3?"},
]
CASES = {
    "one image": ("w1 w2 <image> w3", [(90, 70)]),
    "no marks": (" w4\nw5 ", [(300, 500)]),
    "marks in between": ("w1 <image> w2 <image><image>.", [(40, 30), (1100, 900), (15, 300)]),
    "text only": ("w6 w7", []),
    "Multi-View": (json.dumps(TURNS), [(60, 60), (57, 43)]),
}
ANSWERS = ["w1 w2 <|im_end|>", "w1 w7 w2", "w7 <|endoftext|> w3 <|im_end|>", "<|im_end|>"]


def picture(width, height):
    generator = torch.Generator().manual_seed(width * height)
    small = torch.randint(0, 255, (5, 7, 3), dtype=torch.uint8, generator=generator)
    return Image.fromarray(small.numpy()).resize((width, height), Image.Resampling.BICUBIC)


def upstream(name, processor, context, images, gen_kwargs, said, monkeypatch):
    """What the wrapper hands its model, and its answer."""
    monkeypatch.setitem(sys.modules, "decord", types.ModuleType("decord"))  # reads videos, which nobody has here
    module = importlib.import_module(f"lmms_eval.models.simple.{name}")
    assert module._has_qwen_vl
    least, most = get_family(name).pixels
    options = {"min_pixels": least, "max_pixels": most, "max_num_frames": 32, "total_pixels": None, "fps": None}
    options |= {"system_prompt": "You are a helpful assistant.", "enable_thinking": None}
    return wrapper_call(getattr(module, WRAPPERS[name]), processor, context, images, said, dict(gen_kwargs), **options)


def own_processor(name):
    processor = tiny_qwen_processor(name, TEMPLATES[name], pixels=get_family(name).pixels, patch=PATCHES[name])
    processor.tokenizer.padding_side = "left"
    return processor


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", GENERATIONS)
def test_the_model_gets_bitwise_what_the_wrapper_gives_it(name, case, monkeypatch):
    context, sizes = CASES[case]
    images = [picture(*size) for size in sizes]
    family, processor = get_family(name), own_processor(name)
    heard, _ = upstream(name, processor, context, images, {"until": ["\n\n"]}, [1, EOS_TOKEN], monkeypatch)
    prompt = family.prompt(context, len(images))
    ours = family.encode(processor, [prompt], [family.images(images)])
    tensors = {key: value for key, value in heard.items() if isinstance(value, torch.Tensor)}
    assert set(ours) == set(tensors)
    for key in ours:
        assert torch.equal(ours[key], tensors[key]), key
    options = generation_arguments({"until": ["\n\n"]}, family, processor)
    assert options["max_new_tokens"] == heard["max_new_tokens"]
    assert options["eos_token_id"] == [heard["eos_token_id"]]
    assert options["do_sample"] is heard["do_sample"] is False
    assert heard["pad_token_id"] == PAD_TOKEN


@pytest.mark.parametrize("name", GENERATIONS)
def test_answers_are_cut_as_the_wrapper_cuts_them(name, monkeypatch):
    """Except for words after the end token, where generation has stopped anyway."""
    family, processor = get_family(name), own_processor(name)
    for said, until in itertools.product(ANSWERS, (None, ["\n\n"], "w2", ["w7", "", "w2"], [])):
        ids = processor.tokenizer(said, return_tensors="pt")["input_ids"][0]
        gen_kwargs = {} if until is None else {"until": until}
        _, expected = upstream(name, processor, "w1", [], gen_kwargs, ids, monkeypatch)
        assert family.decode(processor, ids, gen_kwargs) == expected, (said, until)


def test_until_of_another_type_is_refused():
    processor = own_processor("qwen2_vl")
    with pytest.raises(ValueError, match="until = 3, but a string or a list"):
        get_family("qwen2_vl").decode(processor, torch.tensor([1]), {"until": 3})
