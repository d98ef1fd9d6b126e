"""Decoders of real shapes with random weights: weights change what a model says, not how long it takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from plphp_core.records.errors import unknown

IMAGE_TOKEN_OFFSET = 2  # the image token is the last id but one; text ids are drawn below it


@dataclass(frozen=True)
class DecoderShape:
    """A decoder behind a LLaVA-OneVision front whose vision tower is one small layer.

    Attributes:
        decoder: `"qwen2"` (biases on q, k, v) or `"llama"`.
        image_side: patches along an image's side; an image has `image_side² + 1` tokens.
    """

    name: str
    decoder: str
    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocabulary: int
    tied: bool = False
    image_side: int = 27

    @property
    def image_tokens(self) -> int:
        return self.image_side**2 + 1

    @property
    def slot_elements(self) -> int:
        """Elements of one token's key and value in one layer."""
        return 2 * self.kv_heads * self.head_dim

    @property
    def token_parameters(self) -> int:
        """Parameters read for every token: the decoder's layers, its last norm and the head; no embedding table."""
        biases = self.query_heads * self.head_dim + self.slot_elements if self.decoder == "qwen2" else 0
        layer = self.layer_weights + biases + 2 * self.hidden
        return self.layers * layer + self.hidden + self.vocabulary * self.hidden

    @property
    def layer_weights(self) -> int:
        """Elements of a layer's matrices: four projections, and a feed-forward block of three."""
        projections = self.hidden * (2 * self.query_heads * self.head_dim + self.slot_elements)
        return projections + 3 * self.hidden * self.intermediate

    def layer_operations(self, tokens: int) -> int:
        """Multiplications of one layer in a prefill: those with its matrices, and causal attention."""
        return tokens * self.layer_weights + tokens * (tokens + 1) * self.query_heads * self.head_dim

    @property
    def parameters(self) -> int:
        """All parameters of the text model, the embedding table included (once where it is also the head)."""
        return self.token_parameters + (0 if self.tied else self.vocabulary * self.hidden)


SHAPES = {
    shape.name: shape
    for shape in (
        DecoderShape("tiny", "qwen2", 6, 4, 2, 16, 64, 128, 512, image_side=8),
        DecoderShape("qwen2_0_5b", "qwen2", 24, 14, 2, 64, 896, 4864, 151936, tied=True),
        DecoderShape("qwen2_7b", "qwen2", 28, 28, 4, 128, 3584, 18944, 152064),
        DecoderShape("llama3_8b", "llama", 32, 32, 8, 128, 4096, 14336, 128256),
    )
}


def shape_named(name: str) -> DecoderShape:
    """The shape called `name`, or UserError listing the known ones."""
    if name not in SHAPES:
        raise unknown("model shape", name, SHAPES)
    return SHAPES[name]


def build(shape: DecoderShape, device: str, dtype: torch.dtype, seed: int = 0) -> nn.Module:
    """A LLaVA-OneVision with this decoder and random weights, in evaluation mode."""
    from transformers import (
        LlamaConfig,
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    text = {"qwen2": Qwen2Config, "llama": LlamaConfig}[shape.decoder](
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=131072,
        tie_word_embeddings=shape.tied,
    )
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=4 * shape.image_side,
        patch_size=4,
    )
    config = LlavaOnevisionConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=shape.vocabulary - IMAGE_TOKEN_OFFSET,
        video_token_id=shape.vocabulary - 1,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=shape.tied,
    )
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlavaOnevisionForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)
    if shape.tied:
        model.tie_weights()
    return model


def prompts(shape: DecoderShape, batch: int, images: int, text: int, device: str, dtype: torch.dtype) -> dict:
    """Model inputs: `batch` prompts of `images` one-tile images in the middle of `text` random text tokens."""
    generator = torch.Generator().manual_seed(0)
    image_token = shape.vocabulary - IMAGE_TOKEN_OFFSET
    words = torch.randint(0, image_token, (batch, text), generator=generator)
    vision = torch.full((batch, images * shape.image_tokens), image_token)
    ids = torch.cat([words[:, : text // 2], vision, words[:, text // 2 :]], dim=1)
    side = 4 * shape.image_side
    pixels = torch.randn(batch * images, 1, 3, side, side, generator=generator)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixels.to(dtype),
        "image_sizes": torch.full((batch * images, 2), side),
        "batch_num_images": torch.full((batch,), images),
    }
    return {name: tensor.to(device) for name, tensor in inputs.items()}
