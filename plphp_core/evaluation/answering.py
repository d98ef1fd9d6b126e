"""From requests to answers: batches of one kind of generation, one pruned `generate` each, errors kept per sample."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import logging
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from PIL import ImageFile
from transformers import StoppingCriteriaList

from plphp_core import prune
from plphp_core.decode import fast_generate
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.family import Family
from plphp_core.images import as_rgb
from plphp_core.measure import StepClock

# What the fast path takes of a task's generation arguments.
FAST_ARGUMENTS = {"max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "eos_token_id", "num_beams"}
SAMPLING = ("temperature", "top_p", "top_k")

log = logging.getLogger("plphp.answering")


@dataclass(frozen=True, eq=False)
class Request:
    """One sample to answer.

    Attributes:
        context: the task's text, before the family's chat template.
        generation: the task's generation arguments; never changed here.
        visuals: returns the sample's images (PIL), decoding them only now.
        tag: the caller's name for the sample.
    """

    context: str
    generation: dict
    visuals: Callable[[], list]
    tag: Hashable = None


@dataclass(frozen=True, eq=False)
class Answer:
    """One answered sample. Times are wall times of its whole batch, in milliseconds."""

    text: str
    prompt_tokens: int
    new_tokens: int
    images_sha256: list[str]  # of the pixels handed to the processor
    image_notes: list[str]  # what was done to images that were not upright RGB
    retention: list[float]  # per layer: kept share of the vision tokens
    kv_bytes: int  # the prompt's keys and values, all layers, what this sample's own slots take
    kv_bytes_full: int  # the same with nothing pruned
    kv_bytes_stored: int  # its share of the batch's storage, padding and filler included
    prefill_ms: float
    decode_ms: float
    decode_steps: int
    batch_size: int


@dataclass(frozen=True, eq=False)
class Failure:
    """A sample without an answer. Never an empty string instead."""

    kind: str
    message: str
    trace: str = field(default="", repr=False)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        message = str(error).strip() or "no message"
        return cls(type(error).__name__, message[:500], "".join(traceback.format_exception(error))[-4000:])

    def __str__(self) -> str:
        return f"{self.kind}: {self.message.splitlines()[0]}"


Result = tuple[Request, Answer | Failure]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request of a batch, ready to be encoded: its place in the batch, chat string, images and their notes."""

    index: int
    prompt: str
    images: list
    notes: list[str]


def batches(requests: Iterable[Request], batch_size: int) -> list[list[Request]]:
    """Batches that never mix generation arguments, longest prompts first (memory trouble shows early, little padding).

    The result depends on nothing but `requests` and `batch_size`, so an interrupted run meets the same batches again.
    """
    groups: dict[str, list[Request]] = {}
    for request in requests:
        groups.setdefault(json.dumps(request.generation, sort_keys=True, default=str), []).append(request)
    found = []
    for group in groups.values():
        group.sort(key=lambda request: (-request.context.count("<image>"), -len(request.context)))
        found += [group[start : start + batch_size] for start in range(0, len(group), batch_size)]
    return found


def generation_arguments(generation: dict, family: Family, processor) -> dict:
    """Arguments for `generate` as lmms-eval's wrapper of the family makes them, on a copy.

    `until` is the family's to apply when decoding; `image_aspect_ratio` is upstream's image switch; sampling arguments
    go when nothing is sampled, and nothing is sampled unless the task says so.

    Raises:
        ValueError: several answers are asked for.
    """
    arguments = copy.deepcopy(generation)
    for key in ("until", "image_aspect_ratio"):
        arguments.pop(key, None)
    arguments.setdefault("max_new_tokens", family.max_new_tokens)
    if arguments.get("num_return_sequences") not in (None, 1):
        raise ValueError("num_return_sequences: a sample has one answer; leave it out of the generation arguments")
    if arguments.get("num_beams") is None:
        arguments.pop("num_beams", None)
    if (ends := family.end_tokens(processor)) is not None:
        arguments.setdefault("eos_token_id", ends)
    if not arguments.setdefault("do_sample", False):
        for key in SAMPLING:  # None, not absent: a checkpoint's own sampling defaults would only cause warnings
            arguments[key] = None
    return arguments


