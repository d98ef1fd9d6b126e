"""Which vision tokens a layer kept, drawn on the images: where they were dropped, the image is dark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from plphp_core.config.table_rows import SYMBOLS
from plphp_core.demo.conversation import Conversation
from plphp_core.demo.streaming import StreamedAnswer
from plphp_core.vision.token_geometry import kept_share

ALL = "all"
DROPPED = (38, 42, 51)  # what dropped parts fade to
VEIL = 0.86  # how far
NO_TOKEN = (128, 128, 128)  # where no token lies
LONGEST = 320  # pixels of a map along its longer side
MOST_HEADS = 2  # so many are shown one by one of each image as long as no image is chosen
KEPT, GAMMA = "kept share", "γ"
COLOURS = {KEPT: "#0072B2", GAMMA: "#D55E00", "α": "#767b85", "β": "#a5abb6"}  # of the layers' chart


def token_maps(
    conversation: Conversation, method: str, layer: int, head: str, image: str
) -> list[tuple[Image.Image, str]]:
    """Maps of the method's latest answer with their captions; none without an answer or without the image.

    Args:
        layer: 0-based.
        head: number of a KV head, or ALL.
        image: number of an image of the conversation, from 0, or ALL.
    """
    answer, seen = conversation.answers.get(method), conversation.seen(method)
    if answer is None:
        return []
    chosen = [place for place, number in enumerate(seen) if image in (ALL, str(number))]
    found = []
    for place in chosen:
        picture, boxes, name = conversation.images[seen[place]], answer.boxes[place], f"image {seen[place] + 1}"
        flags = kept_flags(answer, layer, place)
        heads: Sequence[int] = range(len(flags)) if head == ALL else [int(head)]
        if head == ALL:
            same = bool((flags == flags[0]).all())
            which, each = ("every head", flags[0]) if same else ("heads' mean", flags.float().mean(0))
            found.append((kept_picture(picture, boxes, each), f"{name}, {which}: {_number(each)}"))
            heads = () if same or (len(chosen) > 1 and len(flags) > MOST_HEADS) else heads
        for one in heads:
            kept = flags[one]
            found.append((kept_picture(picture, boxes, kept), f"{name}, head {one}: {_number(kept)}"))
    return found


def kept_flags(answer: StreamedAnswer, layer: int, image: int) -> Tensor:
    """Whether each KV head of `layer` kept each token of an image, `(kv_heads, S_j)` bool."""
    tokens = answer.trace.images[0][image]
    return torch.stack([torch.isin(tokens, kept) for kept in answer.trace.kept[layer][0]])


def kept_picture(image: Image.Image, boxes: Tensor, kept: Tensor, longest: int = LONGEST) -> Image.Image:
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
    dark = (1 - VEIL) * pixels.mean(axis=2, keepdims=True) + VEIL * np.array(DROPPED)
    found = np.where(np.isnan(share), NO_TOKEN, share * pixels + (1 - share) * dark)
    return Image.fromarray(np.clip(found, 0, 255).round().astype(np.uint8))


def layers_chart(answer: StreamedAnswer) -> pd.DataFrame | None:
    """Rows (layer, value, what) of one prefill: the kept share, γ, and the method's thresholds of γ.

    None without images.
    """
    if not answer.boxes:
        return None
    retention, gamma = answer.trace.retention[0].tolist(), answer.trace.vision_attention[0].tolist()
    params = answer.method.params() if answer.method is not None else {}
    lines = {KEPT: retention, GAMMA: gamma}
    lines |= {SYMBOLS[name]: [params[name]] * len(retention) for name in ("alpha", "beta") if name in params}
    rows = [(layer, value, what) for what, values in lines.items() for layer, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["layer", "value", "what"]).dropna()


def _number(kept: Tensor) -> str:
    """How many of an image's tokens a head keeps, or the heads on average."""
    return f"{float(kept.sum()):g} of {len(kept)}"
