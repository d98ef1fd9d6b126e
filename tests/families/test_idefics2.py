"""Idefics2: prompts as upstream's wrapper makes them, splitting of images."""

import pytest
import torch
from transformers import Idefics2ForConditionalGeneration

from plphp_core import PLPHP, prune
from plphp_core.families import get_family
from tests.families.idefics2_factory import (
    FAKE_TOKEN,
    LATENTS,
    idefics2_batch,
    idefics2_processor,
    tiny_idefics2,
)
from tests.families.pictures import TURNS, picture, positions, spans
from tests.families.upstream import wrapper_call

UPSTREAM, PLAIN = get_family("idefics2"), get_family("idefics2", "plain")
END = "<end_of_utterance>\nAssistant:"
# Renders what the released checkpoints' chat template does; that one stands in
# github.com/huggingface/text-generation-inference, router/src/infer/chat_template.rs (idefics2-8b-chatty).
TEMPLATE = (
    "{% for message in messages %}{{ message.role.capitalize() }}:"
    "{% if message.content[0].type != 'image' %} {% endif %}"
    "{% for part in message.content %}{{ part.text if part.type == 'text' else '<image>' }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


# --- prompts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context, images, upstream, plain",
    [
        ("a <image> b <image>.", 2, f"User: a <image> b <image>.{END}", f"User: a <image> b <image>.{END}"),
        ("<image> a", 1, f"User: <image> a{END}", f"User: <image> a{END}"),
        ("a", 2, f"User:<image><image>a{END}", f"User:<image><image>a{END}"),
        ("a", 0, f"User: a{END}", f"User: a{END}"),
        (
            TURNS,
            2,
            f"User: {TURNS}{END}",
            "User: <image><image>\nWhere?<end_of_utterance>\nAssistant: There.<end_of_utterance>\nUser: Why?" + END,
        ),
    ],
    ids=["in-place", "first", "unmarked", "text-only", "multi-view"],
)
def test_prompt_is_the_chat_template_with_images_in_place_or_in_front(context, images, upstream, plain):
    assert UPSTREAM.prompt(context, images) == upstream
    assert PLAIN.prompt(context, images) == plain


@pytest.mark.parametrize(
    "context, images",
    [
        ("w1 <image> w2 <image>", [picture(20, 9), picture(7, 30)]),
        ("w3 w4", [picture(12, 12), picture(9, 9), picture(5, 8)]),
        (TURNS, [picture(11, 12), picture(12, 11)]),
    ],
    ids=["in-place", "three", "multi-view"],
)
def test_prompts_inputs_and_answers_are_those_of_lmms_evals_own_wrapper(context, images):
    from lmms_eval.models.simple.idefics2 import Idefics2

    processor, said, until = idefics2_processor(template=TEMPLATE), [1, 75, 2, 72], {"until": ["\n\n"]}
    call, answer = wrapper_call(Idefics2, processor, context, images, said, until)
    assert answer == UPSTREAM.decode(processor, torch.tensor(said), until)
    assert call["max_new_tokens"] == UPSTREAM.max_new_tokens
    ours = UPSTREAM.encode(processor, [UPSTREAM.prompt(context, len(images))], [images])
    assert all(torch.equal(call[name], ours[name]) for name in ours)


@pytest.mark.parametrize("splitting", [False, True])
def test_tokens_of_an_image_stand_between_text_tokens(splitting):
    processor = idefics2_processor(splitting)
    prompts, images = [UPSTREAM.prompt("w1 <image> w2", 1), UPSTREAM.prompt("w3", 2)], [[picture(20, 9)]]
    inputs = UPSTREAM.encode(processor, prompts, [*images, [picture(7, 30), picture(9, 9)]])
    crops = 5 if splitting else 1
    image = (["<fake_token_around_image>"] + ["<image>"] * LATENTS) * crops
    last = "<fake_token_around_image>"
    expected = [
        ["<s>", "User", ":", "w1", *image, last, "w2", "<end_of_utterance>", "Assistant", ":"],
        ["<s>", "User", ":", *image, *image, last, "w3", "<end_of_utterance>", "Assistant", ":"],
    ]
    for row, tokens in zip(inputs["input_ids"], expected, strict=True):
        pads = len(row) - len(tokens)
        assert processor.tokenizer.convert_ids_to_tokens(row.tolist()) == ["<pad>"] * pads + tokens
    assert inputs["pixel_values"].shape[:2] == (2, 2 * crops)


def test_an_image_too_small_for_quarters_is_refused_where_images_are_split():
    narrow = picture(30, 1)
    assert UPSTREAM.images([narrow]) == [narrow]
    with pytest.raises(ValueError, match="image of 30 × 1 pixels: too small to be split"):
        get_family("idefics2", image_splitting=True).images([picture(9, 9), narrow])
    smallest = get_family("idefics2", image_splitting=True).images([picture(2, 2)])
    UPSTREAM.encode(idefics2_processor(True), [UPSTREAM.prompt("w1", 1)], [smallest])


