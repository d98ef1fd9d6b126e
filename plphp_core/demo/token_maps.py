"""The kept-token maps of one column, as HTML: for a layer, per image, all KV heads or a chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import torch
from PIL import Image

from plphp_core.demo.conversation import Conversation
from plphp_core.demo.maps import data_uri, kept_flags, kept_picture
from plphp_core.demo.streaming import StreamedAnswer

ALL = "all"
LARGE, SMALL = 260, 128  # pixels along the longer side
NO_ANSWER = '<div class="maps empty">no answer yet</div>'
NOWHERE = (
    "This model's vision tokens have no place of their own on the image: "
    "a part is the darker, the fewer are left of those that see it."
)
MOST_HEADS = 2  # so many are shown of each image as long as no image is chosen


def maps(conversation: Conversation, method: str, layer: int, head: str, image: str, located: bool) -> str:
    """The pictures of the method's latest answer.

    Args:
        layer: 0-based.
        head: number of a KV head, or ALL.
        image: number of an image of the conversation, from 1, or ALL.
        located: `Family.located` of the model.
    """
    turn = conversation.latest(method)
    if turn is None:
        return NO_ANSWER
    if not turn.answer.images:
        return '<div class="maps empty">no image</div>'
    note = "" if located else NOWHERE
    images = [one for earlier in conversation.history(method) for one in earlier.images]
    chosen = range(len(images)) if image == ALL else [int(image) - 1]
    if not all(number < len(images) for number in chosen):
        return f'<div class="maps empty">this column has no image {escape(image)}</div>'
    many = len(chosen) > 1
    parts = [_image(turn.answer, images[one], layer, head, one, len(images), many) for one in chosen]
    whole = "".join(f"<div>{part}</div>" for part in parts)
    return f'{note and f"<p>{note}</p>"}<div class="maps{" many" * many}">{whole}</div>'


def _image(
    answer: StreamedAnswer, picture: Image.Image, layer: int, head: str, number: int, count: int, many: bool
) -> str:
    flags = kept_flags(answer, min(layer, len(answer.kept) - 1), number)
    boxes = answer.boxes[number]
    name = f"image {number + 1}: " if count > 1 else ""
    if head != ALL:
        one = flags[int(head)]
        return _figure(picture, boxes, one, LARGE, f"{name}head {head} keeps {_of(one)}")
    if bool((flags == flags[0]).all()):
        return _figure(
            picture,
            boxes,
            flags[0],
            LARGE,
            f"{name}every head keeps {'the same ' * bool(0 < flags[0].sum() < len(flags[0]))}{_of(flags[0])}",
        )
    shares = flags.float().mean(0)
    whole = _figure(picture, boxes, shares, LARGE, f"{name}each head keeps {_of(shares)}; here all heads")
    if many and len(flags) > MOST_HEADS:
        return whole + "<p>Choose an image to see its heads one by one.</p>"
    return whole + _heads(picture, boxes, flags)


def _heads(picture: Image.Image, boxes: torch.Tensor, flags: Sequence[torch.Tensor]) -> str:
    singles = [_figure(picture, boxes, one, SMALL, f"head {head}") for head, one in enumerate(flags)]
    return f'<div class="heads">{"".join(singles)}</div>'


def _figure(picture: Image.Image, boxes: torch.Tensor, kept: torch.Tensor, longest: int, said: str) -> str:
    uri = data_uri(kept_picture(picture, boxes, kept, longest))
    return f'<figure><img src="{uri}" alt="{escape(said)}"><figcaption>{escape(said)}</figcaption></figure>'


def _of(kept: torch.Tensor) -> str:
    """How many of an image's tokens a head keeps, or the heads on average."""
    tokens, number = len(kept), float(kept.sum())
    if number == tokens:
        return f"all {tokens} tokens"
    return f"{number:g} of {tokens} tokens ({number / tokens:.0%})" if number else f"none of {tokens} tokens"
