"""A table of kind `compare` as data: budgets, methods, and how each method is brought to a number of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plphp_core.config import checked_values as values
from plphp_core.config.run_settings import MethodSettings, check_method
from plphp_core.config.table_rows import NOT_PARAMETERS, SYMBOLS, method_defaults
from plphp_core.records.errors import UserError, unknown

SHARE = "kv_share"  # the parameter of methods that can follow a count
NONE, AGAINST = "none", "random"  # what changes are measured against; a control at the same bytes
DIGITS = 4  # of a parameter that is searched


@dataclass(frozen=True)
class ByteSearch:
    """The parameter of a method that is searched until it holds a number of bytes.

    Attributes:
        low, high: the smallest and the largest value; high None: the model's layers.
        tied: other parameters that go with it: a factor, and what is left up to `high` where that is less.
    """

    parameter: str
    low: float
    high: float | None
    tied: tuple[tuple[str, float], ...] = ()
    whole: bool = False

    def params(self, value: float) -> dict[str, float | int]:
        """The searched and the tied parameters."""
        top = value if self.high is None else self.high
        others = {name: round(min(factor * value, top - value), DIGITS + 2) for name, factor in self.tied}
        return {self.parameter: int(value) if self.whole else round(float(value), DIGITS), **others}


@dataclass(frozen=True)
class Contender:
    """A method of the comparison with all its parameters, before it is brought to a budget.

    Attributes:
        setting: the parameters that are not the method's usual ones here, as rows show them.
        search: None for a method that follows a count.
    """

    name: str
    params: dict[str, Any]
    setting: str = ""
    search: ByteSearch | None = None

    def at(self, budget: float, found: Mapping[str, Any] | None = None) -> MethodSettings:
        """The method at a share of the cache, with the parameters that a search has found or tries."""
        names = [] if self.search is None else [self.search.parameter, *(name for name, _ in self.search.tied)]
        own = {name: (found or {})[name] for name in names} or {SHARE: budget}
        shown = ", ".join(f"{SYMBOLS.get(name, name)}={value:g}" for name, value in own.items() if name != SHARE)
        setting = ", ".join(filter(None, [f"KV {100 * budget:g}%", self.setting, shown]))
        return MethodSettings(self.name, {**self.params, **own}, setting)


@dataclass(frozen=True)
class EqualBytes:
    """What is compared: shares of the prompt's KV bytes, rising, and methods, without `none`."""

    budgets: tuple[float, ...]
    contenders: tuple[Contender, ...]

    @property
    def against(self) -> Contender:
        """The control that the others are compared with at the same bytes."""
        return next(one for one in self.contenders if one.name == AGAINST)


def equal_bytes(table: DictConfig, profile: Mapping, model: Mapping) -> EqualBytes:
    """What a table of this kind compares.

    Raises:
        UserError: a budget, method or parameter that is not allowed, or a missing reference; in a sentence.
    """
    plain: dict[str, Any] = OmegaConf.to_container(table, resolve=True)
    entries = [one if isinstance(one, dict) else {"method": one} for one in _listed(plain, "methods")]
    entries = [one for one in entries if one.pop("only", profile["name"]) == profile["name"]]
    for entry in entries:
        if "method" not in entry:
            raise UserError(f"table.methods: {entry} names no method; write {{method: snapkv, scope: prompt}}")
    names = [entry["method"] for entry in entries]
    contenders = [_contender(entry, plain, profile, model) for entry in entries if entry["method"] != NONE]
    for name, why in ((NONE, "changes are relative to it"), (AGAINST, "all are compared with it at the same bytes")):
        if name not in names:
            raise UserError(f"table.methods lacks {name}, and {why}; add it: table.methods=[{name},…]")
    if twice := [one for at, one in enumerate(contenders) if one in contenders[:at]]:
        named = " ".join([twice[0].name, twice[0].setting]).strip()
        raise UserError(f"table.methods names {named} twice; leave one out")
    return EqualBytes(tuple(sorted(map(_budget, _listed(plain, "budgets")))), tuple(contenders))


def _listed(table: Mapping[str, Any], key: str) -> Sequence[Any]:
    found = table.get(key)
    found = [found] if isinstance(found, (str, int, float)) and not isinstance(found, bool) else found
    if not isinstance(found, list) or not found:
        raise UserError(f"table.{key} of {table['name']} is empty; give at least one, as in configs/table/compare.yaml")
    if len({str(one) for one in found}) < len(found):
        raise UserError(f"table.{key} of {table['name']} names something twice: {', '.join(map(str, found))}")
    return found


def _budget(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
        allowed = "allowed: numbers in (0, 1], such as 0.33"
        raise UserError(f"table.budgets: {value!r} is no share of the KV cache; {allowed}")
    return float(value)


def _contender(entry: Mapping[str, Any], table: Mapping[str, Any], profile: Mapping, model: Mapping) -> Contender:
    name = entry["method"]
    defaults = method_defaults(name, profile, model)
    usual = {**defaults, **(table.get("given") or {}).get(name, {})}
    params = {key: value for key, value in {**usual, **entry}.items() if key not in NOT_PARAMETERS}
    if extra := set(params) - set(defaults):
        raise unknown(f"parameter of {name} in table.methods", min(extra), set(defaults) - set(NOT_PARAMETERS))
    built = check_method(name, params)
    own = [key for key in entry if key != "method" and entry[key] != usual.get(key)]
    setting = ", ".join(f"{SYMBOLS.get(key, key)}={entry[key]}" for key in own)
    complete = {} if built is None else built.params()
    return Contender(name, complete, setting, None if SHARE in complete else _search(name, complete, table))


def _search(name: str, params: Mapping[str, Any], table: Mapping[str, Any]) -> ByteSearch:
    found = (table.get("search") or {}).get(name)
    if found is None:
        raise UserError(
            f"table.methods: {name} has no parameter {SHARE}, and table.search does not say what to search; add "
            f"table.search.{name} with parameter, low and high"
        )
    parameter = values.text(f"table.search.{name}.parameter", found.get("parameter"))
    for one in (parameter, *(found.get("tied") or {})):
        if one not in params:
            raise unknown(f"parameter of {name} in table.search", one, params)
    low, high = found.get("low", 0), found.get("high")
    numbers = [one for one in (low, high) if one is not None]
    if not all(isinstance(one, (int, float)) for one in numbers) or (high is not None and low >= high):
        raise UserError(f"table.search.{name}: low = {low!r} and high = {high!r}, but must be numbers, low below high")
    whole = type(params[parameter]) is int
    return ByteSearch(parameter, low, high, tuple((found.get("tied") or {}).items()), whole)
