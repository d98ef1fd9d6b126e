"""A table of kind `compare` as data: a cost, budgets of it, methods, and how each method is brought to a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plphp_core.config import checked_values as values
from plphp_core.config.run_settings import MethodSettings, check_method
from plphp_core.config.table_rows import NOT_PARAMETERS, SYMBOLS, method_defaults
from plphp_core.records.errors import UserError, unknown

NONE, AGAINST = "none", "random"  # what changes are measured against; the control, unless a table names another one
DIGITS = 4  # of a parameter that is searched
TOLERANCE = 0.005  # of what is wanted: nearer is equal
AFTER_THE_PREFILL = "every vision token comes into attention; what it shortens is the cache, after the prefill"


@dataclass(frozen=True)
class Cost:
    """What methods spend equal amounts of.

    Attributes:
        name: `kv_bytes`, of the prompt after the prefill, text included; `tokens`: vision tokens that come into
            attention in the prefill, mean over layers.
        cell: the same among a cell's costs.
        share, count: parameters of methods that take a budget as it is: a share, or tokens (of `kv_bytes`, per layer
            and head; of `tokens`, per image).
        short: in front of a budget, in settings. verb, unit: "holds 40% of the KV bytes".
        same: "at the same …"; equal: "at equal …".
    """

    name: str
    cell: str
    share: str
    count: str
    short: str
    verb: str
    unit: str
    same: str
    equal: str

    def amount(self, value: float, full: float) -> str:
        """A part of `full` in print."""
        return f"{value / full:.1%}" if self.name == "kv_bytes" else f"{value:.1f}"

    def of(self, full: float) -> str:
        """What follows an amount."""
        return self.unit if self.name == "kv_bytes" else f"of {full:.1f} {self.unit}"

    def said(self, value: float, full: float) -> str:
        return f"{self.amount(value, full)} {self.of(full)}"


COSTS = {
    one.name: one
    for one in (
        Cost("kv_bytes", "kv_bytes", "kv_share", "kv_tokens", "KV", "holds", "of the KV bytes", "bytes",
             "measured KV bytes"),
        Cost("tokens", "vision_entered", "ratio", "tokens", "vision", "has", "vision tokens in attention", "tokens",
             "measured vision tokens in attention"),
    )
}  # fmt: skip


def is_count(budget: float) -> bool:
    """Whether a budget counts tokens; otherwise it is a share in (0, 1]."""
    return budget > 1


def shown(budget: float) -> str:
    """A budget in print."""
    return f"{budget:g}" if is_count(budget) else f"{100 * budget:.4g}%"


@dataclass(frozen=True)
class CostSearch:
    """The parameter of a method that is searched until it comes to a budget.

    Attributes:
        low, high: the smallest and the largest value; high None: the model's layers.
        tied: other parameters that go with it: a factor, and what is left up to `high` where that is less.
        powers: of a parameter that is a list: it is the value's first powers, "0.5+0.25+0.125"; 0: it is the value.
        of: the list counts tokens: so many times the powers, in whole numbers.
        tolerance: of a method whose steps are coarse, in place of the table's.
    """

    parameter: str
    low: float
    high: float | None
    tied: tuple[tuple[str, float], ...] = ()
    whole: bool = False
    powers: int = 0
    of: int = 0
    tolerance: float | None = None

    def params(self, value: float) -> dict[str, float | int | str]:
        """The searched and the tied parameters."""
        if self.powers:
            shares = [value**power for power in range(1, self.powers + 1)]
            listed = [str(round(self.of * share)) if self.of else f"{share:.4f}" for share in shares]
            return {self.parameter: "+".join(listed)}
        top = value if self.high is None else self.high
        others = {name: round(min(factor * value, top - value), DIGITS + 2) for name, factor in self.tied}
        return {self.parameter: int(value) if self.whole else round(float(value), DIGITS), **others}


@dataclass(frozen=True)
class Contender:
    """A method of the comparison with all its parameters, before it is brought to a budget.

    Attributes:
        setting: the parameters that are not the method's usual ones here, as rows show them.
        official: budget → parameters that are published for it, which are taken as they are.
        search: otherwise, what is searched; follows: or the parameter that takes the budget as it is.
        never: why no budget can be reached.
    """

    cost: Cost
    name: str
    params: dict[str, Any]
    setting: str = ""
    official: Mapping[float, Mapping[str, Any]] = field(default_factory=dict)
    search: CostSearch | None = None
    follows: str = ""
    never: str = ""

    def searched(self, budget: float) -> CostSearch | None:
        """What is searched at a budget, if anything is."""
        return None if budget in self.official else self.search

    def at(self, budget: float, found: Mapping[str, Any] | None = None) -> MethodSettings:
        """The method at a budget, with the parameters that a search has found or tries."""
        search = self.searched(budget)
        if search is not None:
            own = {name: (found or {})[name] for name in (search.parameter, *(name for name, _ in search.tied))}
        else:
            own = dict(self.official.get(budget, {self.follows: int(budget) if is_count(budget) else budget}))
        named = ", ".join(f"{SYMBOLS.get(name, name)}={in_words(value)}" for name, value in own.items())
        setting = [f"{self.cost.short} {shown(budget)}", self.setting, named * (self.follows not in own)]
        return MethodSettings(self.name, {**self.params, **own}, ", ".join(filter(None, setting)))


def in_words(value: object) -> str:
    """A parameter's value in print."""
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


