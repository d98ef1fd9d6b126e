"""Qwen-VL models with the real 7B and 8B values: geometry on the meta device, pruning at reduced depth.

Values: config.json of Qwen/Qwen2-VL-7B-Instruct, Qwen/Qwen2.5-VL-7B-Instruct and Qwen/Qwen3-VL-8B-Instruct.
"""

import pytest
import torch
import transformers

from plphp_core.families import get_family
from plphp_core.families.qwen2_vl import resized
from tests.families.qwen_factory import CLASSES, GENERATIONS, qwen_batch, tiny_qwen
from tests.families.shapes import expect_every_hook_on_every_layer, expect_reference

SEVEN = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    "use_sliding_window": False,
}
EIGHT = {
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262144,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}
REAL = {
    "qwen2_vl": (SEVEN, (28, 28, 4, 128)),
    "qwen2_5_vl": (SEVEN, (28, 28, 4, 128)),
    "qwen3_vl": (EIGHT, (36, 32, 8, 128)),
}
VISION = {
    "qwen2_vl": {"embed_dim": 1280, "hidden_size": 3584, "depth": 32, "num_heads": 16},
    "qwen2_5_vl": {"hidden_size": 1280, "out_hidden_size": 3584, "depth": 32, "num_heads": 16},
    "qwen3_vl": {"hidden_size": 1152, "out_hidden_size": 4096, "depth": 27, "deepstack_visual_indexes": [8, 16, 24]},
}


@pytest.mark.parametrize("name", GENERATIONS)
def test_real_depth_and_heads_take_the_hooks(name):
    text, geometry = REAL[name]
    config = getattr(transformers, f"{CLASSES[name]}Config")(text_config=text, vision_config=VISION[name])
    with torch.device("meta"):
        model = getattr(transformers, f"{CLASSES[name]}ForConditionalGeneration")(config)
    family = get_family(name)
    expect_every_hook_on_every_layer(model, family, *geometry)
    assert family.image_token_id(model) == 151655
    patch = 16 if name == "qwen3_vl" else 14
    assert config.vision_config.patch_size == patch
    height, width = resized(1080, 1920, 2 * patch, *family.pixels)
    grid = torch.tensor([[1, height // patch, width // patch], [1, 4, 6]])
    inputs = {"pixel_values": torch.empty(0), "image_grid_thw": grid}
    assert family.image_sizes(model, inputs) == [height * width // (2 * patch) ** 2, 6]


@pytest.mark.parametrize("name", GENERATIONS)
def test_real_width_heads_and_sections_at_four_layers_equal_reference(name):
    """The feed-forward layers are narrow: nothing of ours touches them, and they are most of the weights."""
    text, (_, query_heads, kv_heads, head_dim) = REAL[name]
    text = {**text, "num_hidden_layers": 4, "intermediate_size": 64}
    model = tiny_qwen(name, query_heads=query_heads, kv_heads=kv_heads, head_dim=head_dim, text=text)
    inputs = qwen_batch(model, [[3, (3, 4, 1), (2, 2, 2), 4]])
    expect_reference(model, {key: inputs[key] for key in inputs if key != "attention_mask"}, [12, 4])
