"""The processor: its sizes, the chat template, and as many image tokens in a prompt as the model makes features."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from unittest import mock

from plphp_core.families import get_family
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, first_line, ok, reason
from plphp_core.preflight.drawing import drawn
from plphp_core.preflight.tokens import image_token

QUESTION = "What is in the picture?"
RESTORE = "copy processor_config.json and preprocessor_config.json (as far as the original has them)"

# What the processor says -> what the model says; None: the number of patches in the model's square image.
SAME = {
    "patch_size": "vision_config.patch_size",
    "num_image_tokens": None,
    "image_seq_len": "perceiver_config.resampler_n_latents",
    "vision_feature_select_strategy": "vision_feature_select_strategy",
    "vision_aspect_ratio": "vision_aspect_ratio",
    "image_processor.patch_size": "vision_config.patch_size",
    "image_processor.merge_size": "vision_config.spatial_merge_size",
    "image_processor.temporal_patch_size": "vision_config.temporal_patch_size",
    "image_processor.image_grid_pinpoints": "image_grid_pinpoints",
}
FIXED_SIZE = ("siglip_vision_model", "clip_vision_model")  # position embeddings for images of one size


@check("Processor", needs=[image_token])
def processor(case: Case) -> Iterator[Finding]:
    from transformers import AutoProcessor

    folder = case.checkpoint.folder
    try:
        found = _as_the_family_loads_it(case)
    except Exception as error:  # a missing file, a wrong class, a family's own refusal
        alone = _without_images(AutoProcessor, folder)
        what = "only a tokenizer is there" if alone else reason(error)
        yield failed(f"no processor can be read from {folder}: {what}", RESTORE)
        return
    problems = list(_disagreements(found, case.config))
    yield from problems
    if problems:
        return
    case.processor = found
    yield ok(f"{type(found).__name__} with {type(found.image_processor).__name__}")
    yield ok(f"as configured: {_configured(found.image_processor, case.config)}")


@check("Chat template", needs=[processor])
def chat_template(case: Case) -> Iterator[Finding]:
    template = getattr(case.processor, "chat_template", None) or getattr(case.tokenizer, "chat_template", None)
    title = case.family.title
    restore = (
        "copy chat_template.jinja (or chat_template.json, or the template in tokenizer_config.json) of the original"
    )
    if not template:
        if case.family.needs_chat_template:
            use = "prompts are made by it" if case.family.uses_chat_template else "the checkpoint is not whole"
            yield failed(f"there is no chat template: {use}", restore)
        else:
            yield ok(f"none; {title} makes its prompts without one")
        return
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
    renderer = case.processor if getattr(case.processor, "chat_template", None) else case.tokenizer
    try:
        rendered = renderer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    except Exception as error:  # Jinja's, or whatever the template raises
        if case.family.uses_chat_template:
            yield failed(f"the chat template does not render: {first_line(error)}", restore)
        else:
            yield ok(f"there, not used: {title} makes its prompts without it")
        return
    if not case.family.uses_chat_template:
        yield ok(f"there and renders; {title} makes its prompts without it")
        return
    prompt = get_family(case.family.name, "plain").prompt(QUESTION, 1)
    begins = case.tokenizer.bos_token or ""  # the tokenizer adds it, so prompts do not have it
    if rendered.removeprefix(begins) != prompt.removeprefix(begins):
        yield failed(
            f"the chat template renders {_first_difference(rendered.removeprefix(begins), prompt)} of {title}'s prompt",
            f"the template was changed, or the checkpoint is not {title}: {restore}",
        )
        return
    yield ok(f"renders {title}'s prompt, character for character")


@check("Image tokens", needs=[processor])
def image_tokens(case: Case) -> Iterator[Finding]:
    """One image and two, as a run would encode them."""
    token, counts = case.family.image_token_id(case.model), []
    restore = f"patch, tile or crop sizes in the processor's files and config.json disagree: {RESTORE}"
    for number in (1, 2):
        images = case.family.images([drawn(224, 160)] * number)
        inputs = case.family.encode(case.processor, [case.family.prompt(QUESTION, number)], [images])
        written = int((inputs["input_ids"] == token).sum())
        try:
            made = sum(case.family.image_sizes(case.model, dict(inputs)))
        except ValueError as error:
            yield failed(f"{number} images: {first_line(error)}", restore)
            return
        if written != made:
            yield failed(
                f"of {number} image{'' if number == 1 else 's'} the processor makes {written} tokens, the model "
                f"{made} features",
                restore,
            )
            return
        pixels = _pixels(inputs, case.config)
        if pixels:
            yield failed(pixels, restore)
            return
        counts.append(written)
    yield ok(f"{counts[0]} for one drawn image, {counts[1]} for two, equal to the model's features")


def _as_the_family_loads_it(case: Case):
    """The processor as `family.load` leaves it, which may change it; only the weights are not read."""
    from transformers import AutoModelForImageTextToText

    with mock.patch.object(AutoModelForImageTextToText, "from_pretrained", lambda *args, **kwargs: case.model):
        case.model, found = case.family.load(str(case.checkpoint.folder), device="meta")
    if not hasattr(found, "image_processor") or not hasattr(found, "tokenizer"):
        raise ValueError(f"a {type(found).__name__} has no image processor")
    return found


def _without_images(auto, folder) -> bool:
    try:
        return not hasattr(auto.from_pretrained(folder, trust_remote_code=False), "image_processor")
    except Exception:  # then the first error says more
        return False


def _disagreements(found, config) -> Iterator[Finding]:
    """Numbers that both the processor and the model have, and that must be equal."""
    for said, meant in SAME.items():
        theirs = _get(found, said)
        if meant is None:
            meant, ours = "(vision_config.image_size / patch_size)²", _patches(config)
        else:
            ours = _get(config, meant)
        if theirs is not None and ours is not None and _plain(theirs) != _plain(ours):
            yield failed(
                f"processor: {said} is {_short(theirs)}, but config.json: {meant} is {_short(ours)}",
                f"{said} in the processor's files is wrong, or {meant} in config.json: {RESTORE}",
            )
    for step in ("do_rescale", "do_normalize"):
        if _get(found, f"image_processor.{step}") is False:
            yield failed(
                f"processor: {step} is false, so the model would see pixels of another range than it was trained on",
                f"set {step} to true in the processor's files: {RESTORE}",
            )
    size, vision = _get(found, "image_processor.size"), config.vision_config
    cropped = _get(found, "image_processor.crop_size") if _get(found, "image_processor.do_center_crop") else None
    height = _get(cropped or size, "height")
    if vision.model_type in FIXED_SIZE and height is not None and height != vision.image_size:
        yield failed(
            f"processor: images become {height} pixels high, but config.json: vision_config.image_size is "
            f"{vision.image_size}",
            f"size in the processor's files is wrong, or image_size in config.json: {RESTORE}",
        )


def _configured(image_processor, config) -> str:
    """What no other number of the checkpoint can contradict; a reader may hold it against the original."""
    text = config.get_text_config(decoder=True)
    shown = {name: _get(image_processor, name) for name in ("image_mean", "image_std", "size")}
    shown["rope_theta"] = _get(text, "rope_parameters.rope_theta") or _get(text, "rope_theta")
    shown |= {name: _get(config, name) for name in ("vision_feature_layer", "vision_feature_select_strategy")}
    if hasattr(shown["size"], "items"):
        edges = ", ".join(f"{key} {value}" for key, value in shown["size"].items() if value is not None)
        shown["size"] = f"({edges})"
    return ", ".join(f"{name} {_rounded(value)}" for name, value in shown.items() if value is not None)


def _rounded(value) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_rounded, value))}]"
    whole = not isinstance(value, float) or value.is_integer()
    return f"{value:.0f}" if whole and isinstance(value, float) else str(value) if whole else f"{value:.4g}"


def _pixels(inputs, config) -> str:
    """What is wrong with the pixels for a vision tower that takes images of one size; empty if nothing."""
    size = getattr(config.vision_config, "image_size", None)
    found = tuple(inputs["pixel_values"].shape[-2:])
    if config.vision_config.model_type in FIXED_SIZE and found != (size, size):
        return f"the processor makes images of {found[0]} × {found[1]} pixels, the model reads {size} × {size}"
    return ""


def _patches(config) -> int | None:
    size, patch = _get(config, "vision_config.image_size"), _get(config, "vision_config.patch_size")
    return (size // patch) ** 2 if size and patch else None


def _get(owner, path: str):
    """`a.b` of an object or dictionary; None where there is nothing."""
    return functools.reduce(
        lambda one, name: one.get(name) if isinstance(one, dict) else getattr(one, name, None), path.split("."), owner
    )


def _plain(value):
    return [list(one) for one in value] if isinstance(value, (list, tuple)) else value


def _short(value) -> str:
    text = str(_plain(value))
    return text if len(text) <= 40 else f"{text[:37]}…"


def _first_difference(rendered: str, prompt: str) -> str:
    """Where two texts part, with some characters of either."""
    pairs = enumerate(zip(rendered, prompt, strict=False))
    same = next((i for i, (a, b) in pairs if a != b), min(len(rendered), len(prompt)))
    start = max(same - 15, 0)
    return f"{rendered[start : same + 25]!r} instead of {prompt[start : same + 25]!r}"
