"""The committed checkpoints: load offline like any other, small, and trained on the prompts they are asked with."""

import functools
import random

import pytest
import torch

from plphp_core.families import get_family
from tasks.toy.batches import assemble, decoder_states
from tasks.toy.fairness import NEW_TOKENS, OTHERS
from tasks.toy.prompts import context
from tasks.toy.samples import BENCHMARKS, SUB_TASKS, make_sample, make_samples
from tasks.toy.scenes import draw
from tasks.toy.slots import slot_accuracy
from tasks.toy.toy import get_toy, toy_names
from tests.examples import first

TOYS = [get_toy(name) for name in toy_names()]
pytestmark = pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.name)


@functools.cache
def loaded(toy):
    return toy.family.load(str(toy.checkpoint), dtype="float32")


@functools.cache
def a_sample_of_each_sub_task():
    rng = random.Random("each")
    return [make_sample(b, name, rng, "train") for b in BENCHMARKS for name in SUB_TASKS[b]]


def test_checkpoint_is_small_and_holds_no_pickle(toy):
    files = list(toy.checkpoint.iterdir())
    assert sum(file.stat().st_size for file in files) < 6_000_000
    assert {file.suffix for file in files} <= {".json", ".jinja", ".safetensors"}


def test_shape_is_the_real_family_scaled_down(toy):
    model, _processor = loaded(toy)
    kinds = {
        "llava_onevision": ("qwen2", "siglip_vision_model"),
        "llava_1_5": ("llama", "clip_vision_model"),
        "mantis": ("llama", "siglip_vision_model"),
        "idefics2": ("mistral", "idefics2_vision"),
        "qwen2_vl": ("qwen2_vl_text", "qwen2_vl_vision"),
    }
    text = model.config.text_config
    assert (text.model_type, model.config.vision_config.model_type) == kinds[toy.name]
    assert (text.num_hidden_layers, text.num_key_value_heads) == (12, 2)
    biased = [name for name, _ in toy.family.decoder(model).named_parameters() if name.endswith("bias")]
    assert bool(biased) == text.model_type.startswith("qwen2"), "of these decoders, only Qwen2's attention has biases"


@pytest.mark.parametrize("style", first(["lmms_eval", "plain"]))
def test_training_ids_and_image_tokens_are_the_processors(toy, style):
    model, processor = loaded(toy)
    family = get_family(toy.name, style)
    for sample in a_sample_of_each_sub_task():
        images = family.images([draw(scene, i) for i, scene in enumerate(sample.scenes)])
        inputs = family.encode(processor, [family.prompt(context(sample), len(images))], [images])
        batch = assemble(toy, [sample], list(range(len(images))), processor.tokenizer, style)
        prompt = inputs["input_ids"][0]
        assert batch.ids[0, : len(prompt)].tolist() == prompt.tolist(), sample.sub_task
        assert batch.image_mask[0, : len(prompt)].sum() == sum(family.image_sizes(model, inputs))
        assert torch.equal(torch.cat([batch.ids[0], batch.targets[0, -1:]])[len(prompt) :], answer_ids(toy, sample))
        with torch.no_grad():
            wanted = encoded_images(toy, inputs)
            made = toy.image_tokens(model, batch.images, batch.alone)
        torch.testing.assert_close(made.flatten(0, 1), wanted, rtol=1e-5, atol=1e-4)


def answer_ids(toy, sample):
    tokenizer = loaded(toy)[1].tokenizer
    return torch.tensor(tokenizer(sample.answer + toy.end, add_special_tokens=False)["input_ids"])


def encoded_images(toy, inputs):
    """What the model itself makes of the processor's images, (tokens, D): caught where the decoder gets it."""
    model, caught = loaded(toy)[0], []
    hook = toy.family.decoder(model).register_forward_pre_hook(
        lambda _module, _args, kwargs: caught.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with hook:
        model(**inputs)
    return caught[0][inputs["input_ids"] == model.config.image_token_id]


def test_training_decoder_is_the_models(toy):
    """Over whole prompts of images and text, positions included."""
    model, processor = loaded(toy)
    for sub_task in ("IEdit", "MagicBrush"):
        sample = make_sample("ie", sub_task, random.Random(2), "train")
        images = toy.family.images([draw(scene, i) for i, scene in enumerate(sample.scenes)])
        inputs = toy.family.encode(processor, [toy.family.prompt(context(sample), 2)], [images])
        batch = assemble(toy, [sample], [0, 1], processor.tokenizer)
        with torch.no_grad():
            wanted = model(**inputs).logits
            embeddings = model.get_input_embeddings()(batch.ids)
            features = toy.image_tokens(model, batch.images, batch.alone)
            embeddings = embeddings.masked_scatter(batch.image_mask[..., None], features)
            positions = toy.positions(batch.ids, batch.image_mask)
            states, _ = decoder_states(toy.family.decoder(model), embeddings, positions)
        made = model.lm_head(states[:, : wanted.shape[1]])
        torch.testing.assert_close(made, wanted, rtol=0, atol=2e-3)


def test_marks_are_single_tokens_and_texts_survive(toy):
    tokenizer = loaded(toy)[1].tokenizer
    for mark in (*toy.family.special_tokens, toy.end, toy.image_token, "\n"):
        assert len(tokenizer(mark, add_special_tokens=False)["input_ids"]) == 1
    for sample in a_sample_of_each_sub_task():
        for style in ("lmms_eval", "plain"):
            ids = tokenizer(toy.chat(sample, style) + sample.answer + toy.end)["input_ids"]
            assert tokenizer.unk_token_id not in ids
    words = tokenizer("red circle in north", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(words) == "red circle in north"


def test_answers_fit_the_generation_limits(toy):
    tokenizer = loaded(toy)[1].tokenizer
    for benchmark in BENCHMARKS:
        limit = NEW_TOKENS.get(benchmark, OTHERS)
        for sample in make_samples(benchmark, 60, "lengths", "train"):
            assert len(tokenizer(sample.answer + toy.end, add_special_tokens=False)["input_ids"]) <= limit


def test_the_model_sees(toy):
    """Training scenes, to keep the test scenes for the benchmark: right with its images, wrong with another's."""
    model, processor = loaded(toy)
    samples = list(make_samples("coco2017", 8, "sees", "train"))
    images = [toy.family.images([draw(sample.scenes[0], i)]) for i, sample in enumerate(samples)]
    inputs = toy.family.encode(processor, [toy.family.prompt(context(s), 1) for s in samples], images)
    ids = model.generate(**inputs, max_new_tokens=64, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    answers = processor.batch_decode(ids, skip_special_tokens=True)
    right = [slot_accuracy(a, list(s.references)) for a, s in zip(answers, samples, strict=True)]
    wrong = [slot_accuracy(a, list(s.references)) for a, s in zip(answers[1:] + answers[:1], samples, strict=True)]
    assert sum(right) / 8 > 0.75 and sum(wrong) / 8 < 0.4