class Answerer:
    """Answers batches with one method on one loaded model."""

    def __init__(self, loaded: LoadedModel, method):
        """Raises ValueError at once if the method does not fit the model."""
        self.loaded = loaded
        self.method = method
        with prune(loaded.model, method):
            pass

    def answer(self, batch: list[Request]) -> list[Result]:
        """One result per request, in order. Requests of a batch share their generation arguments.

        A failing batch is tried again sample by sample, so that one broken sample costs no other its answer. When the
        device ran out of memory, its cache is freed before.
        """
        results: dict[int, Answer | Failure] = {}
        ready: list[Prepared] = []
        for index, request in enumerate(batch):
            with _caught(results, index):
                ready.append(self._prepare(index, request))
        if ready:
            try:
                results |= self._generate(batch, ready)
            except Exception as error:
                retry = len(ready) > 1 or isinstance(error, torch.OutOfMemoryError)
                log.warning("batch of %d: %s%s", len(ready), Failure.of(error), "; again one by one" if retry else "")
                if not retry:
                    results[ready[0].index] = Failure.of(error)
            else:
                retry = False
            if retry:  # outside of the handler: the error's frames hold the batch's tensors
                for one in ready:
                    _free_memory()
                    with _caught(results, one.index):
                        results |= self._generate(batch, [one])
        return [(request, results[index]) for index, request in enumerate(batch)]

    def _prepare(self, index: int, request: Request) -> Prepared:
        """The full prompt and the images of a request."""
        with _whole_images_only():
            converted = [as_rgb(image) for image in request.visuals() or []]
            notes = [f"image {number}: {note}" for number, (_, done) in enumerate(converted) for note in done]
            images = self.loaded.family.images([image for image, _ in converted])
        return Prepared(index, self.loaded.family.prompt(request.context, len(images)), images, notes)

    @torch.inference_mode()
    def _generate(self, batch: list[Request], ready: list[Prepared]) -> dict[int, Answer]:
        family, model, processor = self.loaded.family, self.loaded.model, self.loaded.processor
        generation = batch[ready[0].index].generation
        inputs = self._encode([one.prompt for one in ready], [one.images for one in ready])
        arguments = generation_arguments(generation, family, processor)
        run = _fast if self.loaded.engine == "fast" else _generate
        sequences, trace, clock = run(model, self.method, inputs, arguments, _pad(processor))
        length = inputs["input_ids"].shape[1]
        prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        retention = trace.retention.float().cpu().tolist()
        ends = set(family.end_tokens(processor) or ()) or _end_tokens(model)
        answers = {}
        beams = len(trace.images) // len(ready)  # rows of the model's batch per sample
        for row, one in enumerate(ready):
            new, first = sequences[row, length:].cpu(), row * beams
            answers[one.index] = Answer(
                text=family.decode(processor, new, generation),
                prompt_tokens=prompt_tokens[row],
                new_tokens=_count_new(new.tolist(), ends),
                images_sha256=[_pixels(image) for image in one.images],
                image_notes=one.notes,
                retention=[round(value, 6) for value in retention[first]],
                kv_bytes=int(trace.kv_bytes_alone[first]),
                kv_bytes_full=int(trace.kv_bytes_full_alone[first]),
                kv_bytes_stored=int(sum(trace.kv_bytes[first : first + beams])),
                prefill_ms=round(float(clock.prefill_ms), 3),
                decode_ms=round(float(clock.decode_ms), 3),
                decode_steps=int(clock.decode_steps),
                batch_size=len(ready),
            )
        return answers

    def inputs(self, request: Request) -> dict:
        """What the model is called with for one request, on its device."""
        one = self._prepare(0, request)
        return self._encode([one.prompt], [one.images])

    def _encode(self, prompts: list[str], images: list[list]) -> dict:
        """Inputs on the model's device; pixels in the model's dtype, token ids as they are."""
        inputs = self.loaded.family.encode(self.loaded.processor, prompts, images)
        dtype = self.loaded.dtype
        return {
            name: value.to(self.loaded.device, dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }


def _generate(model, method, inputs: dict, arguments: dict, pad: int) -> tuple:
    """Sequences, trace and clock of transformers' own `generate`."""
    with prune(model, method, record_attention=False) as trace:  # timed: only what the method needs
        clock = StepClock()  # counts from here
        criteria = StoppingCriteriaList([clock])
        sequences = model.generate(**inputs, **arguments, use_cache=True, pad_token_id=pad, stopping_criteria=criteria)
    return sequences, trace, clock


def _fast(model, method, inputs: dict, arguments: dict, pad: int) -> tuple:
    """The same of the fast path, which carries its own times."""
    if extra := set(arguments) - FAST_ARGUMENTS:
        raise ValueError(f"engine=fast does not know {', '.join(sorted(extra))}; use engine=generate")
    if arguments.pop("num_beams", 1) not in (None, 1):
        raise ValueError("engine=fast does not search with beams; use engine=generate")
    given = {name: value for name, value in arguments.items() if value is not None}
    found = fast_generate(model, inputs, method, record_attention=False, pad_token_id=pad, **given)
    return found.sequences, found.trace, found


def answer_all(answerer: Answerer, requests: Iterable[Request], batch_size: int) -> Iterator[list[Result]]:
    """Results batch by batch, as soon as each is there."""
    for batch in batches(requests, batch_size):
        yield answerer.answer(batch)


@contextmanager
def _whole_images_only() -> Iterator[None]:
    """A truncated image is an error. Importing lmms-eval makes PIL fill what is missing with grey, silently."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def _caught(results: dict[int, Answer | Failure], index: int) -> Iterator[None]:
    """Turn an exception into the failure of sample `index`."""
    try:
        yield
    except Exception as error:
        log.warning("sample failed: %s", Failure.of(error))
        results[index] = Failure.of(error)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _pad(processor) -> int:
    tokenizer = processor.tokenizer
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def _end_tokens(model) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, (list, tuple)) else {ends}


def _count_new(ids: list[int], ends: set[int]) -> int:
    """Generated tokens including the end token, without the padding after it."""
    for position, token in enumerate(ids):
        if token in ends:
            return position + 1
    return len(ids)


def _pixels(image) -> str:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()[:16]
