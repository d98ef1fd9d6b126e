"""Tokenizer, processor and prompts: what goes into the model is what it was trained on."""

from __future__ import annotations

import json
from functools import cache

from transformers import AutoTokenizer, GenerationConfig

from plphp_core.evaluation import options
from plphp_core.families import get_family
from plphp_core.preflight.checkpoint import configuration, weights
from plphp_core.preflight.checks import CheckFailed, Findings, PlannedRun, check, failing

QUESTION = "What is in the picture?"
COPY = "copy the tokenizer, processor and generation files of the original checkpoint"


@check("Tokenizer", needs=[configuration, weights])
def tokenizer(run: PlannedRun) -> Findings:
    """What prompts are built from are single tokens with a row in the embedding; the image token is the model's; what
    generation_config.json asks for can be done.
    """
    family, folder = run.family, run.checkpoint.folder
    with failing(f"no tokenizer can be read from {folder}", COPY):
        # Not the processor's: some processors add the tokens that a tokenizer lacks, without a trained embedding.
        found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
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
    mark, wanted = family.image_token, family.image_token_id(run.model)
    if (own := found.convert_tokens_to_ids(mark)) != wanted:
        problems.append(f"{mark} is token {own}, but image_token_id in config.json is {wanted}")
    content, engine = {}, run.settings.model.engine
    if (file := folder / options.FILE).is_file():
        with failing(f"{options.FILE} cannot be loaded", COPY):
            content = json.loads(file.read_text(encoding="utf-8"))
            GenerationConfig.from_dict(content)
    for name, value in options.refused_of_checkpoint(content, engine).items():
        problems.append(f"{options.FILE}: no run with engine={engine} does {name}={value!r}")
    if problems:
        raise CheckFailed(f"{'; '.join(problems)}; {COPY}")
    obeyed = ", ".join(f"{name}={value}" for name, value in options.obeyed(content).items())
    yield f"{len(found)} tokens; {mark} is {own}{f'; answers obey {obeyed}' if obeyed else ''}"


@check("Image tokens", needs=[tokenizer])
def image_tokens(run: PlannedRun) -> Findings:
    """The processor loads as the family loads it, its template makes the family's prompt where the family says so, and
    for one image and for two it writes as many image tokens as the model makes features.
    """
    family, folder = run.family, run.checkpoint.folder
    try:
        family.check_packages()
    except ImportError as error:
        raise CheckFailed(str(error)) from error
    with failing(f"no processor can be read from {folder}", COPY):
        run.processor = family.load_processor(str(folder), None, run.model)
        run.processor.tokenizer.padding_side = "left"
    if family.uses_chat_template:
        _same_prompt(run)
    token, counts = family.image_token_id(run.model), []
    for number in (1, 2):
        images = family.images([drawn(224, 160)] * number)
        inputs = family.encode(run.processor, [family.prompt(QUESTION, number)], [images])
        written = int((inputs["input_ids"] == token).sum())
        with failing(f"images: {number}", COPY):
            made = sum(family.image_sizes(run.model, dict(inputs)))
        if written != made:
            raise CheckFailed(
                f"images: {number}: the processor writes {written} tokens, the model makes {made} features: patch, "
                f"tile or merge sizes disagree; {COPY}, and config.json"
            )
        counts.append(str(made))
    yield f"{' and '.join(counts)} for one drawn image and two, as many as the model makes features"


def _same_prompt(run: PlannedRun) -> None:
    """Raise CheckFailed unless the checkpoint's chat template makes the family's prompt, character for character."""
    family, tokenizer = run.family, run.processor.tokenizer
    renderer = next((one for one in (run.processor, tokenizer) if getattr(one, "chat_template", None)), None)
    if renderer is None:
        raise CheckFailed(f"there is no chat template, but checkpoints of {family.title} have one; {COPY}")
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
    begin = tokenizer.bos_token or ""  # the tokenizer adds it, so prompts do not have it
    with failing("the chat template does not render", COPY):
        rendered = renderer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    options = {name: getattr(family, name) for name in family.options}
    prompt = get_family(family.name, "plain", **options).prompt(QUESTION, 1)
    if rendered.removeprefix(begin) != prompt.removeprefix(begin):
        raise CheckFailed(f"the chat template renders {rendered!r}, but {family.title}'s prompt is {prompt!r}; {COPY}")


@cache
def drawn(width: int, height: int):
    """An RGB picture (PIL) of gradients, the same every time."""
    from PIL import Image

    red = Image.linear_gradient("L").resize((width, height))
    blue = Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, red.transpose(Image.Transpose.FLIP_TOP_BOTTOM), blue))
