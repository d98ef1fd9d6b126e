"""From what was measured to a finding: which verdict, and why in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from plphp_core.claims.claim_evidence import FEWEST, ClaimEvidence, Measured, distinct
from plphp_core.claims.claim_finding import ClaimFinding, Part, Range, span, written
from plphp_core.claims.claim_rules import ALL, ClaimRule
from plphp_core.claims.paper_conditions import comparable, other_models, other_protocol
from plphp_core.claims.reproduce_command import Command
from plphp_core.claims.verdict import Outcome, Verdict, outcomes, overall
from plphp_core.reporting.published import Claim

DECIDED = {
    Outcome.AS_CLAIMED: Verdict.REPRODUCED,
    Outcome.NOT_AS_CLAIMED: Verdict.CONTRADICTED,
    Outcome.UNDECIDED: Verdict.INCONCLUSIVE,
}
PLACES = {
    Outcome.AS_CLAIMED: "lies wholly within",
    Outcome.NOT_AS_CLAIMED: "lies wholly outside of",
    Outcome.UNDECIDED: "reaches across the border of",
}


def judge(
    claim: Claim, rule: ClaimRule, measured: Measured, profile: str, checkpoints: Mapping[str, str], command: Command
) -> ClaimFinding:
    """A claim that has at least one finished cell; NOT_MEASURED all the same if that gives no number.

    Args:
        checkpoints: model → the checkpoint that the configuration of the paper's profile names.
    """
    evidence, shortfalls = measured.evidence, measured.evidence.shortfalls()
    label = profile if profile != "paper" else "random weights" if evidence.untrained else ""
    enough = all(count >= FEWEST for count in evidence.n.values())
    run = command.text(rule.sources[0], evidence.facts, subset=bool(evidence.missing) and enough)
    todo = f"Run: {run}"

    def found(verdict: Verdict, outcome: Outcome | None, why: str, decided: Sequence[Outcome] = ()) -> ClaimFinding:
        return _finding(claim, rule, measured, label, verdict, outcome, why, run, decided)

    if all(math.isnan(part.estimate.value) for part in measured.parts):
        gaps = "; ".join(shortfalls) or measured.gap
        return found(Verdict.NOT_MEASURED, None, f"No number: {gaps}. {todo}")
    apart = [comparable(evidence)] if rule.timed else []
    apart += [] if label else [other_models(evidence, checkpoints, rule.models), other_protocol(evidence)]
    if any(apart):
        reasons = "; ".join(filter(None, apart))
        return found(
            Verdict.NOT_COMPARABLE, None, f"{reasons[0].upper()}{reasons[1:]}. The value is shown and not judged."
        )
    decided = outcomes([part.estimate for part in measured.parts], rule.statement(claim), rule.needed)
    outcome = Outcome.UNDECIDED if shortfalls else overall(decided, rule.needed)
    why = [_numbers(claim, rule, measured, decided)]
    if shortfalls:
        why.append(f"Too little to decide: {'; '.join(shortfalls)}.")
    elif outcome is Outcome.UNDECIDED:
        whole = evidence.facts.get("limit") == ("full",)
        why.append("All samples there are were asked." if whole else "More samples narrow the interval.")
        todo = "" if whole else todo
    else:
        todo = ""
    if label == "toy":
        why.append(f"The toy says nothing about the paper's models; the rule would call its numbers {outcome}.")
    elif label:
        why.append(f"Not judged ({label}); the rule would call the numbers {outcome}.")
    why += [todo] if todo else []
    return found(Verdict.INCONCLUSIVE if label else DECIDED[outcome], outcome, " ".join(why), decided)


def unmeasured(claim: Claim, rule: ClaimRule | None, profile: str, reason: str, command: Command) -> ClaimFinding:
    """A claim without anything to judge, and why."""
    run = command.text(rule.sources[0], {}, subset=True) if rule else ""
    label = "" if profile == "paper" else profile
    ambiguous = "choose with" in reason  # more runs would not help
    why = f"{reason} Run: {run}" if run and not ambiguous else reason
    return _finding(claim, rule, Measured((), ClaimEvidence()), label, Verdict.NOT_MEASURED, None, why, run)


def _finding(
    claim: Claim,
    rule: ClaimRule | None,
    measured: Measured,
    label: str,
    verdict: Verdict,
    outcome: Outcome | None,
    why: str,
    run: str,
    decided: Sequence[Outcome] = (),
) -> ClaimFinding:
    evidence = measured.evidence
    marks = decided or [None] * len(measured.parts)
    parts = tuple(
        Part(one.name, one.unit, Range(one.estimate.value, one.estimate.low, one.estimate.high), mark)
        for one, mark in zip(measured.parts, marks, strict=True)
    )
    single = parts[0].ours if claim.value is not None and len(parts) == 1 else Range()
    return ClaimFinding(
        id=claim.id,
        text=claim.text,
        where=claim.where,
        unit=claim.unit,
        published=claim.value,
        statement=rule.words(claim) if rule else "",
        statistic=rule.statistic if rule else "",
        label=label,
        verdict=verdict,
        outcome=outcome,
        ours=single,
        difference=single.minus(claim.value) if claim.value is not None else Range(),
        parts=parts,
        n=dict(evidence.n),
        hardware=evidence.hardware,
        conditions=dict(evidence.facts),
        sources=rule.sources if rule else (),
        why=why,
        remarks=distinct(measured.remarks),
        run=run,
    )


def _numbers(claim: Claim, rule: ClaimRule, measured: Measured, decided: Sequence[Outcome]) -> str:
    """The numbers against the statement."""
    if len(decided) > 1:
        counts = ", ".join(f"{decided.count(one)} {one}" for one in Outcome)
        wanted = "all" if rule.needed is ALL else f"at least {rule.needed}"
        gaps = [part.name for part in measured.parts if math.isnan(part.estimate.low)]
        without = f" Without an interval: {', '.join(gaps)}." if gaps else ""
        return f"Of {len(decided)} parts {counts}; the claim needs {wanted} of them.{without}"
    part = measured.parts[0]
    ours = Range(part.estimate.value, part.estimate.low, part.estimate.high)
    if math.isnan(ours.low):
        said = written(ours.value, part.unit)
        return f"Ours is {said}, without an interval: too few samples, or a reference score of 0 in a resample."
    bound = rule.bound(claim)
    return (
        f"Ours is {written(ours.value, part.unit)}; its interval {span(ours, part.unit)} {PLACES[decided[0]]} {bound}."
    )
