"""LLaVA-OneVision with the real 7B and 0.5B values: geometry on the meta device, pruning at reduced depth.

Values: config.json of llava-hf/llava-onevision-qwen2-7b-ov-hf and llava-hf/llava-onevision-qwen2-0.5b-ov-hf.
"""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig

from plphp_core.families import get_family
from tests.factories import EOS_TOKEN, IMAGE_TOKEN, PAD_TOKEN, PATCH, TILE, VOCAB, prompt_batch
from tests.families.shapes import expect_every_hook_on_every_layer, expect_reference

FAMILY = get_family("llava_onevision")
SHAPES = {  # layers, query heads, KV heads, head_dim; hidden, intermediate
    "7b": ((28, 28, 4, 128), (3584, 18944)),
    "0.5b": ((24, 14, 2, 64), (896, 4864)),
}


def decoder_config(size, **replaced):
    (layers, query_heads, kv_heads, _), (hidden, intermediate) = SHAPES[size]
    values = {
        "vocab_size": 152000,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": query_heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }
    return Qwen2Config(**values | replaced)


@pytest.mark.parametrize("size", SHAPES)
def test_real_depth_and_heads_take_the_hooks(size):
    config = LlavaOnevisionConfig(text_config=decoder_config(size))  # SigLIP so400m at 384 is its default
    with torch.device("meta"):
        model = LlavaOnevisionForConditionalGeneration(config)
    expect_every_hook_on_every_layer(model, FAMILY, *SHAPES[size][0])
    inputs = {"pixel_values": torch.empty(0), "batch_num_images": torch.tensor([2, 1])}
    sizes = torch.tensor([[500, 300], [384, 384], [384, 384]])
    assert FAMILY.image_sizes(model, inputs | {"image_sizes": sizes}) == [730, 730, 729 + 27 * 28]


@pytest.mark.parametrize("size", SHAPES)
def test_real_width_and_heads_at_four_layers_equal_reference(size):
    """The feed-forward layers are narrow: nothing of ours touches them, and they are most of the weights."""
    (_, query_heads, _, head_dim), _ = SHAPES[size]
    text = decoder_config(
        size, num_hidden_layers=4, intermediate_size=64, vocab_size=VOCAB,
        pad_token_id=PAD_TOKEN, bos_token_id=None, eos_token_id=EOS_TOKEN,
    )  # fmt: skip
    assert text.hidden_size == query_heads * head_dim
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            image_size=TILE, patch_size=PATCH,
        ),
        text_config=text,
        image_token_id=IMAGE_TOKEN,
        video_token_id=93,
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        pad_token_id=PAD_TOKEN,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "q_proj.weight" in path or "k_proj.weight" in path:  # heads that differ in what they attend to
                parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
    model.generation_config.pad_token_id = PAD_TOKEN
    inputs = prompt_batch(model, [[3, (16, 16, 1), (16, 16, 2), 4]])
    expect_reference(model, {key: inputs[key] for key in inputs if key != "attention_mask"}, [17, 17])


def test_the_small_model_is_a_model_of_its_own_in_the_harness():
    config = OmegaConf.load(Path(__file__).parents[2] / "configs/model/llava_onevision_0_5b.yaml")
    assert (config.name, config.family, config.revision) == ("llava_onevision_0_5b", "llava_onevision", None)
    assert config.checkpoint == "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
