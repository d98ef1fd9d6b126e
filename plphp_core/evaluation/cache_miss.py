"""Why what is on disk is not reused: how other answers and an older result differ from a cell, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from plphp_core.evaluation.cell_spec import SCORES, Cell, whole
from plphp_core.records.cache_keys import installed
from plphp_core.records.journal import Journal

TEMPLATE = "prompt template"  # its text says little on one line
# What the places of an identity's lists hold (`keys.cell_identity`). A place that is itself a mapping puts its name
# before each of its keys.
PLACES = {
    "weights": ("checkpoint", "weights revision"),
    "family": ("model family", TEMPLATE, "prompt style", "option"),
    "numerics": ("dtype", "attention", "device", "engine"),
    "method": ("method", "method"),
    "task": ("task", "task version", "generation"),
}
NAMES = {"data": "data revision", "versions": ""}
# Parts that say file → hash, and how a reason calls them.
CODE_NAMES = {
    "answering code": "the answering code",
    "method code": "the method's code",
    "task code": "the task's code",
    "scoring code": "the scoring code",
}
# name → where a result file has it, beside the library versions
RECORDED = {
    "weights revision": "revision",
    "prompt style": "prompts",
    "dtype": "dtype",
    "attention": "attn_implementation",
    "engine": "engine",
    "method": "method",
    "task": "task",
    "task version": "task_version",
    "data revision": "data_revision",
    "protocol": "protocol",
    "limit": "limit",
    "limit seed": "limit_seed",
    "benchmark": "benchmark",
    "scoring revision": "scores",
    "list of extra metrics": "extra_metrics",
}
HASH = re.compile(r"(sha256:)?([0-9a-f]{12})(?:[0-9a-f]{28}|[0-9a-f]{52})")
FILES = 3  # that are named of those whose code changed
LONGEST = 40  # characters of a value that is printed
UNRECORDED = "of an older version that did not record what they rest on"
UNHELD = "something differs that result files do not hold, such as prompt template or generation arguments"
_NOT_SET = object()


def explain(cell: Cell, journal: Journal, result: Mapping, keys: Mapping[int, str] | None = None) -> list[str]:
    """Why the cell's answers are not all there although its files are; empty if nothing on disk is left unused.

    Args:
        cell: with its `identity`.
        journal: the cell's own.
        result: content of the cell's result file; empty if there is none or it cannot be read.
        keys: doc_id → sample key, to notice prompts that changed under the same cell.
    """
    return reasons(journal, cell.key, cell.identity, keys) + result_reasons(cell, journal, result)


def reasons(journal: Journal, cell_key: str, identity: Mapping, keys: Mapping[int, str] | None = None) -> list[str]:
    """A sentence on each group of answers in the journal that the cell cannot use, the largest group first.

    Args:
        identity: `keys.cell_identity`, of which `cell_key` is the digest.
        keys: as in `explain`.
    """
    found = []
    for other, count in journal.counts.most_common():
        if other != cell_key:
            recorded = journal.identities.get(other)
            why = UNRECORDED if recorded is None else "; ".join(differences(facts(recorded), facts(identity)))
            found.append(f"{_counted(count)} not reused: {why or 'what differs is unknown'}")
    changed = sum(
        line.get("cell") == cell_key and keys.get(line.get("doc_id"), key) != key
        for key, line in (journal.answers.items() if keys else ())
    )
    return found + [f"{_counted(changed)} not reused: prompt text of the samples differs"] * bool(changed)


def result_reasons(cell: Cell, journal: Journal, result: Mapping) -> list[str]:
    """Why a result file of the cell's name is not the cell's finished result: one sentence, or none if it is."""
    if not result:
        return []
    if result.get("key") == cell.result_key:
        if not whole(result):
            return ["result not reused: its file was damaged or changed after it was written; written anew"]
        errors = result.get("errors")
        return [f"result not reused: {errors} samples without an answer are tried again"] if errors else []
    before, now = _of_result(result), _of_cell(cell)
    shared = before.keys() & now.keys()
    why = differences(*({name: value for name, value in found.items() if name in shared} for found in (before, now)))
    if not why:
        why = ["scoring code or metrics differ" if journal.counts[cell.key] else UNHELD]
    return [f"result not reused: {'; '.join(why)}"]


def facts(identity: Mapping) -> dict[str, object]:
    """What an identity says, name by name, such as "dtype", "prompt template", "method r", "torch"."""
    found = {}
    for component, value in identity.items():
        if component in CODE_NAMES:
            found[component] = value
            continue
        names = PLACES.get(component)
        if names is not None and isinstance(value, list) and len(value) == len(names):
            places = list(zip(names, value, strict=True))
        else:
            places = [(NAMES.get(component, component), value)]
        for name, content in places:
            content = _options(content) if name == "option" else content
            if isinstance(content, Mapping):
                found |= {f"{name} {key}".strip(): part for key, part in content.items()}
            else:
                found[name] = content
    return found


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What changed between two sets of facts: "dtype was bfloat16, is float32"; long texts only "differ"."""
    found = []
    for name in dict.fromkeys([*now, *before]):
        was, is_now = before.get(name, _NOT_SET), now.get(name, _NOT_SET)
        if _json(was) == _json(is_now):
            continue
        if name in CODE_NAMES:
            what = "was not recorded" if was is _NOT_SET else f"{_files(was, is_now)}has changed"
            found.append(f"{CODE_NAMES[name]} {what}")
        else:
            was, is_now = _shown(was), _shown(is_now)
            short = max(len(was), len(is_now)) <= LONGEST and (was + is_now).isprintable()
            told = short and was != is_now and name != TEMPLATE
            found.append(f"{name} was {was}, is {is_now}" if told else f"{name} differs")
    return found


