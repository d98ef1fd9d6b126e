"""Which vision tokens a layer kept, drawn on the images: where they were dropped, the image is grey and striped."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plphp_core.demo.conversation import Conversation
from plphp_core.demo.streaming import StreamedAnswer
from plphp_core.vision.token_geometry import kept_share, veiled

ALL = "all"
LONGEST = 320  # pixels of a map along its longer side


def token_maps(conversation: Conversation, method: str, layer: int, head: str) -> list[tuple[Image.Image, str]]:
    """A map of each image of the method's latest answer, with how many tokens were kept; none without an answer.

    Args:
        layer: 0-based.
        head: number of a KV head, or ALL: stripes are the stronger the fewer heads kept a part's tokens.
    """
    answer = conversation.answers.get(method)
    if answer is None:
        return []
    found = []
    for place, number in enumerate(conversation.seen(method)):
        flags = kept_flags(answer, layer, place).float()
        kept = flags.mean(0) if head == ALL else flags[int(head)]
        caption = f"{float(kept.sum()):g} of {len(kept)}"  # short: a gallery shows one line
        found.append((kept_picture(conversation.images[number], answer.boxes[place], kept), caption))
    return found


def kept_flags(answer: StreamedAnswer, layer: int, image: int) -> Tensor:
    """Whether each KV head of `layer` kept each token of an image, `(kv_heads, S_j)` bool."""
    tokens = answer.trace.images[0][image]
    return torch.stack([torch.isin(tokens, kept) for kept in answer.trace.kept[layer][0]])


def kept_picture(image: Image.Image, boxes: Tensor, kept: Tensor, longest: int = LONGEST) -> Image.Image:
    """The image, `longest` pixels along its longer side, with what was dropped under stripes (`veiled`).

    Args:
        boxes: `(tokens, 4)`.
        kept: `(tokens,)`: bool, or the share of heads that kept each token.
    """
    scale = longest / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    # Enlarged, pixels stay visible as such: they are what the model was given.
    way = Image.Resampling.NEAREST if scale > 4 else Image.Resampling.LANCZOS
    pixels = np.asarray(image.resize((width, height), way), dtype=float)
    return Image.fromarray(veiled(pixels, kept_share(boxes, kept, height, width)))
