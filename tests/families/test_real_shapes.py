"""Models with the geometry of the released checkpoints: on the meta device whole, with random weights at reduced depth.

Values: config.json of llava-hf/llava-onevision-qwen2-7b-ov-hf and -0.5b-ov-hf, Qwen/Qwen2-VL-7B-Instruct,
Qwen/Qwen2.5-VL-7B-Instruct, Qwen/Qwen3-VL-8B-Instruct, HuggingFaceM4/idefics2-8b-chatty,
TIGER-Lab/Mantis-8B-siglip-llama3, llava-hf/llava-1.5-7b-hf and -13b-hf, llava-hf/llava-v1.6-vicuna-7b-hf and
-mistral-7b-hf, llava-hf/llama3-llava-next-8b-hf. Of InternVL3-8B, InternVL3.5-8B, Idefics3-8B-Llama3 and SmolVLM2-2.2B,
those of the models they are made of: Qwen2.5-7B, Qwen3-8B, InternViT-300M, Llama 3.1 8B, SmolLM2-1.7B, SigLIP so400m.
Of Gemma 3 4B, the sizes that its makers published; its 4.3 billion parameters are counted.
"""

from dataclasses import dataclass, field

import pytest
import torch
import transformers

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.families import get_family
from plphp_core.families.qwen2_vl import resized
from tests import reference
from tests.examples import first
from tests.families.idefics2_factory import idefics2_processor, tiny_idefics2
from tests.families.llava_factory import llava_1_5_processor, tiny_llava_1_5
from tests.families.llava_next_factory import llava_next_processor, tiny_llava_next
from tests.families.mantis_factory import mantis_processor, tiny_mantis
from tests.families.pictures import picture
from tests.families.qwen_factory import GENERATIONS
from tests.families.tiny_models import FAMILIES
from tests.oracle import expect_equal

