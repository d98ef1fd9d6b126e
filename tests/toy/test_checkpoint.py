"""The committed checkpoint: loads offline like any other, small, and trained on the prompts it is asked with."""

import random

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from plphp_core.families import get_family
from tasks.toy.batches import assemble, decoder_states
from tasks.toy.checkpoint import CHECKPOINT
from tasks.toy.prompts import chat, context
from tasks.toy.samples import BENCHMARKS, SUB_TASKS, make_sample, make_samples
from tasks.toy.scenes import draw
from tasks.toy.slots import slot_accuracy
from tasks.toy.tokens import END, IMAGE
from tasks.toy.vision import image_tokens, pixels

FAMILY = get_family("llava_onevision")


@pytest.fixture(scope="module")
def loaded():
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32, local_files_only=True)
    return model.eval(), AutoProcessor.from_pretrained(CHECKPOINT, local_files_only=True)


def a_sample_of_each_sub_task():
    rng = random.Random("each")
    return [make_sample(b, name, rng, "train") for b in BENCHMARKS for name in SUB_TASKS[b]]


def test_checkpoint_is_small_and_holds_no_pickle():
    files = list(CHECKPOINT.iterdir())
    assert sum(file.stat().st_size for file in files) < 6_000_000
    assert {file.suffix for file in files} <= {".json", ".jinja", ".safetensors"}


def test_shape_is_the_real_family_scaled_down(loaded):
    config = loaded[0].config
    assert config.model_type == "llava_onevision" and config.vision_aspect_ratio == "anyres_max_9"
    text = config.text_config
    assert (text.model_type, config.vision_config.model_type) == ("qwen2", "siglip_vision_model")
    assert (text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads) == (8, 8, 2)


def test_training_prompt_is_the_wrappers_prompt():
    for sample in a_sample_of_each_sub_task():
        assert chat(sample) == FAMILY.prompt(context(sample), len(sample.scenes)), sample.sub_task


def test_training_ids_and_image_tokens_are_the_processors(loaded):
    model, processor = loaded
    for sample in a_sample_of_each_sub_task():
        images = [draw(scene, i) for i, scene in enumerate(sample.scenes)]
        inputs = FAMILY.encode(processor, [FAMILY.prompt(context(sample), len(images))], [images])
        batch = assemble([sample], list(range(len(images))), processor.tokenizer)
        prompt = inputs["input_ids"][0]
        assert batch.ids[0, : len(prompt)].tolist() == prompt.tolist()
        with torch.no_grad():
            wanted = model.model.get_image_features(
                inputs["pixel_values"],
                inputs["image_sizes"],
                vision_feature_layer=-1,
                vision_feature_select_strategy="full",
                vision_aspect_ratio="anyres_max_9",
                batch_num_images=inputs["batch_num_images"],
                return_dict=True,
            ).pooler_output
            made = image_tokens(model, pixels(list(sample.scenes), list(range(len(images)))), len(images) == 1)
        torch.testing.assert_close(made.flatten(0, 1), torch.cat(list(wanted)), rtol=1e-5, atol=1e-4)


def test_training_decoder_is_the_models(loaded):
    model, _processor = loaded
    embeddings = torch.randn(2, 20, model.config.text_config.hidden_size)
    with torch.no_grad():
        wanted = model.model.language_model(inputs_embeds=embeddings).last_hidden_state
        made, _ = decoder_states(model, embeddings, torch.arange(20).expand(2, 20))
    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-4)


def test_marks_are_single_tokens_and_texts_survive(loaded):
    tokenizer = loaded[1].tokenizer
    for mark in ("<|im_start|>", END, IMAGE, "\n"):
        assert len(tokenizer(mark)["input_ids"]) == 1
    for sample in a_sample_of_each_sub_task():
        ids = tokenizer(chat(sample) + sample.answer + END)["input_ids"]
        assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(tokenizer("red circle in north")["input_ids"]) == "red circle in north"


def test_answers_fit_the_generation_limits(loaded):
    tokenizer = loaded[1].tokenizer
    for benchmark in BENCHMARKS:
        limit = {"flickr30k": 64, "coco2017": 64, "detailcaps": 512}.get(benchmark, 16)
        for sample in make_samples(benchmark, 60, "lengths", "train"):
            assert len(tokenizer(sample.answer + END)["input_ids"]) <= limit


def test_the_model_sees(loaded):
    """Training scenes, to keep the test scenes for the benchmark: right with its images, wrong with another's."""
    model, processor = loaded
    samples = list(make_samples("coco2017", 8, "sees", "train"))
    images = [[draw(sample.scenes[0], i)] for i, sample in enumerate(samples)]
    inputs = FAMILY.encode(processor, [FAMILY.prompt(context(s), 1) for s in samples], images)
    ids = model.generate(**inputs, max_new_tokens=64, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    answers = processor.batch_decode(ids, skip_special_tokens=True)
    right = [slot_accuracy(a, list(s.references)) for a, s in zip(answers, samples, strict=True)]
    wrong = [slot_accuracy(a, list(s.references)) for a, s in zip(answers[1:] + answers[:1], samples, strict=True)]
    assert sum(right) / 8 > 0.85 and sum(wrong) / 8 < 0.4
