"""Why what is on disk is not reused: how other answers and an older result differ from a cell, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping

from plphp_core.evaluation.cell_spec import CellSpec
from plphp_core.records.cell_result import CellResult
from plphp_core.records.journal import Journal

FILES = 3  # that are named of those whose code changed
LONGEST = 40  # characters of a value that is printed
HASHES = 12  # characters of a hash or commit that are printed
UNRECORDED = "its journal does not hold what they rest on"


def cache_misses(
    cell: CellSpec, journal: Journal, result: CellResult | None, keys: Mapping[int, str] | None = None
) -> list[str]:
    """Why the cell's answers are not all there although its files are; empty if nothing on disk is left unused.

    Args:
        journal: the cell's own.
        result: of the cell's name; None if there is none or it cannot be read.
        keys: doc_id → sample key, to notice prompts that changed under the same cell.
    """
    found = []
    for other, count in journal.counts.most_common():
        if other != cell.key:
            found.append(f"{_counted(count)} not reused: {_answers_differ(cell, journal, other)}")
    changed = sum(keys.get(doc, line.key) != line.key for doc, line in journal.of(cell.key).items()) if keys else 0
    if changed:
        found.append(f"{_counted(changed)} not reused: prompt text of the samples differs")
    if result is not None and (why := _result_differs(cell, journal, result)):
        found.append(f"result not reused: {why}")
    return found


def _answers_differ(cell: CellSpec, journal: Journal, key: str) -> str:
    recorded = journal.identities.get(key)
    return UNRECORDED if recorded is None else "; ".join(differences(recorded, cell.identity))


def _result_differs(cell: CellSpec, journal: Journal, result: CellResult) -> str:
    if result.key == cell.result_key:
        if not result.intact():
            return "its file was damaged or changed after it was written; written anew"
        return f"{result.errors} samples without an answer are tried again" if result.errors else ""
    why = differences(result.scoring, cell.scoring)
    if result.answers_key != cell.key:
        why.insert(0, _answers_differ(cell, journal, result.answers_key))
    return "; ".join(why)


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What changed between two identities (`cache_keys.cell_identity`): "numerics dtype was bfloat16, is float32".

    Of code the files are named; texts that are too long for a line only "differ".
    """
    found = []
    for name in dict.fromkeys([*now, *before]):
        was, is_now = before.get(name), now.get(name)
        if _json(was) == _json(is_now):
            continue
        if not isinstance(was, Mapping) or not isinstance(is_now, Mapping):
            found.append(_change(name, was, is_now))
            continue
        parts = [part for part in sorted(was.keys() | is_now.keys()) if _json(was.get(part)) != _json(is_now.get(part))]
        if name.endswith("_code"):
            more = f" and {len(parts) - FILES} more" if len(parts) > FILES else ""
            found.append(f"{name.replace('_', ' ')} ({', '.join(parts[:FILES])}{more}) has changed")
        else:
            found += [_change(f"{name} {part}", was.get(part), is_now.get(part)) for part in parts]
    return found


def _change(name: str, was: object, is_now: object) -> str:
    was, is_now = _shown(was), _shown(is_now)
    short = max(len(was), len(is_now)) <= LONGEST and (was + is_now).isprintable() and was != is_now
    return f"{name} was {was}, is {is_now}" if short else f"{name} differs"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else _json(value)
    prefix, colon, rest = text.rpartition(":")
    is_hash = len(rest) in (40, 64) and not set(rest) - set("0123456789abcdef")
    return f"{prefix}{colon}{rest[:HASHES]}" if is_hash else text


def _json(value: object) -> str:
    """As keys see it: 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _counted(answers: int) -> str:
    return "1 answer" if answers == 1 else f"{answers} answers"
