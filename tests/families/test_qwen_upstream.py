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


class Listener:
    """Notes what `generate` is called with and says what it is told to."""

    def __init__(self, answer):
        self.answer, self.heard = answer, None

    def generate(self, **kwargs):
        self.heard = kwargs
        return torch.cat([kwargs["input_ids"], self.answer.expand(len(kwargs["input_ids"]), -1)], 1)


def upstream(name, processor, context, images, gen_kwargs, answer, monkeypatch):
    """What the wrapper hands its model, and its answer."""
    monkeypatch.setitem(sys.modules, "decord", types.ModuleType("decord"))  # reads videos, which nobody has here
    module = importlib.import_module(f"lmms_eval.models.simple.{name}")
    assert module._has_qwen_vl
    wrapper = getattr(module, WRAPPERS[name])
    least, most = get_family(name).pixels
    lm = object.__new__(wrapper)
    listener = Listener(answer)
    vars(lm).update(
        _model=listener,
        processor=processor,
        _tokenizer=processor.tokenizer,
        _rank=0,
        _device="cpu",
        device_map="cpu",
        batch_size_per_gpu=1,
        use_cache=True,
        system_prompt="You are a helpful assistant.",
        interleave_visuals=False,
        reasoning_prompt=None,
        min_pixels=least,
        max_pixels=most,
        max_num_frames=32,
        total_pixels=None,
        fps=None,
        enable_thinking=None,
        task_dict={"task": {"test": [images]}},
        cache_hook=types.SimpleNamespace(add_partial=lambda *_: None),
    )
    request = types.SimpleNamespace(args=(context, dict(gen_kwargs), lambda doc: doc, 0, "task", "test"))
    return listener, lm.generate_until([request])[0]


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
    answer = torch.tensor([[1, EOS_TOKEN]])
    listener, _ = upstream(name, processor, context, images, {"until": ["\n\n"]}, answer, monkeypatch)
    prompt = family.prompt(context, len(images))
    ours = family.encode(processor, [prompt], [family.images(images)])
    heard = listener.heard
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
        ids = processor.tokenizer(said, return_tensors="pt")["input_ids"]
        gen_kwargs = {} if until is None else {"until": until}
        _, expected = upstream(name, processor, "w1", [], gen_kwargs, ids, monkeypatch)
        assert family.decode(processor, ids[0], gen_kwargs) == expected, (said, until)


def test_until_of_another_type_is_refused():
    processor = own_processor("qwen2_vl")
    with pytest.raises(ValueError, match="until = 3, but a string or a list"):
        get_family("qwen2_vl").decode(processor, torch.tensor([1]), {"until": 3})
