"""Idefics3 and SmolVLM2: prompts as upstream's wrapper makes them, which tiles are one image, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoProcessor

from plphp_core import PLPHP, prune
from plphp_core.families import family_of, get_family
from tests.families.idefics3_factory import (
    CROP_TOKENS,
    FAKE_TOKEN,
    idefics3_batch,
    idefics3_processor,
    tiny_idefics3,
)
from tests.families.pictures import TURNS, picture, positions, spans
from tests.families.upstream import wrapper_call

BOTH = ("idefics3", "smolvlm2")
OPENING = {
    ("idefics3", "lmms_eval"): "<|begin_of_text|>",
    ("idefics3", "plain"): "",  # the tokenizer's to add
    ("smolvlm2", "lmms_eval"): "<|im_start|>",
    ("smolvlm2", "plain"): "<|im_start|>",
}
END = "<end_of_utterance>\nAssistant:"


# --- prompts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context, images, upstream, plain",
    [
        ("a", 1, f"User:<image>a{END}", None),
        ("a", 2, f"User:<image><image>a{END}", None),
        ("a", 0, f"User: a{END}", None),
        ("a <image> b <image>.", 2, f"User: a <image> b <image>.{END}", None),
        ("<image> a", 1, f"User:<image> a{END}", None),
        (
            TURNS,
            2,
            f"User: {TURNS}{END}",
            f"User:<image><image>\nWhere?<end_of_utterance>\nAssistant: There.<end_of_utterance>\nUser: Why?{END}",
        ),
    ],
    ids=["one", "two", "text-only", "in-place", "first", "multi-view"],
)
@pytest.mark.parametrize("family", BOTH)
def test_prompt_is_the_chat_template_with_images_in_place_or_in_front(family, context, images, upstream, plain):
    for style, expected in (("lmms_eval", upstream), ("plain", plain or upstream)):
        assert get_family(family, style).prompt(context, images) == OPENING[family, style] + expected


def test_a_text_with_the_token_around_images_is_refused():
    with pytest.raises(ValueError, match="the prompt contains <fake_token_around_image>, which stands for pixels"):
        get_family("smolvlm2").prompt("a <fake_token_around_image>", 0)


@pytest.mark.parametrize(
    "context, images",
    [("w3 w4", [picture(12, 12), picture(50, 38)]), ("w1", [picture(9, 40)]), ("w5", [])],
    ids=["two", "one", "text-only"],
)
@pytest.mark.parametrize("name", BOTH)
def test_prompts_inputs_and_answers_are_those_of_lmms_evals_own_wrapper(name, context, images):
    """It hands over `audios` and empty lists, which processors no longer take: those are left out on the way. A text
    that marks its images is beyond it.
    """
    from lmms_eval.models.chat.huggingface import Huggingface

    processor, family, said, until = idefics3_processor(name), get_family(name), [1, 104], {"until": ["\n\n"]}

    class Passing:
        apply_chat_template, batch_decode = processor.apply_chat_template, processor.batch_decode
        tokenizer = processor.tokenizer

        def __call__(self, text, images, videos, audios, **options):
            assert not videos and not audios
            return processor(text=text, images=images or None, **options)

    call, answer = wrapper_call(Huggingface, Passing(), context, images, said, until)
    assert answer == family.decode(processor, torch.tensor(said), until)
    assert call["max_new_tokens"] == family.max_new_tokens
    assert [call["eos_token_id"]] == family.end_tokens(processor)
    ours = family.encode(processor, [family.prompt(context, len(images))], [images])
    assert {"input_ids", "attention_mask"} <= set(ours)
    assert all(torch.equal(call[key], ours[key]) for key in ours)


def test_the_opening_stands_once_in_plain_prompts_and_twice_in_upstreams_of_idefics3():
    opened = {}
    for family, style in OPENING:
        processor, made = idefics3_processor(family), get_family(family, style)
        ids = made.encode(processor, [made.prompt("w1", 0)], [[]])["input_ids"]
        opened[family, style] = int((ids == 100).sum())
    assert opened == {key: 2 if key == ("idefics3", "lmms_eval") else 1 for key in OPENING}


def test_answers_end_at_the_tokenizers_end_token_and_at_the_end_of_a_turn():
    known = {"<end_of_utterance>": 7}
    tokenizer = SimpleNamespace(eos_token_id=3, convert_tokens_to_ids=known.get)
    assert get_family("idefics3").end_tokens(SimpleNamespace(tokenizer=tokenizer)) == [3, 7]
    tokenizer.eos_token_id = 7
    assert get_family("smolvlm2").end_tokens(SimpleNamespace(tokenizer=tokenizer)) == [7]


# --- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [True, False], ids=["labels are tokens", "labels are text"])
@pytest.mark.parametrize("splitting", [True, False])
@pytest.mark.parametrize("name", BOTH)
def test_tiles_of_one_image_and_of_two_are_told_apart(name, splitting, labels):
    model, processor = tiny_idefics3(name, layers=4), idefics3_processor(name, splitting, labels=labels)
    family = get_family(name)
    images = [[picture(40, 30), picture(10, 10)], [], [picture(10, 40)], [picture(9, 9)] * 3]
    contexts = ["w1 w2", "w3", "<image>", "w1 <image><image> w2 <image>"]
    prompts = [family.prompt(text, len(own)) for text, own in zip(contexts, images, strict=True)]
    inputs = family.encode(processor, prompts, images)
    crops = [[13, 17], [], [5], [17] * 3] if splitting else [[1, 1], [], [1], [1] * 3]
    for call in ("generate", "forward"):
        found = spans(model, inputs, call)
        assert [[len(image) for image in own] for own in found] == [[CROP_TOKENS * n for n in own] for own in crops]
        flat = [[token for image in own for token in image] for own in found]
        assert flat == positions(inputs["input_ids"], family.image_token_id(model))


def test_the_text_around_tiles_is_never_pruned():
    model = tiny_idefics3()
    inputs = idefics3_batch(model, [[3, (2, 2, 1), (0, 0, 2), 4]])
    with torch.no_grad(), prune(model, PLPHP(r=0.5, delta_r=0.0)) as trace:
        cache = model(**inputs).past_key_values
    fakes = positions(inputs["input_ids"], FAKE_TOKEN)[0]
    assert len(fakes) == 6 + 2 and not {*fakes} & {int(i) for image in trace.images[0] for i in image}
    text = inputs["input_ids"].shape[1] - 6 * CROP_TOKENS
    assert [layer.keys.shape[2] for layer in cache.layers[2:7]] == [text + 6 * CROP_TOKENS // 2] * 5


@pytest.mark.parametrize("name", BOTH)
def test_another_number_of_tokens_than_features_is_refused(name):
    model, processor, family = tiny_idefics3(name, layers=4), idefics3_processor(name, tokens=5), get_family(name)
    inputs = family.encode(processor, [family.prompt("w1", 1)], [[picture(40, 20)]])
    for call in ("generate", "forward"):
        with pytest.raises(ValueError, match=r"45 image tokens, but the model makes 36 .* image_seq_len, 5 here"):
            spans(model, inputs, call)


def test_a_prompt_cut_within_an_image_is_refused():
    model = tiny_idefics3(layers=4)
    inputs = idefics3_batch(model, [[3, (1, 2, 1)]])
    cut = inputs | {name: inputs[name][:, :-1] for name in ("input_ids", "attention_mask")}
    with pytest.raises(ValueError, match="the prompt ends within an image"):
        spans(model, cut, "forward")


# --- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splitting", [True, False])
@pytest.mark.parametrize("name", BOTH)
def test_the_family_decides_on_splitting_whatever_was_saved(tmp_path, name, splitting):
    model, family = tiny_idefics3(name, layers=4), get_family(name, image_splitting=splitting)
    model.save_pretrained(tmp_path)
    idefics3_processor(name, not splitting).save_pretrained(tmp_path)
    loaded, processor = family.load(str(tmp_path))
    assert family_of(loaded).name == name
    inputs = family.encode(processor, [family.prompt("w1", 1)], [[picture(40, 30)]])
    assert inputs["pixel_values"].shape[1] == (13 if splitting else 1)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


def test_a_smolvlm_of_the_first_generation_runs_on_idefics3s_class_with_its_own_prompts(tmp_path):
    tiny_idefics3("idefics3", layers=2).save_pretrained(tmp_path)
    idefics3_processor("smolvlm2").save_pretrained(tmp_path)
    model, processor = get_family("smolvlm2").load(str(tmp_path))
    assert type(model).__name__ == "Idefics3ForConditionalGeneration"
    assert type(processor) is type(AutoProcessor.from_pretrained(tmp_path))


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr("plphp_core.families.base.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="SmolVLM2 needs what is not installed here: num2words; `pip install num2w"):
        get_family("smolvlm2").load("anywhere")
    get_family("idefics3").check_packages()