@dataclass(frozen=True)
class EqualCost:
    """What is compared: budgets of a cost, rising, and methods, without `none`.

    Attributes:
        control: name of the one that the others are compared with at the same cost.
        tolerance: as a share of what is wanted: nearer is equal.
    """

    cost: Cost
    budgets: tuple[float, ...]
    contenders: tuple[Contender, ...]
    control: str
    tolerance: float = TOLERANCE

    def nearness(self, budget: float, one: Contender) -> float:
        """How near is equal at a budget: the table's tolerance, or that of a method whose steps are coarse."""
        search = one.searched(budget)
        return self.tolerance if search is None or search.tolerance is None else search.tolerance

    @property
    def against(self) -> Contender:
        """The control."""
        return next(one for one in self.contenders if one.name == self.control)


def equal_cost(table: DictConfig, profile: Mapping, model: Mapping) -> EqualCost:
    """What a table of this kind compares.

    Raises:
        UserError: a cost, budget, method or parameter that is not allowed, or a missing reference; in a sentence.
    """
    plain: dict[str, Any] = OmegaConf.to_container(table, resolve=True)
    kind, control = plain.get("cost", "kv_bytes"), plain.get("against", AGAINST)
    if kind not in COSTS:
        raise unknown("cost in table.cost", kind, COSTS)
    cost = COSTS[kind]
    budgets = tuple(sorted(map(_budget, _listed(plain, "budgets"))))
    if len(set(map(is_count, budgets))) > 1:
        raise UserError(f"table.budgets mixes shares and tokens: {', '.join(map(shown, budgets))}; give one kind")
    entries = [dict(one) if isinstance(one, dict) else {"method": one} for one in _listed(plain, "methods")]
    entries = [one for one in entries if one.pop("only", profile["name"]) == profile["name"]]
    for entry in entries:
        if "method" not in entry:
            raise UserError(f"table.methods: {entry} names no method; write {{method: snapkv, scope: prompt}}")
    names = [entry["method"] for entry in entries]
    contenders = [
        _contender(entry, plain, cost, budgets, profile, model) for entry in entries if entry["method"] != NONE
    ]
    reasons = ((NONE, "changes are relative to it"), (control, f"all are compared with it at the same {cost.same}"))
    for name, why in reasons:
        if name not in names:
            raise UserError(f"table.methods lacks {name}, and {why}; add it: table.methods=[{name},…]")
    if twice := [one for at, one in enumerate(contenders) if one in contenders[:at]]:
        named = " ".join([twice[0].name, twice[0].setting]).strip()
        raise UserError(f"table.methods names {named} twice; leave one out")
    tolerance = plain.get("tolerance", TOLERANCE)
    if not isinstance(tolerance, float) or not 0 < tolerance < 1:
        raise UserError(f"table.tolerance must be a number in (0, 1), such as {TOLERANCE}, got {tolerance!r}")
    return EqualCost(cost, budgets, tuple(contenders), control, tolerance)


