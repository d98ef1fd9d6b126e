"""What only the toy Qwen2-VL has: M-RoPE, patches in merged order, JPEG images in training, fewer query heads."""

import random

import pytest
import torch

from plphp_core.families import get_family
from tasks.toy.batches import assemble
from tasks.toy.inherit import ancestor, fewer_query_heads
from tasks.toy.models.qwen2_vl import TOY, patches
from tasks.toy.samples import BENCHMARKS, SUB_TASKS, make_sample
from tasks.toy.scenes import SIZE, draw
from tasks.toy.sizes import DECODER
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


def test_heads_that_go_are_as_if_they_said_nothing():
    """A layer with fewer query heads equals the ancestor's with the output of the smaller heads set to zero."""
    decoder = ancestor()[0].model.language_model
    heads, kv_heads, size = (DECODER[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    narrow = fewer_query_heads(decoder.layers, decoder.config, 4)
    states = torch.randn(2, 9, DECODER["hidden_size"], generator=torch.Generator().manual_seed(0))
    rotary = decoder.rotary_emb(states, torch.arange(9)[None])
    for whole, part in zip(decoder.layers, narrow, strict=True):
        norms = whole.self_attn.o_proj.weight.unflatten(1, (heads, size)).norm(dim=(0, 2))
        kept = torch.zeros(heads)
        for group in torch.arange(heads).chunk(kv_heads):
            kept[sorted(group.tolist(), key=lambda head: -norms[head])[:2]] = 1
        gate = whole.self_attn.o_proj.register_forward_pre_hook(
            lambda _, args, kept=kept: (args[0] * kept.repeat_interleave(size),)
        )
        wanted = whole(states, attention_mask=None, position_embeddings=rotary)
        gate.remove()
        part.self_attn.num_key_value_groups = 2
        made = part(states, attention_mask=None, position_embeddings=rotary)
        torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-4)
    assert fewer_query_heads(decoder.layers, decoder.config, heads) is decoder.layers
