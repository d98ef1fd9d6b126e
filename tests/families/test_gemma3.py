"""Gemma 3: prompts as upstream's wrapper makes them, the sliding window; hybrid decoders are refused by name."""

import pytest
import torch

from baselines import FastV
from plphp_core import PLPHP, fast_generate, prune
from plphp_core.families import family_of, get_family
from plphp_core.families.base import Family
from tests.families.gemma3_factory import (
    IMAGE_END,
    IMAGE_SIZE,
    IMAGE_START,
    gemma3_batch,
    gemma3_processor,
    tiny_gemma3,
)
from tests.families.pictures import TURNS, picture, positions
from tests.families.upstream import wrapper_call

UPSTREAM, PLAIN = get_family("gemma3"), get_family("gemma3", "plain")
USER, END = "<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"
SYSTEM, IMAGE = "You are a helpful assistant.\n\n", "<start_of_image>"


# --- prompts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context, images, upstream, plain",
    [
        ("a\n", 1, f"{USER}{SYSTEM}{IMAGE}a{END}", f"{USER}{IMAGE}a{END}"),
        ("a", 2, f"{USER}{SYSTEM}{IMAGE}{IMAGE}a{END}", f"{USER}{IMAGE}{IMAGE}a{END}"),
        ("a", 0, f"{USER}{SYSTEM}a{END}", f"{USER}a{END}"),
        ("a <image> b <image>.", 2, f"{USER}{SYSTEM}{IMAGE * 2}a  b .{END}", f"{USER}a{IMAGE}b{IMAGE}.{END}"),
        ("see <image 1> b", 1, f"{USER}{SYSTEM}{IMAGE}see  b{END}", f"{USER}{IMAGE}see <image 1> b{END}"),
        (
            TURNS,
            2,
            f"{USER}{SYSTEM}{IMAGE * 2}{TURNS.replace('<image>', '')}{END}",
            f"{USER}{IMAGE * 2}Where?<end_of_turn>\n<start_of_turn>model\nThere.<end_of_turn>\n"
            f"<start_of_turn>user\nWhy?{END}",
        ),
    ],
    ids=["one", "two", "text-only", "in-place", "numbered", "multi-view"],
)
def test_prompt_is_the_chat_template_and_only_plain_puts_images_in_place(context, images, upstream, plain):
    assert UPSTREAM.prompt(context, images) == upstream
    assert PLAIN.prompt(context, images) == plain


@pytest.mark.parametrize("token", ["<start_of_image>", "<image_soft_token>"])
def test_a_text_with_a_token_that_stands_for_pixels_is_refused(token):
    with pytest.raises(ValueError, match=f"the prompt contains {token}, which stands for pixels; mark images <image>"):
        UPSTREAM.prompt(f"what is {token}?", 1)


@pytest.mark.parametrize(
    "context, images",
    [
        ("w1 <image> w2 <image>", [picture(20, 9), picture(7, 30)]),
        ("w3 w4 <image 2> ", [picture(12, 12), picture(9, 9), picture(50, 38)]),
        (TURNS, [picture(11, 12), picture(12, 11)]),
        ("w5", []),
    ],
    ids=["in-place", "numbered", "multi-view", "text-only"],
)
def test_prompts_inputs_and_answers_are_those_of_lmms_evals_own_wrapper(context, images):
    """Upstream pads to a multiple of 8, which changes nothing but the length, and rounds pixels."""
    from lmms_eval.models.simple.gemma3 import Gemma3

    processor, said, until = gemma3_processor(), [1, 92, 2, 97], {"until": ["\n\n", "w2"]}
    options = {"system_prompt": SYSTEM[:-2], "min_pixels": 1, "max_pixels": 2}
    call, answer = wrapper_call(Gemma3, processor, context, images, said, until, **options)
    assert answer == UPSTREAM.decode(processor, torch.tensor(said), until)
    assert call["max_new_tokens"] == UPSTREAM.max_new_tokens
    ours = UPSTREAM.encode(processor, [UPSTREAM.prompt(context, len(images))], [UPSTREAM.images(images)])
    pads = call["input_ids"].shape[1] - ours["input_ids"].shape[1]
    assert 0 <= pads < 8 and not call["attention_mask"][:, :pads].any()
    pixels = ours.pop("pixel_values", None)
    assert all(torch.equal(call[name][:, pads:], ours[name]) for name in ours)
    assert ("pixel_values" in call) == (pixels is not None) == bool(images)
    if images:
        assert torch.equal(call["pixel_values"], pixels.to(torch.bfloat16))


def test_tokens_of_an_image_stand_between_a_start_and_an_end_token_and_the_begin_token_is_there_once():
    processor = gemma3_processor()
    prompts = [PLAIN.prompt("w1", 2), PLAIN.prompt("w2", 0)]
    inputs = PLAIN.encode(processor, prompts, [[picture(40, 20), picture(10, 10)], []])
    image = ["<start_of_image>"] + ["<image_soft_token>"] * IMAGE_SIZE + ["<end_of_image>"]
    ends = ["<end_of_turn>", "<start_of_turn>", "model"]
    for row, tokens in zip(inputs["input_ids"], [[*image, *image, "w1"], ["w2"]], strict=True):
        tokens = ["<bos>", "<start_of_turn>", "user", *tokens, *ends]
        pads = ["<pad>"] * (len(row) - len(tokens))
        assert processor.tokenizer.convert_ids_to_tokens(row.tolist()) == pads + tokens


