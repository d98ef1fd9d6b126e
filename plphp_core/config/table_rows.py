"""The rows of a table as data: a method's defaults, grids of parameters, and how a row's setting is printed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plphp_core.config.locations import config_file
from plphp_core.pruning.method import Method, make_method, method_names, not_loaded
from plphp_core.records.errors import UserError, unknown

SYMBOLS = {"delta_r": "Δr", "alpha": "α", "beta": "β"}  # of parameters, as the papers write them
NOT_PARAMETERS = ("method", "name", "setting")


@dataclass(frozen=True)
class MethodSettings:
    """One row of a table: a method's name, every parameter (defaults filled in) and its label."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    setting: str = ""

    @cached_property
    def built(self) -> Method | None:
        """The method itself, built once: every cell of the row runs this object. Raises UserError."""
        return check_method(self.name, self.params)


def table_rows(
    table: DictConfig, profile: Mapping, model: Mapping
) -> tuple[tuple[MethodSettings, ...], tuple[str, ...]]:
    """The rows that a table lists for a profile, each once, and which combinations of its grids the methods refuse.

    Raises:
        UserError: no rows for this profile, an unknown method or parameter, or a value that a method does not allow.
    """
    if profile["name"] not in table.rows:
        raise unknown(f"profile for table {table.name}", profile["name"], table.rows)
    found, refused = [], []
    for row in OmegaConf.to_container(table.rows[profile["name"]], resolve=True):
        defaults = method_defaults(row["method"], profile, model)
        if extra := set(row) - set(defaults) - {"method"}:
            known = set(defaults) - set(NOT_PARAMETERS)
            raise unknown(f"parameter of {row['method']} in table {table.name}", min(extra), known)
        rows, left_out = expand(row, defaults)
        found += [method_row({**defaults, **one}, defaults) for one in rows]
        refused += left_out
    return tuple(one for number, one in enumerate(found) if one not in found[:number]), tuple(refused)


def method_row(chosen: Mapping, defaults: Mapping) -> MethodSettings:
    """A row from its complete parameters, with `name` and `setting` among them. Raises UserError."""
    params = {name: value for name, value in chosen.items() if name not in NOT_PARAMETERS}
    row = MethodSettings(chosen["name"], params)
    params = dict(row.built.params()) if row.built is not None else {}
    return MethodSettings(row.name, params, setting_text(chosen.get("setting", ""), params, defaults))


def check_method(name: str, params: Mapping) -> Method | None:
    """Build the method to see that its name and parameters are allowed; None for "none". Raises UserError."""
    if name not in method_names():
        raise unknown_method(name)
    try:
        return make_method(name, **params)
    except (ValueError, TypeError) as error:
        raise UserError(f"method {name} with {dict(params) or 'no parameters'}: {error}") from error


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


def setting_text(template: str, params: Mapping, defaults: Mapping) -> str:
    """How a row's setting is printed: `template` filled in, and the parameters it hides that are not `defaults`."""
    shown = {key: f"{value:g}" if isinstance(value, float) else value for key, value in params.items()}
    hidden = [key for key in params if f"{{{key}}}" not in template and params[key] != defaults.get(key, params[key])]
    named = (f"{SYMBOLS.get(key, key)}={shown[key]}" for key in hidden)
    return ", ".join(filter(None, [template.format(**shown), *named]))
