"""The longest prompt of the chosen benchmarks: how many tokens and patches, and whether the decoder can read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from plphp_core.families.base import IMAGE_MARK
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, ok, warning
from plphp_core.preflight.data import TaskData
from plphp_core.preflight.drawing import drawn
from plphp_core.preflight.processor import image_tokens

UNKNOWN = (
    2304,
    2304,
)  # pixels of an image that nobody has seen: six of LLaVA-OneVision's tiles, above every family's own limit
# Where data could not be read: the most images that lmms-eval shows of a sample, and a page of text.
ASSUMED_IMAGES, ASSUMED_TEXT = 16, "word " * 500


@dataclass(frozen=True)
class LongestPrompt:
    """One sample's prompt and answer at their longest.

    Attributes:
        tokens: of the prompt, images included.
        new_tokens: of the answer.
        images: in the prompt.
        patches: that the vision tower reads.
    """

    tokens: int
    new_tokens: int
    images: int
    patches: int


@check("Longest prompt", needs=[image_tokens])
def longest_prompt(case: Case) -> Iterator[Finding]:
    """An upper bound: images as large as the largest; larger than any real one where not all have been seen."""
    asked = [
        (task.request.generation, *one, task.largest or UNKNOWN) for task in case.tasks for one in _candidates(task)
    ]
    asked = asked or [({}, IMAGE_MARK * ASSUMED_IMAGES + ASSUMED_TEXT, ASSUMED_IMAGES, UNKNOWN)]
    found = []
    for generation, context, images, size in asked:
        tokens, patches = _encoded(case, context, images, size)
        found.append(
            LongestPrompt(tokens, generation.get("max_new_tokens", case.family.max_new_tokens), images, patches)
        )
    case.longest = longest = LongestPrompt(
        tokens=max(one.tokens for one in found),
        new_tokens=max(one.new_tokens for one in found),
        images=max(one.images for one in found),
        patches=max(one.patches for one in found),
    )
    total = max(one.tokens + one.new_tokens for one in found)
    yield from _window(case, longest.tokens, total)
    most = getattr(case.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if case.tasks and most is not None and total > most:  # a prompt that was only assumed is no reason to warn
        yield warning(
            f"{total:,} tokens of prompt and answer, but the model was made for {most:,} (max_position_embeddings)",
            "answers to the longest samples may be poor; lmms-eval runs them all the same",
        )
    assumed = (
        f" (assumed: {ASSUMED_IMAGES} images, 500 words)"
        if not case.tasks
        else ""
        if all(task.complete for task in case.tasks)
        else " (texts of streamed benchmarks: first sample)"
    )
    if any(task.largest is None for task in case.tasks):
        assumed += f" (images not seen yet: assumed {UNKNOWN[0]} × {UNKNOWN[1]})"
    yield ok(
        f"at most {longest.tokens:,} tokens with {longest.images} images, {longest.new_tokens:,} new ones{assumed}"
    )


def _candidates(task: TaskData) -> Iterator[tuple[str, int]]:
    """Text and number of images of the samples that may be the longest: most images, then most text."""
    contexts = task.contexts
    longest = max(contexts, key=len)
    fullest = max(contexts, key=lambda text: (text.count(IMAGE_MARK), len(text)))
    for context in dict.fromkeys((longest, fullest)):
        yield context, context.count(IMAGE_MARK) or task.images


def _encoded(case: Case, context: str, images: int, size: tuple[int, int]) -> tuple[int, int]:
    """Tokens of the prompt, and patches of its images, all of one width and height."""
    pictures = case.family.images([drawn(*size)] * images)
    inputs = case.family.encode(case.processor, [case.family.prompt(context, images)], [pictures])
    pixels, vision = inputs.get("pixel_values"), case.config.vision_config
    if pixels is None:
        return inputs["input_ids"].shape[1], 0
    patch = (getattr(vision, "num_channels", None) or 3) * vision.patch_size**2
    patch *= getattr(vision, "temporal_patch_size", None) or 1
    return inputs["input_ids"].shape[1], pixels.numel() // patch


def _window(case: Case, prompt: int, total: int) -> Iterator[Finding]:
    """A cache layer with a sliding window drops the beginning of a longer prompt, so it cannot be pruned."""
    from transformers import DynamicCache

    config = case.family.decoder(case.model).config
    windows = [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=config).layers]
    window = min((one for one in windows if one), default=None)
    remedy = (
        f"set sliding_window to null in text_config of config.json (a longer window than {total:,} tokens changes "
        "nothing else), or leave out the benchmarks with the longest prompts"
    )
    if window is not None and prompt >= window:
        yield failed(f"sliding_window {window:,} is too short for prompts of {prompt:,} tokens", remedy)
    elif window is not None and total > window:
        yield warning(f"sliding_window {window:,} ends within the longest answers ({total:,} tokens)", remedy)
