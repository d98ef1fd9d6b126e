"""What claims of third parties are measured by: methods against each other at the same measured bytes."""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.analysis.bootstrap import MISSING, Estimate, average, scaled
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import NothingToShow, Results
from plphp_core.claims.claim_evidence import Place, places
from plphp_core.claims.claim_finding import ClaimMeasurement, ClaimPart
from plphp_core.claims.claim_sources import ClaimSources, shared
from plphp_core.config.equal_cost import shown as shown_budget
from plphp_core.records.errors import ReportError
from plphp_core.reporting.cost_comparison import CostComparison

BUDGETS, METHODS = "budgets", "methods"  # what the parts of a claim are


def order(
    sources: ClaimSources, better: str, worse: Sequence[str], models: Sequence[str], parts: str
) -> ClaimMeasurement:
    """The change from each of `worse` to `better` at every budget that both reach, mean over the score columns of the
    benchmarks where they do.

    Args:
        models: those the claim is about; off the paper's profile the model that is asked for stands for them.
        parts: BUDGETS: one per model, budget and rival; METHODS: one per rival, mean over models and budgets.
    Raises:
        ReportError: nothing is measured at equal bytes, or no budget is reached by both.
    """
    models = sources.compared_models(models)
    found: dict[str, dict[str, Estimate]] = {rival: {} for rival in worse}
    rests: list[Place] = []
    remarks: list[str] = []
    missing: list[NothingToShow] = []
    for model in models:
        try:
            shown = sources.compared(model)
        except NothingToShow as error:
            missing.append(error)
            rests.append(Place(Results(model, (), sources.asked.choices, ()).title, "", "", None))
            continue
        title = shown.results.title
        for rival in worse:
            for budget in shown.equal.budgets:
                change, own, said = _at(shown, budget, better, rival, several=len(models) > 1)
                rests += own
                remarks += said
                if own:
                    found[rival][f"{title} at {shown_budget(budget)} of the KV bytes"] = change
    if len(missing) == len(models):
        raise missing[0]
    if not any(found.values()):
        raise ReportError(". ".join(remarks) or "no budget is reached by both")
    if parts == METHODS:
        named = {method_style(rival).label: average(list(own.values())) for rival, own in found.items()}
    else:
        named = {place: change for own in found.values() for place, change in own.items()}
    return ClaimMeasurement([ClaimPart(name, scaled(one, 100)) for name, one in named.items()], rests, remarks)


def _at(
    shown: CostComparison, budget: float, better: str, worse: str, several: bool
) -> tuple[Estimate, list[Place], list[str]]:
    """The change at one budget, where it is measured (nothing where one of the two cannot have the budget), and what to
    say of that."""
    results, title = shown.results, shown.results.title
    rows = [shown.row(budget, name) for name in (better, worse)]
    unknown = [method_style(name).label for name, row in zip((better, worse), rows, strict=True) if row is None]
    if unknown:  # no such method here, or none that a budget can be had of
        return MISSING, [Place(title if several else "", name, "", None) for name in unknown], []
    pair = [row for row in rows if row is not None]
    wanted, remarks = list(results.benchmarks), []
    for row in pair:
        beyond = [name for name in wanted if not shown.reached(row, name)]
        wanted = [name for name in wanted if name not in beyond]
        if beyond:
            remarks.append(f"{title}: {results.label(row)} cannot be had on {', '.join(beyond)}.")
    unequal = shown.unequal()
    apart = [name for name in wanted if any((row, name) in unequal for row in pair)]
    if apart:
        remarks.append(f"{title} at {shown_budget(budget)}: left out, as not at equal bytes: {', '.join(apart)}.")
    both = [name for name in shared(results, pair, wanted) if name not in apart]
    change = results.average_change(pair[0], both, pair[1]) if both else MISSING
    return change, places(results, pair, wanted, several), remarks
