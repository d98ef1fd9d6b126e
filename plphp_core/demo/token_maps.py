"""The maps of an answer: which vision tokens of its images a layer kept (`vision.token_pictures`)."""

from __future__ import annotations

from PIL import Image

from plphp_core.demo.conversation import Conversation
from plphp_core.vision.token_pictures import kept_flags, merged_flags, token_picture

ALL = "all"


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
        tokens = answer.trace.images[0][place]
        flags, merged = kept_flags(answer.trace, tokens)[layer].float(), merged_flags(answer.trace, tokens)[layer]
        kept = flags.mean(0) if head == ALL else flags[int(head)]
        caption = f"{float(kept.sum()):g} of {len(kept)}"  # short: a gallery shows one line
        caption += f", {int(merged.sum())} merged" * bool(merged.any())
        found.append((token_picture(conversation.images[number], answer.boxes[place], kept, merged), caption))
    return found
