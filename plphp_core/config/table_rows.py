"""The rows of a table as data: a method's defaults, and grids of parameters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plphp_core.config.locations import config_file
from plphp_core.pruning.method import make_method, method_names, not_loaded
from plphp_core.records.errors import UserError, unknown

SYMBOLS = {"delta_r": "Δr", "alpha": "α", "beta": "β"}  # of parameters, as the papers write them
NOT_PARAMETERS = ("method", "name", "setting")


def table_rows(table: DictConfig, profile: Mapping, model: Mapping) -> tuple[list[tuple[dict, dict]], list[str]]:
    """The rows that a table lists for a profile, each as its complete parameters and the method's defaults; and which
    combinations of its grids the methods refuse.

    Raises:
        UserError: no rows for this profile, an unknown method or parameter, or a grid of which nothing is allowed.
    """
    if profile["name"] not in table.rows:
        raise unknown(f"profile for table {table.name}", profile["name"], table.rows)
    found: list[tuple[dict, dict]] = []
    refused: list[str] = []
    for row in OmegaConf.to_container(table.rows[profile["name"]], resolve=True):
        row = {"method": row} if isinstance(row, str) else row
        defaults = method_defaults(row["method"], profile, model)
        if extra := set(row) - set(defaults) - {"method"}:
            known = set(defaults) - set(NOT_PARAMETERS)
            raise unknown(f"parameter of {row['method']} in table {table.name}", min(extra), known)
        rows, left_out = expand(row, defaults)
        found += [({**defaults, **one}, defaults) for one in rows]
        refused += left_out
    return found, refused


def unknown_method(name: object) -> UserError:
    """Names the methods there are, and the modules that could not be loaded, one of which may be meant."""
    return UserError(f"{unknown('method', name, method_names())}{not_loaded()}")


def method_defaults(name: str, profile: Mapping, model: Mapping) -> dict[str, Any]:
    """`name`, `setting` (how a row is printed) and every parameter: from its file in configs/method/, else its own.

    Args:
        profile, model: of the configuration, which a method's file refers to: a profile may have values for a model.
    Raises:
        UserError: no such method.
    """
    path = config_file("method", name)
    if path is None:
        return own_defaults(name)
    scope = OmegaConf.create({"profile": profile, "model": model, "method": OmegaConf.load(path)})
    return OmegaConf.to_container(scope.method, resolve=True)


def own_defaults(name: str) -> dict[str, Any]:
    """The same from the method's dataclass, for one without a file. Raises UserError."""
    if name not in method_names():
        raise unknown_method(name)
    made = make_method(name)
    return {"name": name, "setting": "", **(made.params() if made is not None else {})}


def expand(row: dict, defaults: Mapping) -> tuple[list[dict], list[str]]:
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
    lists = {name: values for name, values in row.items() if isinstance(values, list)}
    if not lists:
        return [row], []
    if empty := [name for name, values in lists.items() if not values]:
        raise UserError(f"{row['method']}: {empty[0]} = [] in a table's row; give at least one value")
    rows, refused = [], []
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        params = {name: value for name, value in {**defaults, **row, **chosen}.items() if name not in NOT_PARAMETERS}
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
