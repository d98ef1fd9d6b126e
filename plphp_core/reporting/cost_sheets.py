"""The sheets of a comparison at equal cost: changes and costs, contrasts, and how each budget was reached."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from plphp_core.analysis.bootstrap import DECODE, PREFILL, Estimate, exactly
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.paired_contrasts import Contrast
from plphp_core.config.equal_cost import is_count, shown
from plphp_core.records.cell_result import ENTERED, FLOPS
from plphp_core.reporting import cost_columns, notes
from plphp_core.reporting.comparison_tables import contrast_table, tally
from plphp_core.reporting.cost_comparison import CostComparison
from plphp_core.reporting.table_model import NA, Table, TableCell, TableColumn, TableRow, number
from plphp_core.reporting.table_spec import NumberColumn, TableSpec, WordColumn, change_columns, share

HEAD = (TableColumn("Budget", text=True), TableColumn("Method", text=True), TableColumn("Setting", text=True))
COSTS: dict[
    str, tuple[TableColumn, float, Callable[[float], str]]
] = {  # name → its heading, what it is multiplied by, how it is printed
    "kv_share": (TableColumn("held", "KV"), 100, partial(share, decimals=2)),
    ENTERED: (TableColumn("entering", "Vision tokens"), 1, partial(number, decimals=1)),
    "attended_tokens": (TableColumn("attended", "Tokens"), 1, partial(number, decimals=1)),
    FLOPS: (TableColumn("GFLOPs", "Prefill"), 1e-9, partial(number, decimals=3)),
    PREFILL: (TableColumn("ms", "Prefill"), 1, number),
    DECODE: (TableColumn("ms/token", "Decode"), 1, number),
}
BUDGETS = {
    ("kv_bytes", False): "Budget: share of the KV bytes of a prompt, text included, that is held after the prefill.",
    ("kv_bytes", True): "Budget: tokens per layer and KV head, text included, that are held after the prefill, mean "
    "over layers and heads; of a prompt that is shorter all.",
    ("tokens", False): "Budget: share of the vision tokens that comes into attention in the prefill, mean over layers.",
    ("tokens", True): "Budget: vision tokens per image that come into attention in the prefill, mean over layers.",
}
MEASURED = {
    "kv_bytes": "mean KV bytes measured, as a share of the full ones; whole tokens are kept, so that it is at most the "
    "budget.",
    "tokens": "vision tokens that come into attention, as measured, mean over layers, then over prompts.",
}


def cost_column(own: CostComparison, name: str) -> NumberColumn:
    """One of COSTS, mean over the benchmarks of a row."""
    heading, scale, text = COSTS[name]
    return NumberColumn(heading, lambda index: exactly(own.cost(index, name)), text, scale)


def changes_table(own: CostComparison) -> Table:
    """A line per budget and method: scores, against the control, bytes and costs."""

    def against(index: int) -> str | None:
        """The word in place of a change against the control: its own, and Uncompressed's, which has no control."""
        same = index and index == own.against(index) and not math.isnan(own.change(index).value)
        return "" if index == 0 else "reference" if same else None

    first = "reference" if own.results.finished() else None
    columns = [
        *change_columns("vs. Uncompressed", own.change, lambda index: first if index == 0 else None),
        *change_columns(f"vs. {own.control}", own.difference, against),
        WordColumn(
            TableColumn("verdict", f"vs. {own.control}"),
            lambda index: TableCell(verdict(own.difference(index)) if against(index) is None else ""),
        ),
        *(cost_column(own, name) for name in COSTS),
    ]
    title = f"{own.title}: methods at equal {own.kind.equal}, {own.results.title}"
    return TableSpec(title, HEAD, own.rows, columns, _notes(own, own.control)).numbers()


def verdict(change: Estimate) -> str:
    """What an interval says."""
    if math.isnan(change.low):
        return NA
    return "above" if change.low > 0 else "below" if change.high < 0 else "no difference shown"


def reached_table(own: CostComparison) -> Table:
    """With which parameters the methods are at the budgets, benchmark by benchmark, and what they then hold."""

    def reached(name: str, at: int) -> TableCell:
        match, (budget, one) = own.match(at + 1, name), own.places[at]
        if match is None or match.params is None:
            return TableCell()
        held, full = math.nan if match.held is None else match.held, own.matches[name].full(own.kind.name)
        how = own.setting(at + 1, [name]) if budget in one.official or one.search else "every sample"
        return TableCell(how, own.kind.amount(held, full))

    rows = [
        TableRow.of(shown(budget), method_style(one.name).label, one.setting, rule=one is own.equal.contenders[0])
        for budget, one in own.places
    ]
    said = (
        f"In parentheses: {MEASURED[own.kind.name]} Every sample: the method follows a count and holds the budget of "
        "each prompt exactly. Others: the parameter under which the mean over the benchmark's prompts agrees with that "
        f"within {own.equal.tolerance:.1%}, found on prefills alone.",
    )
    columns = [WordColumn(TableColumn(name), partial(reached, name)) for name in own.matches]
    return TableSpec(f"{own.title}: how each budget was reached", HEAD, rows, columns, said).numbers()


