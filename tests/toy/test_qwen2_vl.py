"""What only the toy Qwen2-VL has: M-RoPE, patches in merged order, JPEG images in training."""

import random

import pytest
import torch

from plphp_core.families import get_family
from tasks.toy.batches import assemble
from tasks.toy.models.qwen2_vl import TOY, patches
from tasks.toy.samples import BENCHMARKS, SUB_TASKS, make_sample
from tasks.toy.scenes import SIZE, draw
from tasks.toy.vision import pixels

STYLES = ("lmms_eval", "plain")


@pytest.fixture(scope="module")
def built():
    """The model that training starts from: its word vectors and biases are not zero, so that nothing hides."""
    model, processor = TOY.build_model(0)
    return model.eval(), processor


def samples():
    rng = random.Random("qwen2_vl")
    return [make_sample(b, name, rng, "train") for b in BENCHMARKS for name in SUB_TASKS[b]]


def encoded(processor, sample, style):
    family = get_family("qwen2_vl", style)
    images = family.images([draw(scene, i) for i, scene in enumerate(sample.scenes)])
    return family.encode(processor, [TOY.chat(sample, style)], [images])


def batch_of(processor, sample, style):
    return assemble(TOY, [sample], list(range(len(sample.scenes))), processor.tokenizer, style)


@pytest.mark.parametrize("style", STYLES)
def test_training_positions_are_the_models(built, style):
    model, processor = built
    for sample in samples():
        inputs = encoded(processor, sample, style)
        wanted, _ = model.model.get_rope_index(
            inputs["input_ids"], inputs["mm_token_type_ids"], inputs["image_grid_thw"]
        )
        made = TOY.positions(inputs["input_ids"], inputs["input_ids"] == model.config.image_token_id)
        assert torch.equal(made, wanted) and (made[0] != made[2]).any(), sample.sub_task


def test_patches_are_the_processors(built):
    _, processor = built
    scenes = [scene for sample in samples()[:4] for scene in sample.scenes]
    images = [draw(scene, i) for i, scene in enumerate(scenes)]
    wanted = processor.image_processor(images, return_tensors="pt")
    torch.testing.assert_close(patches(pixels(scenes, list(range(len(scenes))))), wanted["pixel_values"])
    # The family's limits leave a drawn scene at its size: 96 / (8 · 2) tokens a side.
    assert SIZE == 96 and (wanted["image_grid_thw"] == torch.tensor([1, 12, 12])).all()
    assert len(TOY.cells) == 36


def test_training_sees_jpeg_where_the_evaluation_does(built):
    _, processor = built
    sample = samples()[0]
    drawn = pixels(list(sample.scenes), list(range(len(sample.scenes))))
    reencoded, plain = (batch_of(processor, sample, style).images for style in STYLES)
    assert torch.equal(plain, drawn)
    assert not torch.equal(reencoded, drawn)
    assert (reencoded.float() - drawn.float()).abs().mean() < 5
