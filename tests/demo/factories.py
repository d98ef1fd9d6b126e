"""Images, questions and answers for the demo's tests."""

from pathlib import Path

import torch
from PIL import Image

from plphp_core.demo.conversation import Conversation, Turn
from plphp_core.demo.streaming import StreamedAnswer

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = (
    '<img src=x onerror="window.hacked=1"> ${window.hacked=2} {{window.hacked=3}} </div>'
    "<script>window.hacked=4</script> **bold**"
)


def halves(width=40, height=20):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), (250, 0, 0))
    image.paste((0, 0, 250), (width // 2, 0, width, height))
    return image


def an_answer(kept, text="yes", boxes=None, images=(4,)):
    """An answer about images of so many tokens; `kept[layer]` lists each KV head's prompt positions, from 10 on."""
    starts = [10 + sum(images[:number]) for number in range(len(images))]
    return StreamedAnswer(
        text=text, prompt_tokens=20, new_tokens=2, prefill_ms=12.0, decode_ms=3.0, decode_steps=1,
        retention=[sum(map(len, heads)) / len(heads) / sum(images) for heads in kept],
        vision_attention=[0.5] * len(kept), kv_bytes=1024, kv_bytes_full=4096,
        images=[torch.arange(start, start + size) for start, size in zip(starts, images, strict=True)],
        kept=[torch.tensor(heads) for heads in kept],
        boxes=boxes or [torch.full((size, 4), torch.nan) for size in images],
    )  # fmt: skip


def a_conversation(answer, images, method="plphp"):
    return Conversation("llava_onevision", {method: [Turn("what?", images, text=answer.text, answer=answer)]})


def answer_of(session, question, images, method, values=None, conversation=None, tokens=24):
    """The turn that `session` makes of a question to one method; `images` are files."""
    conversation = conversation or Conversation(session.catalogue.first)
    values = session.start(conversation.model, method) | (values or {})
    list(session.ask(conversation, question, images, {method: values}, tokens))
    return conversation.turns[method][-1]