# Steps: one more where only decoding feels the pruning.
METHODS = [
    (PLPHP(alpha=0.8, beta=0.6), reference.plphp(0.4, 0.3, 0.8, 0.6), 2),
    (FastV(K=2, R=0.5), reference.fastv(2, 0.5), 1),
    (VTW(K=3), reference.vtw(3), 1),
]
QWEN2 = {
    "vocab_size": 152000,
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
SEVEN = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
HALF = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
QWEN_VL = SEVEN | {
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    "use_sliding_window": False,
}
QWEN3 = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
QWEN3_VL = QWEN3 | {
    "max_position_embeddings": 262144,
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True,
    },
}  # fmt: skip
UNTIED = {"tie_word_embeddings": False}
LLAMA3 = {
    "model_type": "llama",
    "vocab_size": 128258,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
SMOL = {
    "model_type": "llama",
    "vocab_size": 49280,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
SO400M |= {"patch_size": 14}
SIGLIP = SO400M | {"model_type": "siglip_vision_model"}
GEMMA = {
    "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 1024,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}  # fmt: skip
VICUNA = {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096}
VICUNA_13B = VICUNA | {
    "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40,
    "num_key_value_heads": 40,
}  # fmt: skip
MISTRAL = {
    "model_type": "mistral", "vocab_size": 32064, "intermediate_size": 14336, "max_position_embeddings": 32768,
    "num_key_value_heads": 8, "sliding_window": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}  # fmt: skip
CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768, "vocab_size": 32000,
}  # fmt: skip


@dataclass(frozen=True)
class Released:
    """A released checkpoint: `text` and `vision` configurations; its decoder as (layers, query heads, KV heads, head
    size), the id of its image token, and the billions of its parameters where they tell that nothing is missing."""

    family: str
    name: str
    text: dict
    vision: dict | None
    decoder: tuple
    image_token: int
    extra: dict = field(default_factory=dict)
    billions: tuple = (0, 100)

    def config(self):
        given = {"text_config": self.text} | ({"vision_config": self.vision} if self.vision else {}) | self.extra
        return getattr(transformers, f"{self.name}Config")(**given)


def onevision(text, decoder):  # SigLIP so400m at 384 is its default
    return Released("llava_onevision", "LlavaOnevision", {"model_type": "qwen2"} | text | QWEN2, None, decoder, 151646)


RELEASED = {
    "llava_onevision 7b": onevision(SEVEN, (28, 28, 4, 128)),
    "llava_onevision 0.5b": onevision(HALF, (24, 14, 2, 64)),
    "qwen2_vl": Released(
        "qwen2_vl", "Qwen2VL", QWEN_VL, {"embed_dim": 1280, "hidden_size": 3584, "depth": 32, "num_heads": 16},
        (28, 28, 4, 128), 151655,
    ),
    "qwen2_5_vl": Released(
        "qwen2_5_vl", "Qwen2_5_VL", QWEN_VL,
        {"hidden_size": 1280, "out_hidden_size": 3584, "depth": 32, "num_heads": 16},
        (28, 28, 4, 128), 151655,
    ),
    "qwen3_vl": Released(
        "qwen3_vl", "Qwen3VL", QWEN3_VL,
        {"hidden_size": 1152, "out_hidden_size": 4096, "depth": 27, "deepstack_visual_indexes": [8, 16, 24]},
        (36, 32, 8, 128), 151655,
    ),
    "idefics2": Released(
        "idefics2", "Idefics2", {"model_type": "mistral", "vocab_size": 32003, "pad_token_id": 0},
        SO400M | {"image_size": 980},
        (32, 32, 8, 128), 32001, billions=(8.3, 8.5),
    ),
    "mantis": Released(
        "mantis", "Llava", LLAMA3, SIGLIP | {"image_size": 384}, (32, 32, 8, 128), 128256,
        {"image_token_index": 128256}, (8.4, 8.6),
    ),
    "internvl3": Released(
        "internvl3", "InternVL", {"model_type": "qwen2"} | SEVEN | QWEN2, None, (28, 28, 4, 128), 151667, UNTIED,
        (7.9, 8.0),
    ),
    "internvl3_5": Released(
        "internvl3", "InternVL", {"model_type": "qwen3"} | QWEN3, None, (36, 32, 8, 128), 151667, UNTIED, (8.5, 8.6),
    ),
    "idefics3": Released(
        "idefics3", "Idefics3", LLAMA3 | {"vocab_size": 128259}, SO400M | {"image_size": 364}, (32, 32, 8, 128),
        128257, {"scale_factor": 2}, (8.4, 8.5),
    ),
    "smolvlm2": Released(
        "smolvlm2", "SmolVLM", SMOL, SO400M | {"image_size": 384}, (24, 32, 32, 64), 49190,
        {"scale_factor": 3, "image_token_id": 49190}, (2.2, 2.3),
    ),
    "gemma3 4b": Released(
        "gemma3", "Gemma3", GEMMA, SIGLIP | {"image_size": 896}, (34, 8, 4, 256), 262144, billions=(4.2, 4.4)
    ),
    "llava_1_5 7b": Released(
        "llava_1_5", "Llava", VICUNA, CLIP, (32, 32, 32, 128), 32000, {"image_token_index": 32000}, (7.0, 7.1)
    ),
    "llava_1_5 13b": Released(
        "llava_1_5", "Llava", VICUNA_13B, CLIP, (40, 40, 40, 128), 32000, {"image_token_index": 32000}, (13.3, 13.4)
    ),
    "llava_next vicuna": Released(
        "llava_next", "LlavaNext", VICUNA, CLIP, (32, 32, 32, 128), 32000, {"image_token_index": 32000}, (7.0, 7.1)
    ),
    "llava_next mistral": Released(
        "llava_next", "LlavaNext", MISTRAL, CLIP, (32, 32, 8, 128), 32000, {"image_token_index": 32000}, (7.5, 7.6)
    ),
    "llava_next llama3": Released(
        "llava_next", "LlavaNext", LLAMA3 | {"vocab_size": 128320}, CLIP, (32, 32, 8, 128), 128256,
        {"image_token_index": 128256}, (8.3, 8.4),
    ),
}  # fmt: skip


SIZES = {  # vision tokens of the images of `image_inputs`
    "llava_onevision": [730, 730, 729 + 27 * 28],
    "qwen2_vl": [720, 6],
    "qwen2_5_vl": [1980, 6],
    "qwen3_vl": [1508, 6],
    "idefics2": [64] * 3,
    "mantis": [728] * 2,
    "internvl3": [13 * 256, 256],
    "idefics3": [13 * 169, 169],
    "smolvlm2": [13 * 81, 81],
    "llava_1_5": [576] * 2,
    "gemma3": [256] * 2,
    "llava_next": [2340, 1176, 1890],
}


def image_inputs(family, model):
    """What the model's forward would get of images, as far as it tells how many tokens they take."""
    if family == "llava_onevision":
        sizes = torch.tensor([[500, 300], [384, 384], [384, 384]])
        return {"pixel_values": torch.empty(0), "batch_num_images": torch.tensor([2, 1]), "image_sizes": sizes}
    if family == "idefics2":  # two pictures and one; the rest is padding
        pixels = torch.zeros(2, 3, 3, 14, 14)
        pixels[0, :2] = pixels[1, :1] = 1.0
        return {"pixel_values": pixels, "input_ids": torch.tensor([[32001]])}
    if family == "mantis":
        return {"pixel_values": torch.empty(2, 3, 384, 384)}
    if family == "internvl3":  # thirteen tiles and one
        ids = [0] + [151667] * (13 * 256) + [1, 0] + [151667] * 256 + [1]
        return {"pixel_values": torch.empty(14, 0), "input_ids": torch.tensor([ids])}
    if family in ("idefics3", "smolvlm2"):  # three rows of four tiles and the whole; an image that is not split
        crop = [0, 1] + [model.config.image_token_id] * SIZES[family][1]
        ids = (crop * 4 + [2]) * 3 + [2] + crop + [0] + crop + [0]
        side = model.config.vision_config.image_size
        return {"pixel_values": torch.ones(1).expand(1, 14, 3, side, side), "input_ids": torch.tensor([ids])}
    if family == "llava_next":
        sizes = torch.tensor([[480, 640], [336, 336], [336, 1344]])
        return {"pixel_values": torch.empty(0), "image_sizes": sizes}
    if family == "gemma3":
        return {"pixel_values": torch.empty(2, 3, 896, 896)}
    if family == "llava_1_5":
        return {"pixel_values": torch.empty(2, 3, 336, 336)}
    patch = model.config.vision_config.patch_size
    height, width = resized(1080, 1920, 2 * patch, *get_family(family).pixels)
    grids = torch.tensor([[1, height // patch, width // patch], [1, 4, 6]])
    return {"pixel_values": torch.empty(0), "image_grid_thw": grids}


@pytest.mark.parametrize("name", RELEASED)
def test_real_depth_and_heads_take_the_hooks_and_lose_them_again(name):
    released, family = RELEASED[name], get_family(RELEASED[name].family)
    with torch.device("meta"):
        model = getattr(transformers, f"{released.name}ForConditionalGeneration")(released.config())
    layers, query_heads, kv_heads, head_dim = released.decoder
    least, most = released.billions
    assert least < sum(parameter.numel() for parameter in model.parameters()) / 1e9 < most
    assert family.image_token_id(model) == released.image_token
    blocks = family.decoder(model).layers
    assert len(blocks) == layers
    for block in blocks:
        attention = block.self_attn
        assert attention.q_proj.out_features == query_heads * head_dim
        assert attention.k_proj.out_features == kv_heads * head_dim
        assert attention.head_dim == head_dim and attention.scaling == head_dim**-0.5
    with prune(model, PLPHP()):
        for block in blocks:
            attention = block.self_attn
            assert len(block._forward_pre_hooks) == len(attention.q_proj._forward_hooks) == 1
            assert len(attention._forward_pre_hooks) == len(attention._forward_hooks) == 1
    assert not any(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    with prune(model, FastV(K=layers, R=0.5)):
        pass
    with pytest.raises(ValueError, match=str(layers)), prune(model, FastV(K=layers + 1, R=0.5)):
        pass
    assert family.image_sizes(model, image_inputs(released.family, model)) == SIZES[released.family]


# --- random weights: real widths, heads and rotary sections at four layers -------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [*GENERATIONS, "llava_onevision 7b", "llava_onevision 0.5b"])
def test_four_layers_equal_the_reference(name):
    """With few words and narrow feed-forward layers, which nothing of ours touches."""
    text = {key: value for key, value in RELEASED[name].text.items() if key not in ("model_type", "vocab_size")}
    text |= {"num_hidden_layers": 4, "intermediate_size": 64}
    family, head_dim = RELEASED[name].family, RELEASED[name].decoder[-1]
    model = FAMILIES[family].model(head_dim=head_dim, text=text)
    images = [(3, 4, 1), (2, 2, 2)] if name in GENERATIONS else [(16, 16, 1), (16, 16, 2)]
    for method, rule, steps in METHODS:
        expect_equal(FAMILIES[family], model, [[3, *images, 4]], method, rule, steps, fast=False)


# --- random weights: real depth, heads and images at a small width ---------------------------------------------------

CLIP_TOWER, SIGLIP_TOWER = ({"image_size": side, "patch_size": 14} for side in (336, 384))
ANYRES = transformers.LlavaNextConfig().image_grid_pinpoints
NARROW = {"layers": 32, "query_heads": 32, "kv_heads": 8, "head_dim": 16, "text": {"hidden_size": 32}}
RESAMPLED = {
    "head_dim": 128, "text": {"hidden_size": 32, "sliding_window": 4096}, "vision": SIGLIP_TOWER | {"image_size": 980},
}  # fmt: skip
# The model, its processor, images, and the tokens of one.
DEEP = {
    "idefics2": lambda: (
        tiny_idefics2(**NARROW | RESAMPLED, latents=64), idefics2_processor(longest=980, shortest=378, latents=64),
        [(500, 375), (1000, 300)], 64,
    ),
    # Upstream's training code leaves LLaVA's "default" in place, which drops SigLIP's first patch: 728 of 729.
    "mantis": lambda: (tiny_mantis(**NARROW, vision=SIGLIP_TOWER), mantis_processor(384, 14), [(640, 480)], 728),
    "llava_1_5": lambda: (
        tiny_llava_1_5(**NARROW, vision=CLIP_TOWER), llava_1_5_processor(True, 336, 14), [(640, 480), (300, 500)], 576
    ),
    "llava_next": lambda: (
        tiny_llava_next(**NARROW, vision=CLIP_TOWER, pinpoints=ANYRES),
        llava_next_processor(side=336, patch=14, pinpoints=ANYRES), [(336, 336)], 1176,
    ),
}  # fmt: skip
PIXELS = {"idefics2": (1, 2, 3, 378, 980), "mantis": (1, 3, 384, 384), "llava_1_5": (2, 3, 336, 336),
          "llava_next": (1, 3, 3, 336, 336)}  # fmt: skip


@pytest.mark.parametrize("name", first(DEEP))
def test_half_is_kept_at_the_released_depth_heads_and_image_size(name):
    (model, processor, sizes, tokens), family = DEEP[name](), get_family(name)
    prompt = family.prompt("w1 " + "<image> " * len(sizes) + "w2", len(sizes))
    inputs = family.encode(processor, [prompt], [[picture(*size) for size in sizes]])
    assert inputs["pixel_values"].shape == PIXELS[name]
    with torch.no_grad(), prune(model, PLPHP(r=0.5, delta_r=0.0)) as trace:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert [len(image) for image in trace.images[0]] == [tokens] * len(sizes)
    head_dim = family.decoder(model).layers[0].self_attn.head_dim
    assert int(trace.kv_bytes_full[0]) == 2 * 32 * 8 * head_dim * 4 * inputs["input_ids"].shape[1]
    vision = tokens * len(sizes)
    for layer, kept in enumerate(trace.kept):
        assert kept[0].shape == (8, vision // 2 if 2 <= layer <= 30 else vision), f"layer {layer}"
