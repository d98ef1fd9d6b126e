"""From requests to the model's inputs, and from its tokens back to answers. No method takes part in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, ImageFile

from plphp_core.decoding.fast_generate import Generated
from plphp_core.decoding.measure import layer_flops
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.evaluation.requests import Request
from plphp_core.families.base import Family
from plphp_core.pruning.method import Method
from plphp_core.pruning.trace import Trace
from plphp_core.pruning.validation import require
from plphp_core.records.journal_lines import Answer
from plphp_core.vision.images import as_rgb


@dataclass(frozen=True, eq=False)
class PreparedRequest:
    """A request of a batch, ready to be encoded: its place in the batch, chat string, images with hashes and notes."""

    index: int
    request: Request
    prompt: str
    images: list
    sha256: list[str]
    notes: list[str]

    @property
    def key(self) -> str:
        """What methods that draw, or know their samples, are told that it is: see `pruning.prompt.sample_keys`."""
        return sample_key(self.prompt, self.sha256)


def prepare(family: Family, index: int, request: Request, method: Method | None = None) -> PreparedRequest:
    """The chat string and the images of a request, as `method` changes them."""
    with whole_images_only():
        converted = [as_rgb(image) for image in request.visuals() or []]
        notes = [f"image {number}: {note}" for number, (_, done) in enumerate(converted) for note in done]
        shown = [image for image, _ in converted]
        images = family.images(shown if method is None else method.images(shown))
    prompt = family.prompt(request.context, len(images))
    return PreparedRequest(index, request, prompt, images, [pixels_sha256(image) for image in images], notes)


def encode(loaded: LoadedModel, ready: Sequence[PreparedRequest]) -> dict:
    """Inputs on the model's device; pixels in the model's dtype, token ids as they are."""
    return {
        name: value.to(loaded.device, loaded.dtype if value.is_floating_point() else None)
        for name, value in _on_cpu(loaded, ready).items()
    }


def _on_cpu(loaded: LoadedModel, ready: Sequence[PreparedRequest]) -> dict:
    return loaded.family.encode(loaded.processor, [one.prompt for one in ready], [one.images for one in ready])


def _tokens(loaded: LoadedModel, inputs: dict) -> tuple[list[int], list[int]]:
    """Image tokens, and all tokens, of each prompt."""
    marks = inputs["input_ids"] == loaded.family.image_token_id(loaded.model)
    return marks.sum(-1).tolist(), inputs["attention_mask"].sum(-1).tolist()


def read_answers(
    loaded: LoadedModel,
    found: Generated,
    ready: Sequence[PreparedRequest],
    inputs: dict,
    ends: int | list[int] | None,
    originals: Sequence[PreparedRequest] = (),
) -> dict[int, Answer]:
    """Place in the batch → answer, from token ids and trace.

    Args:
        ends: what ends an answer; None: as the checkpoint says.
        originals: the requests with their images as they were, where a method has changed them: what is kept, in tokens
            and bytes, is then a share of what these would take.

    Raises:
        ValueError: there are more or fewer sequences than prompts, so that nobody knows whose they are.
    """
    require(len(found.sequences) == len(ready), f"{len(found.sequences)} sequences came back for {len(ready)} prompts")
    trace, length = found.trace, inputs["input_ids"].shape[1]
    prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
    retention = trace.retention.float().cpu().tolist()
    entered = trace.vision_entered
    ends = loaded.model.generation_config.eos_token_id if ends is None else ends
    end_tokens = set(ends) if isinstance(ends, (list, tuple)) else {ends}
    config = loaded.family.decoder(loaded.model).config
    sizes = config.hidden_size, getattr(config, "intermediate_size", None)
    whole = _tokens(loaded, _on_cpu(loaded, originals)) if originals else None
    own = _tokens(loaded, inputs) if originals else None
    answers = {}
    beams = len(trace.images) // len(ready)  # rows of the model's batch per sample
    for row, one in enumerate(ready):
        first, new = row * beams, found.sequences[row, length:].cpu()
        new = new[: _count_new(new.tolist(), end_tokens)]
        shown, length_share = 1.0, 1.0
        if whole is not None and own is not None:
            shown, length_share = (a[row] / b[row] if b[row] else 1.0 for a, b in zip(own, whole, strict=True))
        answers[one.index] = Answer(
            text=loaded.family.decode(loaded.processor, new, one.request.generation),
            prompt_tokens=prompt_tokens[row],
            new_tokens=len(new),
            images_sha256=one.sha256,
            image_notes=one.notes,
            retention=[round(value * shown, 6) for value in retention[first]],
            kv_bytes=int(trace.kv_bytes_alone[first]),
            kv_bytes_full=round(trace.kv_bytes_full_alone[first] / length_share),
            prefill_ms=round(float(found.prefill_ms), 3),
            prefill_flops=_flops(trace, first, *sizes),
            vision_entered=round(entered[first], 6) if entered else None,
            decode_ms=round(float(found.decode_ms), 3),
            decode_steps=int(found.decode_steps),
            batch_size=len(ready),
            kernel=found.kernel,
        )
    return answers


@contextmanager
def whole_images_only() -> Iterator[None]:
    """A truncated image is an error. Importing lmms-eval makes PIL fill what is missing with grey, silently."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _flops(trace: Trace, row: int, hidden: int, intermediate: int | None) -> int | None:
    """Operations of the decoder in a sample's prefill; None where nothing was followed, or a size is unknown."""
    if intermediate is None or not trace.layers:
        return None
    return sum(layer_flops(layer.entered[row], hidden, intermediate) for layer in trace.layers)


def _count_new(ids: list[int], ends: set) -> int:
    """Generated tokens including the end token, without the padding after it."""
    return next((position + 1 for position, token in enumerate(ids) if token in ends), len(ids))


def sample_key(prompt: str, sha256: Iterable[str]) -> str:
    """What a run calls a sample: its prompt and its images' `pixels_sha256`."""
    return " ".join([prompt, *sha256])


def pixels_sha256(image: Image.Image) -> str:
    """What a run calls an image: by its size and pixels, 16 hexadecimal digits."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()[:16]
