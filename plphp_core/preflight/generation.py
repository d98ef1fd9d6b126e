"""generation_config.json: what `generate` takes from the checkpoint unless a task says otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace

from transformers import GenerationConfig

from plphp_core.evaluation import options
from plphp_core.evaluation.options import FILE
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, first_line, ok, reason, warning
from plphp_core.preflight.tokens import tokenizer

RESTORE = f"restore {FILE} from the original checkpoint"
CHAT_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_utterance>")
# Of what a run does not take over, what most checkpoints have and nobody expects of greedy answers of a task's length.
USUAL = {"do_sample", "max_length", "max_new_tokens", *options.SAMPLING}


@check("Generation", needs=[tokenizer])
def generation(case: Case) -> Iterator[Finding]:
    file = case.checkpoint.folder / FILE
    ends = case.family.end_tokens(SimpleNamespace(tokenizer=case.tokenizer))
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(plain, dict):
            raise ValueError(f"it holds a {type(plain).__name__}, not an object")
    except FileNotFoundError:
        if ends is None:
            yield warning(f"no {FILE}: config.json alone says what ends an answer", RESTORE)
        else:
            yield ok(f"no {FILE}; {case.family.title} names its end tokens without it")
        return
    except (OSError, ValueError) as error:
        yield failed(f"{FILE} cannot be read: {first_line(error)}", f"copy or download {FILE} again")
        return
    problems = [*_ends(case, plain.get("eos_token_id"), ends), *_unserved(plain, case.settings.model.engine)]
    yield from problems
    refused = options.refused_of_checkpoint(plain, case.settings.model.engine)
    changes = [f"{name}={value}" for name, value in options.obeyed(plain).items() if name not in refused]
    if changes:
        yield ok(f"as configured: {', '.join(changes)}; answers obey it, as in upstream")
    if not problems and not changes:
        yield ok(f"{FILE}: nothing that changes greedy answers")


def _ends(case: Case, configured, family_ends: list[int] | None) -> Iterator[Finding]:
    """Ends an answer by something else than the end of a turn; "Answer's end" has said if there is no end at all."""
    configured = configured if isinstance(configured, list) else [configured]
    found = [end for end in configured if isinstance(end, int)]
    vocabulary, special = case.tokenizer.get_vocab(), set(case.tokenizer.all_special_ids)
    special |= {number for number, token in case.tokenizer.added_tokens_decoder.items() if token.special}
    good = {case.tokenizer.eos_token_id, *(family_ends or ()), *(vocabulary.get(token) for token in CHAT_ENDS)} - {None}
    named = ", ".join(map(repr, case.tokenizer.convert_ids_to_tokens(sorted(good))))
    text = ""
    if found and not good & set(found):
        text = f"{FILE}: eos_token_id {found} is not what ends an answer of this tokenizer ({named})"
    elif odd := [end for end in found if end not in good | special]:
        text = f"{FILE}: eos_token_id {odd[0]} is no special token of this tokenizer and would cut answers"
    if text and family_ends is None:
        yield failed(text, f"every answer would run on or be cut: {RESTORE}")
    elif text:
        yield warning(f"{text}; {case.family.title} does not use it", RESTORE)


def _unserved(plain: dict, engine: str) -> Iterator[Finding]:
    """What a run refuses, and what it does not take over."""
    try:
        GenerationConfig.from_dict(plain)
    except (ValueError, TypeError) as error:
        yield failed(f"{FILE}: transformers cannot load it: {reason(error)}", RESTORE)
        return
    if refused := options.refused_of_checkpoint(plain, engine):
        listed = ", ".join(f"{name}={value!r}" for name, value in refused.items())
        other = options.refused_of_checkpoint(plain, "generate")
        remedy = f"take it out of {FILE}, or {RESTORE}" if other else f"engine=generate, or take it out of {FILE}"
        yield failed(f"{FILE}: {listed}: no run with engine={engine} does that", remedy)
    aside = {name: value for name, value in options.set_aside(plain).items() if name not in USUAL}
    if plain.get("use_cache") is False:
        aside["use_cache"] = False
    if aside:
        listed = ", ".join(f"{name}={value!r}" for name, value in aside.items())
        yield warning(
            f"{FILE}: {listed}: not taken over, a run gives one answer per prompt, searched as the task says",
            f"nothing to do; or delete it from {FILE}",
        )
