"""One method's answer, as it comes, and its figures at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from plphp_core import prune
from plphp_core.decoding.measure import StepClock
from plphp_core.evaluation.answering import JointAnswerer, Request
from plphp_core.evaluation.generation import generation_arguments, pad_token
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.pruning.method import Method
from plphp_core.pruning.trace import Trace

PACE = 0.1  # seconds between two looks at an unfinished answer: each one takes time from the model


@dataclass(frozen=True, eq=False)
class StreamedAnswer:
    """A complete answer and what it took.

    Attributes:
        prefill_ms: from the call to the first token: image encoding, prefill, scoring. Not a benchmark: the text is
            sent to a browser meanwhile, and γ is recorded in every layer.
        decode_ms: from the first token to the last, in `decode_steps` steps.
        retention, vision_attention: per layer, kept share of the vision tokens and γ.
        kv_bytes, kv_bytes_full: the prompt's keys and values, all layers; the latter with nothing pruned.
        images: prompt positions of each image's tokens, `(S_j,)`.
        kept: per layer, prompt positions of the vision tokens kept, `(kv_heads, kept)`.
        boxes: where each image's tokens lie on it, `(S_j, 4)`, see `Family.token_boxes`.
    """

    text: str
    prompt_tokens: int
    new_tokens: int
    prefill_ms: float
    decode_ms: float
    decode_steps: int
    retention: list[float]
    vision_attention: list[float]
    kv_bytes: int
    kv_bytes_full: int
    images: list[Tensor]
    kept: list[Tensor]
    boxes: list[Tensor]

    def forget(self) -> None:
        """Let go of what only the maps of the latest answer need: megabytes, in a large model."""
        self.kept.clear()
        self.boxes.clear()


class _Stop(StoppingCriteria):
    """Ends every sample as soon as `asked` says so."""

    def __init__(self, asked: Callable[[], bool]):
        self.asked = asked

    def __call__(self, input_ids: torch.LongTensor, scores, **kwargs) -> torch.BoolTensor:
        return torch.full((len(input_ids),), self.asked(), dtype=torch.bool, device=input_ids.device)


def encode(loaded: LoadedModel, context: str, images: list) -> dict:
    """What the model is called with, on its device.

    Args:
        context: as `conversation.context` makes it.

    Raises:
        ValueError: the family cannot make a prompt of it.
    """
    return JointAnswerer(loaded, []).inputs(Request(context, {}, lambda: images))


def stream(
    loaded: LoadedModel, method: Method | None, inputs: dict, max_new_tokens: int, stop: Callable[[], bool]
) -> Iterator[str | StreamedAnswer]:
    """The text so far, now and then, and in the end the `StreamedAnswer`. Greedy.

    Whoever closes the iterator ends the generation; it is over when `close()` returns.

    Args:
        stop: asked after every token; True ends the answer there.

    Raises:
        Exception: what `prune` or `generate` raised.
    """
    tokenizer = loaded.processor.tokenizer
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    run = _Run(loaded, method, inputs, max_new_tokens, stop, streamer)
    run.start()
    try:
        text, shown = "", 0.0
        for piece in streamer:
            text += piece
            if piece and time.monotonic() - shown > PACE:
                yield text
                shown = time.monotonic()
    finally:
        run.closed = True
        run.join()
    if run.error is not None:
        raise run.error
    yield run.answer


class _Run(threading.Thread):
    """`generate` in a thread of its own, since a streamer is read while it is written."""

    def __init__(self, loaded, method, inputs, max_new_tokens, stop, streamer):
        super().__init__(name="answer", daemon=True)
        self.loaded, self.method, self.inputs, self.max_new_tokens = loaded, method, inputs, max_new_tokens
        self.stop, self.streamer = stop, streamer
        self.closed = False
        self.answer: StreamedAnswer | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.answer = self._generate()
        except Exception as error:
            self.error = error
        finally:
            self.streamer.end()  # again, harmless; without it a failure would leave the reader waiting

    @torch.inference_mode()
    def _generate(self) -> StreamedAnswer:
        family, model, processor = self.loaded.family, self.loaded.model, self.loaded.processor
        arguments = generation_arguments({"max_new_tokens": self.max_new_tokens}, family, processor)
        # The boxes before the clock starts: they are the demo's own.
        boxes = family.token_boxes(model, self.inputs)
        with prune(model, self.method) as trace:
            clock = StepClock()
            sequences = model.generate(
                **self.inputs,
                **arguments,
                pad_token_id=pad_token(processor),
                use_cache=True,
                streamer=self.streamer,
                stopping_criteria=StoppingCriteriaList([clock, _Stop(lambda: self.closed or self.stop())]),
            )
        new = sequences[0, self.inputs["input_ids"].shape[1] :].cpu()
        return _answer(family.decode(processor, new, {}), len(new), clock, trace, boxes)


def _answer(text: str, new_tokens: int, clock: StepClock, trace: Trace, boxes: list[Tensor]) -> StreamedAnswer:
    return StreamedAnswer(
        text=text,
        prompt_tokens=trace.prompt.lengths[0],
        new_tokens=new_tokens,
        prefill_ms=clock.prefill_ms,
        decode_ms=clock.decode_ms,
        decode_steps=clock.decode_steps,
        retention=trace.retention[0].tolist(),
        vision_attention=trace.vision_attention[0].tolist(),
        kv_bytes=trace.kv_bytes[0],
        kv_bytes_full=trace.kv_bytes_full[0],
        images=[positions.clone() for positions in trace.images[0]],
        kept=[layer[0].int() for layer in trace.kept],
        boxes=[box.cpu() for box in boxes],
    )
