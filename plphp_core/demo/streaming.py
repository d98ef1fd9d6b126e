"""One method's answer, as it comes, and what the prefill and decode behind it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from plphp_core import prune
from plphp_core.decoding.measure import StepClock
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.evaluation.options import generation_arguments, pad_token
from plphp_core.pruning.method import Method
from plphp_core.pruning.trace import Trace

INTERVAL = 0.1  # seconds between two pieces of an unfinished answer: each one takes time from the model


@dataclass(frozen=True, eq=False)
class StreamedAnswer:
    """A complete answer to one prompt and what it took.

    Attributes:
        prefill_ms: from the call to the first token: image encoding, prefill, scoring. Not a benchmark: the text is
            sent to a browser meanwhile, and γ is recorded in every layer.
        decode_ms: from the first token to the last, in `decode_steps` steps.
        cut_off: whether it ended because it was as long as it may be, not because the model ended it.
        boxes: where each image's tokens lie on it, `(S_j, 4)`, see `Family.token_boxes`.
    """

    method: Method | None
    text: str
    new_tokens: int
    prefill_ms: float
    decode_ms: float
    decode_steps: int
    trace: Trace
    boxes: list[Tensor]
    cut_off: bool = False


class StopWhen(StoppingCriteria):
    """Ends every sample as soon as `told` says so, asked after each token."""

    def __init__(self, told: Callable[[], bool]):
        self.told = told

    def __call__(self, input_ids: torch.LongTensor, scores, **kwargs) -> torch.BoolTensor:
        return torch.full((len(input_ids),), self.told(), dtype=torch.bool, device=input_ids.device)


def stream(
    loaded: LoadedModel,
    method: Method | None,
    inputs: dict,
    images: list[list],
    max_new_tokens: int,
    stopped: Callable[[], bool],
) -> Iterator[str | StreamedAnswer]:
    """The text so far, now and then, and in the end the `StreamedAnswer`. Greedy.

    Whoever closes the iterator ends the generation; it is over when `close()` returns.

    Args:
        images: those of the inputs, as the processor was given them.
        stopped: asked after every token; True ends the answer there.

    Raises:
        Exception: what `prune` or `generate` raised.
    """
    streamer = TextIteratorStreamer(loaded.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    closed = threading.Event()
    answer: Future[StreamedAnswer] = Future()

    def run() -> None:
        stop = StopWhen(lambda: closed.is_set() or stopped())
        try:
            answer.set_result(_generate(loaded, method, inputs, images, max_new_tokens, streamer, stop))
        except Exception as error:
            answer.set_exception(error)
        finally:
            streamer.end()  # again, harmless; without it a failure would leave the reader waiting

    thread = threading.Thread(target=run, name="answer", daemon=True)  # a streamer is read while it is written
    thread.start()
    try:
        text, shown = "", 0.0
        for piece in streamer:
            text += piece
            if piece and time.monotonic() - shown > INTERVAL:
                yield text
                shown = time.monotonic()
    finally:
        closed.set()
        thread.join()
    yield answer.result()


@torch.inference_mode()
def _generate(
    loaded: LoadedModel,
    method: Method | None,
    inputs: dict,
    images: list[list],
    max_new_tokens: int,
    streamer,
    stop: StopWhen,
) -> StreamedAnswer:
    family, model, processor = loaded.family, loaded.model, loaded.processor
    arguments = generation_arguments({"max_new_tokens": max_new_tokens}, family, processor)
    boxes = [one.cpu() for one in family.token_boxes(model, inputs, images)]  # before the clock starts: the demo's own
    with prune(model, method) as trace:
        clock = StepClock()
        sequences = model.generate(
            **inputs,
            **arguments,
            pad_token_id=pad_token(processor),
            use_cache=True,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([clock, stop]),
        )
    new = sequences[0, inputs["input_ids"].shape[1] :].cpu()
    text = family.decode(processor, new, {})
    cut = len(new) >= max_new_tokens and int(new[-1]) not in _ends(model.generation_config.eos_token_id)
    times = clock.prefill_ms, clock.decode_ms, clock.decode_steps
    return StreamedAnswer(method, text, len(new), *times, trace, boxes, cut)


def _ends(tokens: int | list[int] | None) -> list[int]:
    return tokens if isinstance(tokens, list) else [] if tokens is None else [tokens]
