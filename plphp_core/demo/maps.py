"""Pictures of the vision tokens that a layer kept: the image where tokens were kept, dark where they were dropped."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plphp_core.demo.streaming import StreamedAnswer
from plphp_core.vision.token_geometry import kept_share

DROPPED = (38, 42, 51)  # what dropped parts fade to
VEIL = 0.86  # how far
NOWHERE = (128, 128, 128)  # where no token lies


def kept_flags(answer: StreamedAnswer, layer: int, image: int) -> Tensor:
    """Whether each KV head of `layer` kept each token of an image, `(kv_heads, S_j)` bool."""
    return torch.stack([torch.isin(answer.images[image], kept.long()) for kept in answer.kept[layer]])


def kept_picture(image: Image.Image, boxes: Tensor, kept: Tensor, longest: int) -> Image.Image:
    """The image, `longest` pixels along its longer side, with what was dropped in the dark.

    Args:
        boxes: `(tokens, 4)`.
        kept: `(tokens,)`: bool, or the share of heads that kept each token.
    """
    scale = longest / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    # Enlarged, pixels stay visible as such: they are what the model was given.
    way = Image.Resampling.NEAREST if scale > 4 else Image.Resampling.LANCZOS
    pixels = np.asarray(image.resize((width, height), way), dtype=float)
    share = kept_share(boxes, kept, height, width)[..., None]
    grey = pixels.mean(axis=2, keepdims=True)
    dark = (1 - VEIL) * grey + VEIL * np.array(DROPPED)
    found = np.where(np.isnan(share), NOWHERE, share * pixels + (1 - share) * dark)
    return Image.fromarray(np.clip(found, 0, 255).round().astype(np.uint8))


def thumbnail(image: Image.Image, height: int) -> Image.Image:
    """A small version, `height` pixels high, no wider than three times that."""
    small = image.copy()
    small.thumbnail((3 * height, height), Image.Resampling.LANCZOS)
    return small


def data_uri(image: Image.Image, quality: int = 88) -> str:
    """The image as a JPEG within a URL."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
