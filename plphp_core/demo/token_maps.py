"""Which vision tokens a layer kept, drawn on the images: where they were dropped, the image is grey and striped; tokens
that stand for others too, since a method merged them, have a frame.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from plphp_core.demo.conversation import Conversation
from plphp_core.demo.streaming import StreamedAnswer
from plphp_core.vision.token_geometry import kept_share, veiled

ALL = "all"
LONGEST = 320  # pixels of a map along its longer side
FRAMES = ((255, 255, 255), (213, 0, 120))  # around a merged token, the second within the first: seen on any photo


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
        boxes = answer.boxes[place]
        picture = kept_picture(conversation.images[number], boxes, kept)
        merged = merged_flags(answer, layer, place)
        if merged.any():
            caption += f", {int(merged.sum())} merged"
            frame(picture, boxes[merged])
        found.append((picture, caption))
    return found


def kept_flags(answer: StreamedAnswer, layer: int, image: int) -> Tensor:
    """Whether each KV head of `layer` kept each token of an image, `(kv_heads, S_j)` bool."""
    tokens = answer.trace.images[0][image]
    return torch.stack([torch.isin(tokens, kept) for kept in answer.trace.kept[layer][0]])


def merged_flags(answer: StreamedAnswer, layer: int, image: int) -> Tensor:
    """Which tokens of an image stand in `layer` for others too, `(S_j,)` bool."""
    return torch.isin(answer.trace.images[0][image], answer.trace.merged[layer][0])


def frame(picture: Image.Image, boxes: Tensor) -> None:
    """Draw frames around the boxes, `(tokens, 4)`; those without a place have none. Changes the picture."""
    draw, scale = ImageDraw.Draw(picture), torch.tensor([picture.width, picture.height] * 2)
    for left, top, right, bottom in (boxes[~boxes.isnan().any(1)] * scale).round().int().tolist():
        for inside, colour in enumerate(FRAMES):
            if right - left > 2 * inside + 1 and bottom - top > 2 * inside + 1:
                draw.rectangle((left + inside, top + inside, right - 1 - inside, bottom - 1 - inside), outline=colour)


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