def contrasts(own: CostComparison, random: bool) -> list[Contrast]:
    """Every row against Uncompressed, or against the control at its budget."""
    found: list[Contrast] = []
    for index, (budget, one) in enumerate(own.places, start=1):
        base = own.against(index) if random else 0
        if base != index:
            label = f"{own.results.rows[index].label} {one.setting}".strip()
            first = not found or found[-1].names[0] != shown(budget)
            found.append(Contrast(index, base, (shown(budget), label), rule=first))
    return found


def _notes(own: CostComparison, random: str) -> list[str]:
    results, parts = own.results, [own.results]
    over: dict[tuple[str, ...], list[str]] = {}
    for budget in own.equal.budgets:
        at = own.places.index((budget, own.equal.contenders[0])) + 1
        over.setdefault(tuple(own.benchmarks(at)), []).append(shown(budget))
    listed = "; ".join(f"{', '.join(at)}: {', '.join(names) or 'none'}" for names, at in over.items())
    options = results.options
    found = [
        BUDGETS[own.kind.name, is_count(own.equal.budgets[0])],
        f"All methods of a budget take the same {own.kind.same}, as measured; the table of how each budget was reached "
        "says how each was brought there.",
        f"Changes: unweighted mean over the score columns of the change relative to Uncompressed, and to {random} at "
        f"the same {own.kind.same}, with {options.confidence:.0%} intervals: both rows are drawn on the same samples "
        f"in each of {options.resamples:,} resamples. Above, below: the interval lies wholly above or below 0. The "
        "intervals are not widened for their number: of twenty comparisons of equals about one looks different.",
        f"Averages of a budget run over the benchmarks on which {random} reaches it ({listed}); a method that misses "
        "one of them is n/a.",
        notes.scores(parts),
        "Vision tokens entering: those that come into attention in the prefill, mean over layers, samples, then "
        "benchmarks. Tokens attended: prompt tokens that a decode step reads, mean over layers, heads, samples, then "
        "benchmarks. Prefill GFLOPs: of the decoder's layers over the tokens that came into each, by FastV's count "
        "(4nd² + 2n²d + 2ndm), mean over samples, then benchmarks; vision encoder and scoring are not in it. Prefill "
        "and decode times: medians over samples, mean over benchmarks.",
        *cost_columns.times(parts, own.profile),
        *_missed(own),
    ]
    if unequal := own.unequal():
        said = (
            f"{results.label(row)} on {name}: {held:.2%} of the {own.kind.same}"
            for (row, name), held in unequal.items()
        )
        found.append(f"Not at equal {own.kind.same}, do not compare: {'; '.join(said)}.")
    front = [] if "scores" in own.sheets else [notes.profile(own.profile, several=False)]  # said there
    return notes.framed(parts, front, found)


def _missed(own: CostComparison) -> list[str]:
    """Which budgets cannot be reached and why; what has the same reason together, and benchmarks with the same ones."""
    said: dict[str, dict[str, tuple[dict[str, None], dict[str, None]]]] = {}
    for index, (budget, one) in enumerate(own.places, start=1):
        for name in own.matches:
            match = own.match(index, name)
            if match is not None and match.params is None:
                budgets, labels = said.setdefault(name, {}).setdefault(match.missing, ({}, {}))
                budgets[shown(budget)] = labels[f"{own.results.rows[index].label} {one.setting}".strip()] = None
    alike: dict[str, list[str]] = {}
    for name, reasons in said.items():
        parts = [f"{', '.join(labels)} at {', '.join(at)}: {why}" for why, (at, labels) in reasons.items()]
        alike.setdefault("; ".join(parts), []).append(name)
    return [f"Not reached on {', '.join(names)}: {reasons}." for reasons, names in alike.items()]


def control_table(own: CostComparison) -> Table:
    """Every score against the control at the same cost."""
    found = contrasts(own, random=True)
    said = [tally(own.results, found)] if found else []
    title = f"{own.title}: each score against {own.control} at the same {own.kind.same}"
    remarks = [*said, "Average: over all score columns of the table; n/a where one cannot be had."]
    return contrast_table(own.results, title, ("Budget", "Method"), found, remarks)


def none_table(own: CostComparison) -> Table:
    """Every score against Uncompressed."""
    title = f"{own.title}: each score against Uncompressed"
    return contrast_table(own.results, title, ("Budget", "Method"), contrasts(own, random=False))
