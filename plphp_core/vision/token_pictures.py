"""Which vision tokens layers kept, drawn on the image: where they were dropped, the image is grey and striped; tokens
that stand for others too, since a method merged them, have a frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from plphp_core.vision.token_geometry import kept_share, veiled

if TYPE_CHECKING:
    from plphp_core.pruning.trace import Trace

LONGEST = 320  # pixels of a picture along its longer side
FRAMES = ((255, 255, 255), (213, 0, 120))  # around a merged token, the second within the first: seen on any photo


def kept_flags(trace: Trace, tokens: Tensor) -> Tensor:
    """Which of `tokens`, prompt positions `(tokens,)` of the first sample, each layer's KV heads kept, `(layers,
    kv_heads, tokens)` bool.
    """
    return torch.stack([torch.stack([torch.isin(tokens, one) for one in heads]) for heads, *_ in trace.kept])


def merged_flags(trace: Trace, tokens: Tensor) -> Tensor:
    """Which of them stand in each layer for others too, `(layers, tokens)` bool."""
    return torch.stack([torch.isin(tokens, own) for own, *_ in trace.merged])


def token_picture(
    image: Image.Image, boxes: Tensor, kept: Tensor, merged: Tensor | None = None, longest: int = LONGEST
) -> Image.Image:
    """The image, `longest` pixels along its longer side, what was dropped under stripes (`veiled`), frames around what
    others were merged into; tokens without a place have none.

    Args:
        boxes: `(tokens, 4)`.
        kept: `(tokens,)`: bool, or the share of heads and layers that kept each token.
        merged: `(tokens,)` bool; None: none.
    """
    scale = longest / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    # Enlarged, pixels stay visible as such: they are what the model was given.
    way = Image.Resampling.NEAREST if scale > 4 else Image.Resampling.LANCZOS
    pixels = np.asarray(image.resize((width, height), way), dtype=float)
    picture = Image.fromarray(veiled(pixels, kept_share(boxes, kept, height, width)))
    if merged is not None:
        _frame(picture, boxes[merged])
    return picture


def _frame(picture: Image.Image, boxes: Tensor) -> None:
    draw, scale = ImageDraw.Draw(picture), torch.tensor([picture.width, picture.height] * 2)
    for left, top, right, bottom in (boxes[~boxes.isnan().any(1)] * scale).round().int().tolist():
        for inside, colour in enumerate(FRAMES):
            if right - left > 2 * inside + 1 and bottom - top > 2 * inside + 1:
                draw.rectangle((left + inside, top + inside, right - 1 - inside, bottom - 1 - inside), outline=colour)
