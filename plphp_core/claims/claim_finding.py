"""A claim of the paper, what was measured for it, and what the rule says; how its numbers are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from plphp_core.analysis.bootstrap import MISSING, Estimate
from plphp_core.claims.claim_evidence import ClaimEvidence, Place
from plphp_core.claims.verdict import RuleOutcome, Verdict
from plphp_core.reporting.published import Claim
from plphp_core.reporting.table_model import NA, bounds, number

if TYPE_CHECKING:
    from plphp_core.claims.claim_rules import ClaimRule

PERCENT, SAVED, TOKENS, POINTS, ORDER = "percent", "percent_saved", "decoded_tokens", "points", "order"
WORDS = {TOKENS: " tokens", POINTS: " points"}  # of units that are words; others are %


@dataclass(frozen=True, eq=False)
class ClaimPart:
    """One of the numbers that a claim is about. `outcome`: what the rule says of it; None where it is not asked."""

    name: str
    estimate: Estimate
    unit: str = PERCENT
    outcome: RuleOutcome | None = None

    @property
    def text(self) -> str:
        return written(self.estimate.value, self.unit)

    @property
    def interval(self) -> str:
        return written_interval(self.estimate, self.unit)


@dataclass(frozen=True, eq=False)
class ClaimMeasurement:
    """The parts of a claim, where they were measured, and what a reader should know beside them (full sentences).

    gap: why parts have no number although their cells are finished.
    """

    parts: Sequence[ClaimPart]
    places: Sequence[Place]
    remarks: Sequence[str] = ()
    gap: str = "a reference score of 0, or cells without this measurement"


@dataclass(frozen=True, eq=False)
class ClaimFinding:
    """A claim of the paper and what was found; all that the ledger's files and the page show of it.

    label: "" on the paper's profile with trained weights; otherwise what the numbers come from, such as "toy".
    outcome: what the rule says of the numbers, whatever they come from; None where they are not judged.
    run: the command that brings what is missing.
    """

    claim: Claim
    rule: ClaimRule | None
    label: str
    verdict: Verdict
    outcome: RuleOutcome | None
    why: str
    run: str
    parts: Sequence[ClaimPart] = ()
    evidence: ClaimEvidence = field(default_factory=ClaimEvidence)
    remarks: Sequence[str] = ()

    @property
    def ours(self) -> Estimate:
        """Of claims about one number; MISSING otherwise."""
        return self.parts[0].estimate if self.claim.value is not None and len(self.parts) == 1 else MISSING

    @property
    def difference(self) -> Estimate:
        """Ours − published, in the unit of the claim."""
        ours, by = self.ours, self.claim.value or 0.0
        return Estimate(ours.value - by, ours.replicates - by, ours.low - by, ours.high - by)

    @property
    def statement(self) -> str:
        """What must hold for the claim, in words; empty without a rule."""
        return self.rule.words(self.claim) if self.rule else ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Tables and figures that the claim rests on."""
        return self.rule.sources if self.rule else ()

    @property
    def total(self) -> int:
        """Documents over all benchmarks."""
        return sum(self.evidence.n.values())

    @property
    def published_text(self) -> str:
        """The number; of a claim without one in how many parts it must hold."""
        if self.claim.unit != ORDER:
            return written(self.claim.value, self.claim.unit)
        needed = self.rule.needed if self.rule else None
        return "every part" if needed is None else f"at least {needed} parts"

    @property
    def ours_text(self) -> str:
        """The number, or of a claim without one in how many parts the rule finds what is claimed."""
        if self.claim.unit != ORDER:
            return written(self.ours.value, self.claim.unit)
        if not self.parts:
            return NA
        judged = f"{self.count(RuleOutcome.AS_CLAIMED)} of {len(self.parts)}"
        return f"{len(self.parts)} parts, not judged" if self.outcome is None else judged

    @property
    def interval_text(self) -> str:
        """Of the number; empty for a claim without one."""
        return "" if self.claim.unit == ORDER else written_interval(self.ours, self.claim.unit)

    @property
    def difference_text(self) -> str:
        """Ours − published, with a sign also where numbers have none; empty for a claim without a number."""
        unit = "points" if self.claim.unit in (PERCENT, SAVED) else self.claim.unit
        return "" if self.claim.unit == ORDER else written(self.difference.value, unit)

    def count(self, outcome: RuleOutcome) -> int:
        """In how many parts the rule says so."""
        return sum(part.outcome is outcome for part in self.parts)


def counts(findings: Sequence[ClaimFinding]) -> Mapping[Verdict, int]:
    """Verdict → number of claims, in the order of Verdict."""
    return {verdict: sum(one.verdict is verdict for one in findings) for verdict in Verdict}


def headline(findings: Sequence[ClaimFinding]) -> tuple[str, str]:
    """Did the paper reproduce? The answer in a few words, and its evidence in a sentence."""
    found, total = counts(findings), len(findings)
    yes, no = found[Verdict.REPRODUCED], found[Verdict.CONTRADICTED]
    labels = dict.fromkeys(one.label for one in findings if one.verdict is not Verdict.NOT_MEASURED)
    evidence = f"{yes + no} of {total} claims reproduced or contradicted."
    if found[Verdict.NOT_MEASURED] == total:
        return "Not measured", f"Nothing is known of any of the {total} claims."
    if not yes + no:
        others = [f"{count} {verdict}" for verdict, count in found.items() if count]
        label = next(iter(labels))
        plain = "the numbers leave it open" if found[Verdict.INCONCLUSIVE] else "measured under other conditions"
        reason = {"": plain, "toy": "toy models"}.get(label, label)
        return f"Not decided: {reason}", evidence if "toy" in labels else f"{evidence} {', '.join(others)}."
    if not no:
        every = yes == total
        return ("Reproduced" if every else "Reproduced so far"), f"{yes} of {total} claims, none contradicted."
    return ("In part" if yes else "Contradicted"), f"{yes} of {total} claims reproduced, {no} contradicted."


def written(value: float | None, unit: str) -> str:
    """A number in its unit, as text; n/a for None and nan."""
    return NA if value is None or math.isnan(value) else _plain(value, unit) + WORDS.get(unit, "")


def written_interval(one: Estimate, unit: str) -> str:
    """An interval as "[low, high]"; n/a unless both ends are known. A unit that is a word stands behind the bracket."""
    text = bounds(one.low, one.high, partial(_plain, unit=unit))
    return text if text == NA else text + WORDS.get(unit, "")


def _plain(value: float, unit: str) -> str:
    """Without a unit that is a word."""
    return number(value, 3 if unit == TOKENS else 2, signed=unit not in (SAVED, TOKENS)) + "%" * (unit not in WORDS)