# --- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("splitting", [False, True])
def test_the_family_decides_on_splitting_whatever_was_saved(tmp_path, saved, splitting):
    model = tiny_idefics2(layers=2, splitting=None)
    model.save_pretrained(tmp_path)
    idefics2_processor(saved).save_pretrained(tmp_path)
    family = get_family("idefics2")
    assert family.image_splitting is False
    family.image_splitting = splitting
    loaded, processor = family.load(str(tmp_path), dtype="float32")
    assert processor.image_processor.do_image_splitting is splitting
    assert processor.tokenizer.padding_side == "left"
    sample = [UPSTREAM.prompt("w1", 1)], [[picture(30, 20)]]
    inputs, expected = UPSTREAM.encode(processor, *sample), UPSTREAM.encode(idefics2_processor(splitting), *sample)
    assert all(torch.equal(inputs[name], expected[name]) for name in expected)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)
    assert [len(image) for image in spans(loaded, inputs)[0]] == [LATENTS * (5 if splitting else 1)]


def test_splitting_outlives_a_saved_model(tmp_path):
    tiny_idefics2(layers=2, splitting=True).save_pretrained(tmp_path)
    assert Idefics2ForConditionalGeneration.from_pretrained(tmp_path).config.do_image_splitting is True


# --- images --------------------------------------------------------------------------------------------------------


def test_inputs_are_what_the_processor_makes_of_texts_and_images_at_once():
    processor = idefics2_processor()
    prompts = [UPSTREAM.prompt("w1", 2), UPSTREAM.prompt("w2", 0), UPSTREAM.prompt("w3 <image>", 1)]
    images = [[picture(9, 30), picture(8, 5)], [], [picture(6, 9)]]
    inputs = UPSTREAM.encode(processor, prompts, images)
    expected = processor(text=prompts, images=images, padding=True, padding_side="left", return_tensors="pt")
    assert set(inputs) == set(expected)
    assert all(torch.equal(inputs[name], expected[name]) for name in expected)


def test_the_text_tokens_within_a_split_image_are_never_pruned():
    model, processor = tiny_idefics2(splitting=True), idefics2_processor(True)
    inputs = UPSTREAM.encode(processor, [UPSTREAM.prompt("w1 <image> w2", 1)], [[picture(20, 9)]])
    fake = positions(inputs["input_ids"], FAKE_TOKEN)[0]
    with torch.no_grad(), prune(model, PLPHP(r=0.5, delta_r=0.0)) as trace:
        cache = model(**inputs).past_key_values
    image = set(trace.images[0][0].tolist())
    assert len(fake) == 6 and not image & set(fake) and min(fake) < min(image) < max(image) < max(fake)
    text = inputs["input_ids"].shape[1] - 5 * LATENTS
    assert [layer.keys.shape[2] for layer in cache.layers[2:7]] == [text + 5 * LATENTS // 2] * 5


def test_five_adjacent_pictures_are_one_image_or_five_and_never_a_guess():
    processor = idefics2_processor()
    images = [picture(9 + j, 8, j) for j in range(5)]
    five = UPSTREAM.encode(processor, [UPSTREAM.prompt("w1", 5)], [images])
    three = UPSTREAM.encode(processor, [UPSTREAM.prompt("w1", 3)], [images[:3]])
    silent = tiny_idefics2(layers=4, splitting=None)
    assert [len(image) for image in spans(silent, three)[0]] == [LATENTS] * 3
    with pytest.raises(
        ValueError, match=r"5 images or one image split into 5 crops: set model\.config\.do_image_splitting"
    ):
        spans(silent, five)
    silent.config.do_image_splitting = False
    assert [len(image) for image in spans(silent, five)[0]] == [LATENTS] * 5
    silent.config.do_image_splitting = True
    assert [len(image) for image in spans(silent, five)[0]] == [5 * LATENTS]
    with pytest.raises(ValueError, match=r"not all pictures of the prompt come in groups of 5: \[3\]"):
        spans(silent, three)


def test_mistrals_window_does_no_harm_until_the_prompt_fills_it():
    """Its configuration's default is 4096, which about 60 images of 64 tokens fill, or 12 split ones."""
    method, options = PLPHP(alpha=0.8, beta=0.6), {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    samples = [[4, (16, 24, 1), 5], [3, (8, 12, 1), (24, 24, 2), 4]]
    free, windowed = tiny_idefics2(), tiny_idefics2(text={"sliding_window": 40})
    batch = idefics2_batch(free, samples)
    assert batch["input_ids"].shape[1] < 40 - 4
    with prune(free, method):
        expected = free.generate(**batch, **options)
    with prune(windowed, method):
        assert torch.equal(windowed.generate(**batch, **options), expected)
    short = tiny_idefics2(text={"sliding_window": 12})
    with prune(short, method), pytest.raises(ValueError, match="sliding_window=12: too short for the prompt"):
        short.generate(**batch, **options)