def test_pan_and_scan_stays_off_whatever_was_saved(tmp_path):
    model = tiny_gemma3(layers=3)
    model.save_pretrained(tmp_path)
    gemma3_processor(pan=True).save_pretrained(tmp_path)
    loaded, processor = UPSTREAM.load(str(tmp_path))
    assert family_of(loaded).name == "gemma3"
    inputs = PLAIN.encode(processor, [PLAIN.prompt("w1", 1)], [[picture(600, 100)]])
    assert len(inputs["pixel_values"]) == 1
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


# --- the decoder ---------------------------------------------------------------------------------------------------


def test_the_marks_around_an_image_are_never_pruned():
    model = tiny_gemma3()
    inputs = gemma3_batch(model, [[3, (1,), (2,), 4]])
    with torch.no_grad(), prune(model, PLPHP(r=0.5, delta_r=0.0)) as trace:
        model(**inputs)
    fences = {*positions(inputs["input_ids"], IMAGE_START)[0], *positions(inputs["input_ids"], IMAGE_END)[0]}
    assert len(fences) == 4 and not fences & {int(i) for image in trace.images[0] for i in image}


def test_a_prompt_as_long_as_the_window_is_refused():
    model = tiny_gemma3(layers=3, text={"sliding_window": 24})
    inputs = gemma3_batch(model, [[3, (1,), 3]])
    for method in (PLPHP(), FastV(K=2)):
        with pytest.raises(ValueError, match="sliding_window=24: too short for the prompt of 24 tokens"):
            fast_generate(model, inputs, method)


@pytest.mark.parametrize("method", [None, PLPHP(r=0.5, delta_r=0.0)])
def test_answers_end_at_the_window_and_not_beyond(method):
    """Token by token as generate(), which itself goes on only without a method, where nothing was taken out."""
    model = tiny_gemma3(layers=4, text={"sliding_window": 28})
    inputs = gemma3_batch(model, [[3, (1,), 3]])  # 24 tokens: four steps fill the window
    with prune(model, method):
        expected = model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=None)
    found = fast_generate(model, inputs, method, max_new_tokens=5, eos_token_id=[])
    assert torch.equal(found.sequences, expected)
    with pytest.raises(ValueError, match=r"sliding_window=28: generation has reached it"):
        fast_generate(model, inputs, method, max_new_tokens=6, eos_token_id=[])
    last = fast_generate(model, inputs, method, max_new_tokens=60, eos_token_id=[int(expected[0, -1])])
    assert last.sequences.shape[1] <= 28 + 1


# --- what is not followed ------------------------------------------------------------------------------------------


def tiny_qwen3_5():
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration, Qwen3_5TextConfig, Qwen3_5VisionConfig

    text = {"vocab_size": 98, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "linear_num_value_heads": 2}
    text |= {"linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen3_5Config(text_config=Qwen3_5TextConfig(**text), vision_config=Qwen3_5VisionConfig(**vision))
    return Qwen3_5ForConditionalGeneration(config).eval()


def test_a_hybrid_decoder_is_refused_by_its_layers_before_anything_runs(monkeypatch):
    model = tiny_qwen3_5()
    with (
        pytest.raises(TypeError, match="cannot prune a Qwen3_5ForConditionalGeneration; known model classes"),
        prune(model, PLPHP()),
    ):
        pass
    from plphp_core.families import _families

    class Hybrid(Family):
        name = "hybrid"
        model_classes = ("Qwen3_5ForConditionalGeneration",)

    monkeypatch.setitem(_families(), "hybrid", Hybrid)
    for method in (PLPHP(), FastV(K=2)):
        with (
            pytest.raises(ValueError, match=r"layers 0, 1, 2 have no self_attn: in a hybrid decoder"),
            prune(model, method),
        ):
            pass
    with (
        pytest.raises(ValueError, match=r"layers\.3\.self_attn has 4 heads, but its q_proj makes 8"),
        prune(model, PLPHP()),
    ):
        pass
    with torch.no_grad(), prune(model, None) as trace:  # changes nothing, refuses nothing
        model(input_ids=torch.tensor([[1, 2, 3]]))
    assert "hybrid decoder" in trace.missing


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda attention: setattr(attention, "is_kv_shared_layer", True), "reads an earlier layer's keys"),
        (lambda attention: setattr(attention.config, "attn_logit_softcapping", 50.0), "caps its scores"),
    ],
)
def test_attention_that_cannot_be_followed_is_refused(change, words):
    model = tiny_gemma3(layers=3)
    change(model.model.language_model.layers[1].self_attn)
    with pytest.raises(ValueError, match=rf"self_attn {words}"), prune(model, PLPHP()):
        pass
