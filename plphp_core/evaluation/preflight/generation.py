"""generation_config.json: what `generate` takes from the checkpoint unless a task says otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace

from plphp_core.evaluation.preflight.case import Case
from plphp_core.evaluation.preflight.check import Finding, check, failed, first_line, ok, warning
from plphp_core.evaluation.preflight.tokens import tokenizer

FILE = "generation_config.json"
RESTORE = f"restore {FILE} from the original checkpoint"
CHAT_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_utterance>")
# What changes greedy answers, and the values with which it does not.
CHANGES_ANSWERS = {
    "repetition_penalty": (None, 1),
    "no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None, []),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
}


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
    problems = [*_ends(case, plain.get("eos_token_id"), ends), *_searches(plain)]
    yield from problems
    changes = [f"{key}={plain[key]}" for key, none in CHANGES_ANSWERS.items() if plain.get(key) not in none]
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


def _searches(plain: dict) -> Iterator[Finding]:
    beams = plain.get("num_beams")
    if beams not in (None, 1):
        yield failed(
            f"{FILE}: num_beams is {beams}; tasks that do not say otherwise would search with beams",
            f"set num_beams to 1 in {FILE}, or {RESTORE}",
        )
    if plain.get("use_cache") is False:
        yield warning(
            f"{FILE}: use_cache is false; a run sets it all the same, as nothing can be pruned without a cache",
            f"delete use_cache from {FILE}",
        )