def _files(was: object, is_now: object) -> str:
    """Which files differ, in brackets: up to `FILES` of them; nothing if that is unknown."""
    if not isinstance(was, Mapping) or not isinstance(is_now, Mapping):
        return ""
    changed = sorted(str(name) for name in was.keys() | is_now.keys() if was.get(name) != is_now.get(name))
    more = f" and {len(changed) - FILES} more" if len(changed) > FILES else ""
    return f"({', '.join(changed[:FILES])}{more}) "


def _of_cell(cell: Cell) -> dict[str, object]:
    """All that the key of a cell's result depends on."""
    settings = cell.settings
    subset = {} if settings.limit is None else {"limit seed": settings.limit_seed}
    return {
        **facts(cell.identity),
        "protocol": settings.protocol,
        "limit": settings.limit,
        **subset,
        "benchmark": cell.facts.benchmark.label,
        "scoring revision": SCORES,
        "scoring code": cell.facts.scoring,
        "lmms-eval": installed("lmms-eval"),
        "list of extra metrics": settings.extra_metrics,
    }


def _of_result(result: Mapping) -> dict[str, object]:
    """As much of that as a result file holds."""
    found = {name: result[field] for name, field in RECORDED.items() if field in result}
    if result.get("limit") is None:
        found.pop("limit seed", None)
    code = result.get("code")
    found |= {name: value for name, value in code.items() if name in CODE_NAMES} if isinstance(code, Mapping) else {}
    versions = result.get("versions")
    return {**found, **versions} if isinstance(versions, Mapping) else found


def _options(pairs: object) -> object:
    """A family's options as a mapping; anything else as it is."""
    named = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    return {str(name): value for name, value in pairs} if named else pairs


def _json(value: object) -> str:
    """As keys see it: 1 and 1.0 differ."""
    return "" if value is _NOT_SET else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _shown(value: object) -> str:
    if value is _NOT_SET:
        return "not set"
    if value is None:
        return "none"
    plain = isinstance(value, str) and value.isprintable() and value == value.strip() != ""
    text = value if plain else _json(value)
    digest = HASH.fullmatch(text)
    return f"{digest[1] or ''}{digest[2]}" if digest else text


def _counted(answers: int) -> str:
    return "1 answer" if answers == 1 else f"{answers} answers"
