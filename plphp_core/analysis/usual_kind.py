"""Which results are shown where those of several kinds are finished and nobody has chosen: one rule for everything.

A kind that the user did not name is the usual one, if there are any results of it: the whole benchmarks, lmms-eval's
protocol with the prompts that go with it, `generate`, the dtype that the model is configured for, seed 0. Of several
subsets without a whole benchmark it is the largest. What is left out is said. Where the usual one is not among them,
and for checkpoints, revisions and attention kernels, which have none, `comparable` refuses the mixture by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from plphp_core.analysis.comparable import one_protocol, shown
from plphp_core.config.report_choices import Filters
from plphp_core.config.run_settings import PROTOCOL_PROMPTS

# in this order: the whole benchmarks under another protocol come before a subset under the usual one
FIELDS = ("limit", "protocol", "prompts", "engine", "dtype", "limit_seed")
OF_PROTOCOL = ("protocol", "prompts")
USUAL = {"limit": None, "protocol": "lmms_eval", "engine": "generate", "limit_seed": 0}
DtypeOf = Callable[[str], str | None]


@dataclass(frozen=True)
class Choice:
    """What is left of the `results` handed in, in their order. `taken` and `left`: "limit=null", and how many each."""

    results: list[Any]
    taken: tuple[str, ...] = ()
    left: Counter[str] = field(default_factory=Counter)

    @property
    def said(self) -> str:
        """Which kind was taken and which others there are, in a line; empty where there was nothing to choose."""
        if not self.left:
            return ""
        others = ", ".join(f"{kind} ({count} file{'s' * (count != 1)})" for kind, count in self.left.items())
        return f"shown is {', '.join(self.taken)}; also finished: {others}; {next(iter(self.left))} shows those"


def usual_kind(
    results: Iterable[Any],
    filters: Filters,
    dtype_of: DtypeOf,
    admitted: Callable[[Any], bool],
    leave: Collection[str] = (),
    alike: Callable[[str], bool] = one_protocol,
) -> Choice:
    """The results without those that the usual kinds push aside.

    Args:
        results: cells or attention readings.
        filters: fields that the user chose are left as they are.
        dtype_of: what a model is configured for; None if that is not known.
        admitted: which results the user's choice leaves; only these count and are pushed aside.
        leave: further fields that stay as they are.
        alike: which benchmarks' results fit every protocol and have no say in which it is.
    """
    results = list(results)
    rivals = list(filter(admitted, results))
    gone: set[int] = set()
    taken: dict[str, None] = {}
    left: Counter[str] = Counter()
    for name in FIELDS:
        if name in leave or filters.given(name):
            continue
        for group in _groups(rivals, name, alike):
            kinds = {getattr(one, name) for one in group}
            usual = _usual(name, group, dtype_of) if len(kinds) > 1 else None
            if len(kinds) > 1 and (usual in kinds or name == "limit"):
                value = usual if usual in kinds else max(kinds)
                taken[f"{name}={shown(value)}"] = None
                others = [one for one in group if getattr(one, name) != value]
                left.update(f"{name}={shown(getattr(one, name))}" for one in others)
                gone |= set(map(id, others))
        rivals = [one for one in rivals if id(one) not in gone]
    return Choice([one for one in results if id(one) not in gone], tuple(taken), left)


def _groups(results: Sequence[Any], name: str, alike: Callable[[str], bool]) -> list[list[Any]]:
    """The groups in which a field is chosen: dtype model by model, everything else for all models together."""
    if name == "dtype":
        models = dict.fromkeys(one.model for one in results)
        return [[one for one in results if one.model == model] for model in models]
    own = [one for one in results if name not in OF_PROTOCOL or not alike(one.benchmark)]
    return [own or list(results)]


def _usual(name: str, group: Sequence[Any], dtype_of: DtypeOf) -> Any:
    """The usual value of a field; None if there is none, and of `limit`."""
    if name == "dtype":
        return dtype_of(group[0].model)
    if name == "prompts":
        protocols = {one.protocol for one in group}
        return PROTOCOL_PROMPTS.get(protocols.pop()) if len(protocols) == 1 else None
    return USUAL[name]
