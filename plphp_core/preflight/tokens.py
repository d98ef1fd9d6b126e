"""The tokenizer: what prompts are built from, and what ends an answer, must be single tokens that the model knows."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

from plphp_core.families.base import IMAGE_MARK, Family
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, ok, reason
from plphp_core.preflight.checkpoint import checkpoint_files
from plphp_core.preflight.model import configuration, weights

PADDING = 0.01  # share of the embedding's rows that may stand empty; published checkpoints leave up to 0.3 %


@check("Tokenizer", needs=[checkpoint_files, configuration])
def tokenizer(case: Case) -> Iterator[Finding]:
    from transformers import AutoTokenizer

    folder = case.checkpoint.folder
    restore = "copy tokenizer.json, tokenizer_config.json and special_tokens_map.json (as far as the original has them)"
    try:
        # Not the processor's: some processors add the tokens that a tokenizer lacks, without a trained embedding.
        found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # from tokenizers, sentencepiece or transformers, each with its own exceptions
        yield failed(f"no tokenizer can be read from {folder}: {reason(error)}", restore)
        return
    case.tokenizer = found
    whole = True
    for token in case.family.special_tokens:
        ids = found.encode(token, add_special_tokens=False)
        if len(ids) != 1 or ids[0] == found.unk_token_id:
            whole = False
            yield failed(
                f"{token} is {len(ids)} tokens" if len(ids) != 1 else f"{token} is unknown to the tokenizer",
                f"prompts of {case.family.title} need {token} as one token: {restore}",
            )
    rows = case.config.get_text_config(decoder=True).vocab_size
    largest = max(found.get_vocab().values())
    if largest >= rows:
        whole = False
        yield failed(
            f"the tokenizer has ids up to {largest}, but vocab_size is {rows}",
            f"text_config.vocab_size in config.json is wrong, or the tokenizer is of another model: {restore}",
        )
    if found.pad_token_id is None and found.eos_token_id is None:
        whole = False
        yield failed("neither pad_token nor eos_token is set", f"batches need one in tokenizer_config.json: {restore}")
    if whole:
        special = len(case.family.special_tokens)
        yield ok(f"{len(found)} tokens in {rows} rows, the prompt's {special} special tokens are single ones")


@check("Answer's end", needs=[tokenizer])
def end_tokens(case: Case) -> Iterator[Finding]:
    """Without an end token every answer would run to its limit."""
    from transformers import GenerationConfig

    ends = case.family.end_tokens(SimpleNamespace(tokenizer=case.tokenizer))
    source = f"family {case.family.name}"
    if ends is None:
        try:
            ends, source = (
                GenerationConfig.from_pretrained(case.checkpoint.folder).eos_token_id,
                "generation_config.json",
            )
        except OSError:
            ends, source = case.config.get_text_config(decoder=True).eos_token_id, "config.json"
    ends = ends if isinstance(ends, (list, tuple)) else [ends]
    rows = case.config.get_text_config(decoder=True).vocab_size
    good = [end for end in ends if isinstance(end, int) and 0 <= end < rows]
    if not good:
        yield failed(
            f"{source} names no token that ends an answer (eos_token_id: {ends[0]})",
            "every answer would run to its limit: restore generation_config.json, or set eos_token_id in it",
        )
        return
    yield ok(f"{', '.join(map(repr, case.tokenizer.convert_ids_to_tokens(good)))}, says {source}")


@check("Image token", needs=[tokenizer, weights])
def image_token(case: Case) -> Iterator[Finding]:
    name = image_mark(case.family)
    wanted, found = case.family.image_token_id(case.model), case.tokenizer.convert_tokens_to_ids(name)
    rows = case.config.get_text_config(decoder=True).vocab_size
    fix = f"set image_token_id (image_token_index in older files) to {found} in config.json"
    spare = rows - len(case.tokenizer)
    if found != wanted and not 0 <= spare <= rows * PADDING:
        fix = (
            f"the tokenizer ({len(case.tokenizer)} tokens, the embedding has {rows} rows) may be another model's: copy "
            f"the tokenizer of this checkpoint; if it is the right one, {fix}"
        )
    if not 0 <= wanted < rows:
        yield failed(f"config.json: image_token_id {wanted}, but vocab_size is {rows}", fix)
    elif found != wanted:
        yield failed(f"config.json: image_token_id {wanted}, but the tokenizer's {name} is {found}", fix)
    else:
        yield ok(f"{name} is {found} for tokenizer and model")


def image_mark(family: Family) -> str:
    """The token that stands for a piece of an image in the family's prompts."""
    if not family.special_tokens or IMAGE_MARK in family.special_tokens:
        return IMAGE_MARK
    return next(token for token in family.special_tokens if "image" in token)
