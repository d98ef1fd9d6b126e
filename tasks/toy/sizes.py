"""Sizes that all toy models share."""

from __future__ import annotations

TILE = 48  # pixels of what the vision tower sees; a patch is PATCH pixels, so a tile has SIDE x SIDE patches
PATCH = 8
SIDE = TILE // PATCH

DECODER = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 4096,
}
VISION = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": TILE,
    "patch_size": PATCH,
}
