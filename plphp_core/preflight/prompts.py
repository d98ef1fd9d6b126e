"""Tokenizer, generation configuration, processor and prompts: what goes into the model is what it was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace

from transformers import GenerationConfig

from plphp_core.evaluation import options
from plphp_core.families import get_family
from plphp_core.families.base import IMAGE_MARK
from plphp_core.preflight.architecture import configuration, weights
from plphp_core.preflight.checks import CheckFailed, CheckResult, PlannedRun, check, failed, failing, passed

QUESTION = "What is in the picture?"
TOKENIZER_FILES = "copy tokenizer.json, tokenizer_config.json and special_tokens_map.json of the original checkpoint"
PROCESSOR_FILES = "copy processor_config.json and preprocessor_config.json of the original checkpoint, and config.json"


@check("Tokenizer", needs=[configuration, weights])
def tokenizer(run: PlannedRun) -> Iterator[CheckResult]:
    """What prompts are built from are single tokens with a row in the embedding; the image token is the model's."""
    from transformers import AutoTokenizer

    family = run.family
    with failing(f"no tokenizer can be read from {run.checkpoint.folder}", TOKENIZER_FILES):
        # Not the processor's: some processors add the tokens that a tokenizer lacks, without a trained embedding.
        found = AutoTokenizer.from_pretrained(run.checkpoint.folder, trust_remote_code=False)
    rows = run.config.get_text_config(decoder=True).vocab_size
    problems = [
        f"{token} is not one token, which prompts of {family.title} need"
        for token in family.special_tokens
        if len(ids := found.encode(token, add_special_tokens=False)) != 1 or ids[0] == found.unk_token_id
    ]
    if (largest := max(found.get_vocab().values())) >= rows:
        problems.append(f"token ids go up to {largest}, but vocab_size in config.json is {rows}")
    if found.pad_token_id is None and found.eos_token_id is None:
        problems.append("neither pad_token nor eos_token is set, and batches need one")
    marks = [token for token in family.special_tokens if "image" in token]
    mark = IMAGE_MARK if IMAGE_MARK in marks or not marks else marks[0]
    own, wanted = found.convert_tokens_to_ids(mark), family.image_token_id(run.model)
    if own != wanted:
        problems.append(f"{mark} is token {own}, but image_token_id in config.json is {wanted}")
    if problems:
        raise CheckFailed("; ".join(problems), f"{TOKENIZER_FILES}, or restore config.json")
    run.tokenizer = found
    yield passed(f"{len(found)} tokens in {rows} rows; {mark} is {own} for tokenizer and model")


@check("Generation", needs=[tokenizer])
def generation(run: PlannedRun) -> Iterator[CheckResult]:
    """What ends an answer, and what else generation_config.json changes or asks for in vain."""
    file, engine = run.checkpoint.folder / options.FILE, run.settings.model.engine
    restore = f"restore {options.FILE} from the original checkpoint"
    content: dict = {}
    if file.is_file():
        with failing(f"{options.FILE} cannot be loaded", restore):
            content = json.loads(file.read_text(encoding="utf-8"))
            GenerationConfig.from_dict(content)
    if refused := options.refused_of_checkpoint(content, engine):
        listed = ", ".join(f"{name}={value!r}" for name, value in refused.items())
        yield failed(f"{options.FILE}: no run with engine={engine} does {listed}", f"take it out, or {restore}")
    text = run.config.get_text_config(decoder=True)
    ends = run.family.end_tokens(SimpleNamespace(tokenizer=run.tokenizer))
    ends = ends or content.get("eos_token_id") or (text.eos_token_id if not content else None)
    known = [end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int) and end >= 0]
    special = {run.tokenizer.eos_token_id, *run.tokenizer.all_special_ids, *run.tokenizer.added_tokens_decoder}
    if not known or not special >= set(known):
        raise CheckFailed(f"an answer ends with eos_token_id {ends}, which is no special token", restore)
    changes = [f"{name}={value}" for name, value in options.obeyed(content).items() if name not in refused]
    obeyed = f"; answers obey {', '.join(changes)}, as in upstream" if changes else ""
    yield passed(f"{', '.join(run.tokenizer.convert_ids_to_tokens(known))} ends an answer{obeyed}")


@check("Processor", needs=[tokenizer])
def processor(run: PlannedRun) -> Iterator[CheckResult]:
    """It loads as the family loads it."""
    with failing(f"no processor can be read from {run.checkpoint.folder}", PROCESSOR_FILES):
        found = run.family.load_processor(str(run.checkpoint.folder), None, run.model)
        found.tokenizer.padding_side = "left"
        name = type(found.image_processor).__name__
    run.processor = found
    yield passed(f"{type(found).__name__} with {name}")


@check("Chat template", needs=[processor])
def prompt_template(run: PlannedRun) -> Iterator[CheckResult]:
    """The checkpoint's own template makes the family's prompt, where the family says that it does."""
    family = run.family
    renderer = next((one for one in (run.processor, run.tokenizer) if getattr(one, "chat_template", None)), None)
    restore = "copy chat_template.jinja (or the template in tokenizer_config.json) of the original checkpoint"
    if renderer is None and family.needs_chat_template:
        yield failed(f"there is no chat template, but checkpoints of {family.title} have one", restore)
    elif renderer is None or not family.uses_chat_template:
        yield passed(f"not used: {family.title} makes its prompts without one")
    else:
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
        begin = run.tokenizer.bos_token or ""  # the tokenizer adds it, so prompts do not have it
        with failing("the chat template does not render", restore):
            rendered = renderer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
        prompt = get_family(family.name, "plain").prompt(QUESTION, 1)
        if rendered.removeprefix(begin) != prompt.removeprefix(begin):
            yield failed(f"the chat template renders {rendered!r}, but {family.title}'s prompt is {prompt!r}", restore)
        else:
            yield passed(f"renders {family.title}'s prompt, character for character")


@check("Image tokens", needs=[processor])
def image_tokens(run: PlannedRun) -> Iterator[CheckResult]:
    """One image and two: the processor writes as many image tokens as the model makes features."""
    token, counts = run.family.image_token_id(run.model), []
    for number in (1, 2):
        images = run.family.images([drawn(224, 160)] * number)
        inputs = run.family.encode(run.processor, [run.family.prompt(QUESTION, number)], [images])
        written = int((inputs["input_ids"] == token).sum())
        with failing(f"images: {number}", PROCESSOR_FILES):
            made = sum(run.family.image_sizes(run.model, dict(inputs)))
        if written != made:
            raise CheckFailed(
                f"images: {number}: the processor writes {written} tokens, the model makes {made} features",
                f"patch, tile or merge sizes disagree: {PROCESSOR_FILES}",
            )
        counts.append(str(made))
    yield passed(f"{' and '.join(counts)} for one drawn image and two, as many as the model makes features")


@cache
def drawn(width: int, height: int):
    """An RGB picture (PIL) of gradients, the same every time."""
    from PIL import Image

    red = Image.linear_gradient("L").resize((width, height))
    blue = Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, red.transpose(Image.Transpose.FLIP_TOP_BOTTOM), blue))