def _listed(table: Mapping[str, Any], key: str) -> Sequence[Any]:
    found = table.get(key)
    found = [found] if isinstance(found, (str, int, float)) and not isinstance(found, bool) else found
    if not isinstance(found, list) or not found:
        raise UserError(f"table.{key} of {table['name']} is empty; give at least one, as in configs/table/compare.yaml")
    if len({str(one) for one in found}) < len(found):
        raise UserError(f"table.{key} of {table['name']} names something twice: {', '.join(map(str, found))}")
    return found


def _budget(value: object) -> float:
    """A share, which may be written as 2/9, or a whole number of tokens from 2 on."""
    found = 0.0
    with suppress(ValueError, ZeroDivisionError):
        found = float(Fraction(value)) if isinstance(value, str) else found
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        found = float(value)
    if not (0 < found <= 1 or (found > 1 and found.is_integer())):
        allowed = "allowed: shares in (0, 1], such as 0.33 or 1/3, and whole numbers of tokens from 2 on"
        raise UserError(f"table.budgets: {value!r} is no budget; {allowed}")
    return found


def _contender(
    entry: Mapping[str, Any],
    table: Mapping[str, Any],
    cost: Cost,
    budgets: Sequence[float],
    profile: Mapping,
    model: Mapping,
) -> Contender:
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
    if cost.name == "tokens" and built is not None and not (built.shortens or built.redraws):
        return Contender(cost, name, complete, setting, never=AFTER_THE_PREFILL)
    follows = cost.count if is_count(budgets[0]) else cost.share
    official = _official(name, complete, table)
    search = _search(name, complete, table)
    if search is None and follows not in complete and not set(budgets) <= set(official):
        raise UserError(
            f"table.methods: {name} has no parameter {follows}, and table.search does not say what to search; add "
            f"table.search.{name} with parameter, low and high"
        )
    return Contender(cost, name, complete, setting, official, search, follows)


def _official(name: str, params: Mapping[str, Any], table: Mapping[str, Any]) -> dict[float, dict[str, Any]]:
    """Budget → the parameters that `table.settings` has for the method."""
    found = {}
    for budget, own in ((table.get("settings") or {}).get(name) or {}).items():
        for one in own:
            if one not in params:
                raise unknown(f"parameter of {name} in table.settings", one, params)
        built = check_method(name, {**params, **own})
        complete = own if built is None else built.params()
        found[_budget(budget)] = {one: complete[one] for one in own}  # as cells write them down
    return found


def _search(name: str, params: Mapping[str, Any], table: Mapping[str, Any]) -> CostSearch | None:
    found = (table.get("search") or {}).get(name)
    if found is None:
        return None
    parameter = values.text(f"table.search.{name}.parameter", found.get("parameter"))
    for one in (parameter, *(found.get("tied") or {})):
        if one not in params:
            raise unknown(f"parameter of {name} in table.search", one, params)
    low, high = found.get("low", 0), found.get("high")
    numbers = [one for one in (low, high) if one is not None]
    if not all(isinstance(one, (int, float)) for one in numbers) or (high is not None and low >= high):
        raise UserError(f"table.search.{name}: low = {low!r} and high = {high!r}, but must be numbers, low below high")
    return CostSearch(
        parameter,
        low,
        high,
        tied=tuple((found.get("tied") or {}).items()),
        whole=type(params[parameter]) is int,
        powers=found.get("powers", 0),
        of=found.get("of", 0),
        tolerance=found.get("tolerance"),
    )
