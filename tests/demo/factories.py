"""Images, questions and answers for the demo's tests."""

from pathlib import Path
from types import SimpleNamespace

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


def an_answer(kept=(((10,),),), text="yes", boxes=None, images=(4,), method=None, cut_off=False, merged=()):
    """An answer about images of so many tokens; `kept[layer]` lists each KV head's prompt positions, from 10 on."""
    starts = [10 + sum(images[:number]) for number in range(len(images))]
    trace = SimpleNamespace(
        images=[[torch.arange(start, start + size) for start, size in zip(starts, images, strict=True)]],
        kept=[[[torch.tensor(head, dtype=torch.long) for head in heads]] for heads in kept],
        merged=[[torch.tensor(merged, dtype=torch.long)] for _ in kept],
        retention=torch.tensor([[sum(map(len, heads)) / len(heads) / sum(images) for heads in kept]]),
        vision_attention=torch.full((1, len(kept)), 0.5),
        kv_bytes=[2**20],
        kv_bytes_full=[2**22],
    )
    boxes = boxes or [torch.full((size, 4), torch.nan) for size in images]
    times = {"prefill_ms": 12.0, "decode_ms": 3.0, "decode_steps": 1}
    return StreamedAnswer(method, text, 2, **times, trace=trace, boxes=boxes, cut_off=cut_off)


def a_conversation(answer, images, method="plphp"):
    """One question about the images and its answer."""
    found = Conversation(images, {method: [Turn("what?", range(len(images)))]})
    found.complete(method, answer)
    return found


def ask(session, question, images, methods, conversation=None, tokens=24):
    """The conversation after a question; `images` are files, `methods` the values that differ from the first ones."""
    conversation = conversation or Conversation()
    values = {name: session.start[name] | changes for name, changes in methods.items()}
    list(session.ask(conversation, question, images, values, tokens))
    return conversation
