"""Why what is on disk is not reused: the first field in which other answers, or an older result, differ from a cell."""

from __future__ import annotations

import json
from collections.abc import Mapping

from plphp_core.evaluation.cell_spec import CellSpec
from plphp_core.records.cell_result import CellResult
from plphp_core.records.journal import Journal

LONGEST = 40  # characters of a value that is printed whole
UNRECORDED = "its journal does not hold what they rest on"


def cache_miss(
    cell: CellSpec, journal: Journal, result: CellResult | None, keys: Mapping[int, str] | None = None
) -> str:
    """One sentence on why the cell is not finished although its files are there; empty if nothing on disk is unused.

    Args:
        journal: the cell's own.
        result: of the cell's name; None if there is none or it cannot be read.
        keys: doc_id → sample key, to notice prompts that changed under the same cell.
    """
    for other, count in journal.counts.most_common():
        if other != cell.key:
            return f"{count} answers not reused: {_answers_differ(cell, journal, other)}"
    changed = sum(keys.get(doc, line.key) != line.key for doc, line in journal.of(cell.key).items()) if keys else 0
    if changed:
        return f"{changed} answers not reused: prompt text of the samples differs"
    if result is None:
        return ""
    if result.key != cell.result_key:
        why = difference(result.scoring, cell.scoring) or _answers_differ(cell, journal, result.answers_key)
    elif not result.intact():
        why = "its file was damaged or changed after it was written; written anew"
    else:
        why = f"{result.errors} samples without an answer are tried again" if result.errors else ""
    return why and f"result not reused: {why}"


def _answers_differ(cell: CellSpec, journal: Journal, key: str) -> str:
    recorded = journal.identities.get(key)
    return UNRECORDED if recorded is None else difference(recorded, cell.identity)


def difference(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """The first difference of two identities (`CellSpec.identity`): "numerics dtype was bfloat16, is float32"."""
    for name in {**now, **before}:
        was, is_now = before.get(name), now.get(name)
        if _json(was) == _json(is_now):
            continue
        if isinstance(was, Mapping) and isinstance(is_now, Mapping):
            field = next(one for one in {**is_now, **was} if _json(was.get(one)) != _json(is_now.get(one)))
            if name.endswith("_code"):
                return f"{name.replace('_', ' ')} ({field}) has changed"
            name, was, is_now = f"{name} {field}", was.get(field), is_now.get(field)
        was, is_now = _short(was), _short(is_now)
        return f"{name} was {was}, is {is_now}" if was != is_now else f"{name} differs"
    return ""


def _short(value: object) -> str:
    text = value if isinstance(value, str) and value.isprintable() else _json(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…"


def _json(value: object) -> str:
    """As keys see it: 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True, default=str)
