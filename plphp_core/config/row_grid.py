"""Rows of a table whose parameters are lists: one row for every combination that the method allows."""

from __future__ import annotations

import itertools

from plphp_core.pruning.method import make_method
from plphp_core.records.errors import UserError


def expand(row: dict, defaults: dict | None = None) -> tuple[list[dict], list[str]]:
    """`{method: plphp, r: [0.3, 0.4], delta_r: [0, 0.3]}` as plain rows, the last list turning fastest.

    Args:
        row: as in `configs/table/`; values that are lists are alternatives.
        defaults: the method's other parameters, with which a combination must agree (`β ≤ α`, …).

    Returns:
        rows with single values, and for each combination that the method refuses a message that says why. A row without
        lists is returned as it is, allowed or not: what one asked for by name must fail, not vanish.

    Raises:
        UserError: a list is empty, or the method allows none of the combinations.
    """
    lists = {name: value for name, value in row.items() if isinstance(value, list)}
    if not lists:
        return [row], []
    if empty := [name for name, values in lists.items() if not values]:
        raise UserError(f"{row['method']}: {empty[0]} = [] in a table's row; give at least one value")
    rows, refused = [], []
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        params = {**(defaults or {}), **row, **chosen}
        for name in ("method", "name", "setting"):
            params.pop(name, None)
        try:
            make_method(row["method"], **params)
        except (ValueError, TypeError) as error:
            shown = ", ".join(f"{name}={value}" for name, value in chosen.items())
            refused.append(f"{row['method']} {shown} left out: {error}")
        else:
            rows.append({**row, **chosen})
    if not rows:
        raise UserError(f"no combination of a table's row is allowed; {refused[0]}")
    return rows, refused
