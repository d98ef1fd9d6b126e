"""From requests to answers: several methods at once, errors kept per sample."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import ImageFile

from plphp_core.decoding.device import free_memory
from plphp_core.evaluation.generation import Decoded, decode_each, generation_arguments
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.evaluation.requests import Failure, Request, batches
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method
from plphp_core.pruning.validation import require
from plphp_core.records.journal_lines import Answer
from plphp_core.vision.images import as_rgb

log = logging.getLogger("plphp.answering")


Result = tuple[Request, Answer | Failure]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request of a batch, ready to be encoded: its place in the batch, chat string, images with hashes and notes."""

    index: int
    prompt: str
    images: list
    sha256: list[str]
    notes: list[str]


class JointAnswerer:
    """Answers batches with several methods on one loaded model, sharing what does not depend on the method."""

    def __init__(self, loaded: LoadedModel):
        self.loaded = loaded

    def check(self, method: Method | None) -> None:
        """Raises ValueError if a method does not fit the model."""
        with prune(self.loaded.model, method):
            pass

    def answer(
        self, batch: list[Request], methods: Sequence[Method | None]
    ) -> Generator[tuple[Method | None, list[Result]], None, None]:
        """Each method and one result per request, in order, as soon as the method has answered them all.

        Requests of a batch share their generation arguments. Where a batch fails under a method, the method tries again
        alone, with memory freed, and then sample by sample, so that one broken sample costs no other its answer.

        Args:
            methods: all different; those that come out are these very objects.
        """
        broken: dict[int, Answer | Failure] = {}
        ready: list[Prepared] = []
        for index, request in enumerate(batch):
            with _caught(broken, index, request):
                ready.append(self._prepare(index, request))

        def in_order(results: Mapping[int, Answer | Failure]) -> list[Result]:
            return [(request, {**broken, **results}[index]) for index, request in enumerate(batch)]

        failed = []
        for method, results in self._together(batch, ready, methods):
            if isinstance(results, Failure):
                failed.append((method, results))
            else:
                yield method, in_order(results)
        for method, failure in failed:
            alone_is_other = len(methods) > 1 or len(ready) > 1 or failure.kind == "OutOfMemoryError"
            again = "; again alone" if alone_is_other else ""
            which = f"batch of {len(ready)} with {batch[ready[0].index]}"
            log.warning("%s under %s: %s%s", which, _named(method), failure, again)
            if alone_is_other:
                yield method, in_order(self._one_by_one(batch, ready, method, whole_first=len(methods) > 1))
            else:
                yield method, in_order({ready[0].index: failure})

    def _together(
        self, batch: list[Request], ready: list[Prepared], methods: Sequence[Method | None]
    ) -> Iterator[tuple[Method | None, dict[int, Answer] | Failure]]:
        """Each method's answers to what is ready, or why there are none."""
        if not ready:
            yield from ((method, {}) for method in methods)
            return
        family, processor = self.loaded.family, self.loaded.processor
        generation = batch[ready[0].index].generation
        try:
            inputs = self._encode([one.prompt for one in ready], [one.images for one in ready])
            arguments = generation_arguments(generation, family, processor)
        except Exception as error:
            failure = Failure.of(error)
            yield from ((method, failure) for method in methods)
            return
        found: Decoded | dict[int, Answer] | Failure  # one name for all: what was decoded is let go when it is read
        for method, found in decode_each(self.loaded, methods, inputs, arguments):
            if not isinstance(found, Failure):
                try:
                    found = self._read(found, ready, inputs, generation, arguments.get("eos_token_id"))
                except Exception as error:
                    found = Failure.of(error)
            yield method, found

    def _one_by_one(
        self, batch: list[Request], ready: list[Prepared], method: Method | None, whole_first: bool
    ) -> Mapping[int, Answer | Failure]:
        """One method's answers without company: of the whole batch, if that was not tried yet, or sample by sample."""
        if whole_first:
            free_memory()
            ((_, results),) = self._together(batch, ready, [method])
            if not isinstance(results, Failure) or len(ready) == 1:
                return {ready[0].index: results} if isinstance(results, Failure) else results
        found: dict[int, Answer | Failure] = {}
        for one in ready:
            free_memory()
            ((_, results),) = self._together(batch, [one], [method])
            if isinstance(results, Failure):
                log.warning("%s under %s failed: %s", batch[one.index], _named(method), results)
                found[one.index] = results
            else:
                found |= results
        return found

    def inputs(self, request: Request) -> dict:
        """What the model is called with for one request, on its device."""
        one = self._prepare(0, request)
        return self._encode([one.prompt], [one.images])

    def _prepare(self, index: int, request: Request) -> Prepared:
        """The full prompt and the images of a request."""
        with whole_images_only():
            converted = [as_rgb(image) for image in request.visuals() or []]
            notes = [f"image {number}: {note}" for number, (_, done) in enumerate(converted) for note in done]
            images = self.loaded.family.images([image for image, _ in converted])
        prompt = self.loaded.family.prompt(request.context, len(images))
        return Prepared(index, prompt, images, [_pixels(image) for image in images], notes)

    def _encode(self, prompts: list[str], images: list[list]) -> dict:
        """Inputs on the model's device; pixels in the model's dtype, token ids as they are."""
        inputs = self.loaded.family.encode(self.loaded.processor, prompts, images)
        dtype = self.loaded.dtype
        return {
            name: value.to(self.loaded.device, dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }

    def _read(
        self, found: Decoded, ready: list[Prepared], inputs: dict, generation: dict, ends: int | list[int] | None
    ) -> dict[int, Answer]:
        """Answers from token ids and trace.

        Args:
            ends: what ends an answer; None: as the checkpoint says.

        Raises:
            ValueError: there are more or fewer sequences than prompts, so that nobody knows whose they are.
        """
        require(
            len(found.sequences) == len(ready), f"{len(found.sequences)} sequences came back for {len(ready)} prompts"
        )
        family, processor, trace = self.loaded.family, self.loaded.processor, found.trace
        length = inputs["input_ids"].shape[1]
        prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        retention = trace.retention.float().cpu().tolist()
        end_tokens = _as_set(self.loaded.model.generation_config.eos_token_id if ends is None else ends)
        answers = {}
        beams = len(trace.images) // len(ready)  # rows of the model's batch per sample
        for row, one in enumerate(ready):
            first, new = row * beams, found.sequences[row, length:].cpu()
            new = new[: _count_new(new.tolist(), end_tokens)]
            answers[one.index] = Answer(
                text=family.decode(processor, new, generation),
                prompt_tokens=prompt_tokens[row],
                new_tokens=len(new),
                images_sha256=one.sha256,
                image_notes=one.notes,
                retention=[round(value, 6) for value in retention[first]],
                kv_bytes=int(trace.kv_bytes_alone[first]),
                kv_bytes_full=int(trace.kv_bytes_full_alone[first]),
                prefill_ms=round(float(found.prefill_ms), 3),
                decode_ms=round(float(found.decode_ms), 3),
                decode_steps=int(found.decode_steps),
                batch_size=len(ready),
                kernel=found.kernel,
            )
        return answers


class Answerer:
    """Answers batches with one method on one loaded model."""

    def __init__(self, loaded: LoadedModel, method: Method | None):
        """Raises ValueError at once if the method does not fit the model."""
        self._joint, self._method = JointAnswerer(loaded), method
        self._joint.check(method)
        self.inputs = self._joint.inputs

    def answer(self, batch: list[Request]) -> list[Result]:
        """One result per request, in order; see `JointAnswerer.answer`."""
        ((_, results),) = self._joint.answer(batch, [self._method])
        return results


def answer_all(answerer: Answerer, requests: Iterable[Request], batch_size: int) -> Iterator[list[Result]]:
    """Results batch by batch, as soon as each is there."""
    for batch in batches(requests, batch_size):
        yield answerer.answer(batch)


@contextmanager
def whole_images_only() -> Iterator[None]:
    """A truncated image is an error. Importing lmms-eval makes PIL fill what is missing with grey, silently."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def _caught(results: dict[int, Answer | Failure], index: int, request: Request) -> Iterator[None]:
    """Turn an exception into the failure of sample `index`."""
    try:
        yield
    except Exception as error:
        results[index] = Failure.of(error)
        log.warning("%s failed: %s", request, results[index])


def _named(method: Method | None) -> str:
    return "none" if method is None else repr(method)


def _as_set(ends: int | list[int] | None) -> set[int]:
    if ends is None:
        return set()
    return set(ends) if isinstance(ends, (list, tuple)) else {ends}


def _count_new(ids: list[int], ends: set[int]) -> int:
    """Generated tokens including the end token, without the padding after it."""
    for position, token in enumerate(ids):
        if token in ends:
            return position + 1
    return len(ids)


def _pixels(image) -> str:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()[:16]
