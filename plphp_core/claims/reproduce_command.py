"""What to type in order to measure what a claim lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plphp_core.config.run_settings import PROTOCOL_PROMPTS
from plphp_core.reporting.request import MODEL, ReportRequest

FLEXIBLE = ("table2", "table5", "figure5", "figure6")  # make targets that take MODEL=
SEVERAL = ("table3", "figure1")  # of more than one model
ENOUGH = 100  # samples per benchmark of a figure that reads only some unless it is told otherwise


@dataclass(frozen=True)
class Command:
    """How the ledger's cells are chosen: profile, model, and what the user asked for beyond that."""

    profile: str
    model: str
    chosen: Mapping[str, str | None]

    @classmethod
    def of(cls, asked: ReportRequest) -> Command:
        chosen = {name: getattr(asked.filters, name) for name in ("protocol", "prompts", "engine", "limit")}
        return cls(asked.profile, asked.options.model, chosen)

    def text(self, table: str, facts: Mapping[str, tuple[str, ...]], subset: bool) -> str:
        """The make command for a table or figure, under the conditions of the cells there are.

        Args:
            facts: those of the evidence; conditions with one value win over what was asked for.
            subset: whether the same subset will do; otherwise all samples are asked for.
        """
        found = {name: values[0] for name, values in facts.items() if len(values) == 1}
        known = {**self.chosen, **{name: found[name] for name in self.chosen if name in found}}
        protocol = known["protocol"] or "lmms_eval"
        words = [f"make reproduce-{table}"]
        words += [f"PROFILE={self.profile}"] * (self.profile != "paper")
        words += [f"PROTOCOL={protocol}"] * (protocol != "lmms_eval")
        words += [f"PROMPTS={known['prompts']}"] * (known["prompts"] not in (None, PROTOCOL_PROMPTS.get(protocol)))
        words += [f"ENGINE={known['engine']}"] * (known["engine"] not in (None, "generate"))
        if table not in SEVERAL and self.model != MODEL:
            words.append(f"{'MODEL' if table in FLEXIBLE else 'ARGS=model'}={self.model}")
        limit = (known["limit"] or "full").split()[0] if subset else "full"
        if table == "figure1" and found and not subset:
            limit = str(ENOUGH)
        words += [f"LIMIT={limit}"] * (limit != "full")
        return " ".join(words)
