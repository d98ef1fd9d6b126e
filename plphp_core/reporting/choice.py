"""Which results are shown where those of several kinds are finished and nobody has chosen: one rule for everything.

A kind that the user did not name is the usual one, if there are any results of it: the whole benchmarks, lmms-eval's
protocol with the prompts that go with it, `generate`, the dtype that the model is configured for, seed 0. Of several
subsets without a whole benchmark it is the largest. What is left out is said. Where the usual one is not among them,
and for checkpoints, revisions and attention kernels, which have none, `selection` refuses the mixture by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from plphp_core.analysis.comparable import Filters, one_protocol, shown
from plphp_core.config.run_settings import PROTOCOL_PROMPTS

# in this order: the whole benchmarks under another protocol come before a subset under the usual one
FIELDS = ("limit", "protocol", "prompts", "engine", "dtype", "limit_seed")
OF_PROTOCOL = ("protocol", "prompts")
USUAL = {"limit": None, "protocol": "lmms_eval", "engine": "generate", "limit_seed": 0}
DtypeOf = Callable[[str], str | None]


@dataclass(frozen=True)
class Choice:
    """What is left of the `results` handed in, in their order. `taken` and `left`: "limit=null", and how many each."""

    results: list
    taken: tuple[str, ...] = ()
    left: Counter[str] = field(default_factory=Counter)

    @property
    def said(self) -> str:
        """Which kind was taken and which others there are, in a line; empty where there was nothing to choose."""
        if not self.left:
            return ""
        others = ", ".join(f"{kind} ({count} file{'s' * (count != 1)})" for kind, count in self.left.items())
        return f"shown is {', '.join(self.taken)}; also finished: {others}; {next(iter(self.left))} shows those"


def settle(
    results: Iterable,
    filters: Filters,
    dtype_of: DtypeOf,
    *,
    admits: Callable[[object], bool] | None = None,
    leave: Collection[str] = (),
    alike: Callable[[str], bool] = one_protocol,
) -> Choice:
    """The results without those that `filters` admit and the usual kinds push aside.

    Args:
        results: cells or attention readings.
        dtype_of: what a model is configured for; None if that is not known.
        admits: instead of `filters`, of results that have a rule of their own.
        leave: fields that stay as they are.
        alike: which benchmarks' results fit every protocol and have no say in which it is.
    """
    results = list(results)
    open_ones = [one for one in results if (admits or filters)(one)]
    gone: set[int] = set()
    taken: dict[str, None] = {}
    left: Counter[str] = Counter()
    for name in FIELDS:
        if name in leave or getattr(filters, name) is not None:
            continue
        for rivals in _rivals(open_ones, name, alike):
            kinds = {getattr(one, name) for one in rivals}
            protocols = {one.protocol for one in rivals}
            usual = {
                **USUAL,
                "prompts": PROTOCOL_PROMPTS.get(protocols.pop()) if len(protocols) == 1 else None,
                "dtype": dtype_of(rivals[0].model) if name == "dtype" and len(kinds) > 1 else None,
            }[name]
            if len(kinds) > 1 and (usual in kinds or name == "limit"):
                value = usual if usual in kinds else max(kinds)
                taken[f"{name}={shown(name, value)}"] = None
                others = [one for one in rivals if getattr(one, name) != value]
                left.update(f"{name}={shown(name, getattr(one, name))}" for one in others)
                gone |= set(map(id, others))
        open_ones = [one for one in open_ones if id(one) not in gone]
    return Choice([one for one in results if id(one) not in gone], tuple(taken), left)


def _rivals(results: Sequence, name: str, alike: Callable[[str], bool]) -> list[list]:
    """The groups in which a field is settled: dtype model by model, everything else for all models together."""
    if name == "dtype":
        models = dict.fromkeys(one.model for one in results)
        return [[one for one in results if one.model == model] for model in models]
    if name in OF_PROTOCOL:
        own = [one for one in results if not alike(one.benchmark)]
        return [own or list(results)] if results else []
    return [list(results)] if results else []
