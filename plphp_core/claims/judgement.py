"""From what was measured to a finding: which verdict, why in words, and what to type for what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from plphp_core.claims.claim_evidence import FEWEST, ClaimEvidence, other_models, other_protocol, other_times
from plphp_core.claims.claim_finding import ClaimFinding, ClaimPart
from plphp_core.claims.claim_rules import ALL, RULES, ClaimRule
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.claims.verdict import RuleOutcome, Verdict, outcomes, overall
from plphp_core.config.equal_cost import AGAINST, NONE
from plphp_core.config.report_settings import MODEL
from plphp_core.config.run_settings import PROTOCOL_PROMPTS
from plphp_core.records.errors import ReportError
from plphp_core.reporting.published import Claim, load_claims
from plphp_core.reporting.request import ReportRequest

DECIDED = {
    RuleOutcome.AS_CLAIMED: (Verdict.REPRODUCED, "lies wholly within"),
    RuleOutcome.NOT_AS_CLAIMED: (Verdict.CONTRADICTED, "lies wholly outside of"),
    RuleOutcome.UNDECIDED: (Verdict.INCONCLUSIVE, "reaches across the border of"),
}
ENOUGH = "100"  # samples per benchmark of Figure 1, which reads only some unless it is told otherwise


def findings(asked: ReportRequest) -> list[ClaimFinding]:
    """One per claim in claims.yaml, in its order. A claim whose cells are missing or ambiguous is not measured.

    Raises ReportError if the claims themselves cannot be read.
    """
    return judged(((claim, RULES.get(claim.id)) for claim in load_claims(asked.options.published)), asked)


def judged(claims: Iterable[tuple[Claim, ClaimRule | None]], asked: ReportRequest) -> list[ClaimFinding]:
    """One finding per claim. A claim whose cells are missing or ambiguous, or that has no rule, is not measured."""
    claims, found = list(claims), []
    sources = ClaimSources(asked, (name for _, rule in claims if rule is not None for name in rule.methods))
    for claim, rule in claims:
        run, label = "", "" if asked.profile == "paper" else asked.profile
        try:
            if rule is None:
                raise ReportError("there is no rule for this claim")
            run = reproduce_command(rule, sources, {}, subset=True)
            found.append(judge(claim, rule, sources))
        except ReportError as error:
            why = (
                f"Nothing to judge: {str(error).splitlines()[0].rstrip(':;. ')}."  # files that it lists are no sentence
            )
            run = "" if "choose with" in why else run  # more runs do not help an ambiguous choice
            found.append(ClaimFinding(claim, rule, label, Verdict.NOT_MEASURED, None, why, run))
    return found


def judge(claim: Claim, rule: ClaimRule, sources: ClaimSources) -> ClaimFinding:
    """The claim measured and judged; NOT_MEASURED if its finished cells give no number.

    Raises ReportError if the cells are missing or ambiguous.
    """
    measured, asked = rule.measure(sources), sources.asked
    parts, evidence = measured.parts, ClaimEvidence.of(measured.places)
    shortfalls = evidence.shortfalls()
    label = asked.profile if asked.profile != "paper" else "random weights" if evidence.untrained else ""
    enough = all(count >= FEWEST for count in evidence.n.values())
    run = reproduce_command(rule, sources, evidence.facts, subset=bool(evidence.missing) and enough)
    remarks = tuple(dict.fromkeys(measured.remarks))

    def finding(verdict: Verdict, why: str, outcome: RuleOutcome | None = None) -> ClaimFinding:
        return ClaimFinding(claim, rule, label, verdict, outcome, why, run, parts, evidence, remarks)

    if all(math.isnan(part.estimate.value) for part in parts):
        return finding(Verdict.NOT_MEASURED, f"No number: {'; '.join(shortfalls) or measured.gap}.")
    apart = [other_times(evidence)] if rule.timed else []
    apart += [] if label else [other_models(evidence, sources.checkpoints(rule.models)), other_protocol(evidence)]
    if any(apart):
        reasons = "; ".join(filter(None, apart))
        why = f"{reasons[0].upper()}{reasons[1:]}. The value is shown and not judged."
        return finding(Verdict.NOT_COMPARABLE, why)
    decided = outcomes([part.estimate for part in parts], rule.statement(claim), rule.needed)
    parts = [replace(part, outcome=one) for part, one in zip(parts, decided, strict=True)]
    outcome = RuleOutcome.UNDECIDED if shortfalls else overall(decided, rule.needed)
    said = [_numbers(claim, rule, parts)]
    if shortfalls:
        said.append(f"Too little to decide: {'; '.join(shortfalls)}.")
    elif outcome is RuleOutcome.UNDECIDED:
        whole = evidence.facts.get("limit") == ("null",)
        said.append("All samples there are were asked." if whole else "More samples narrow the interval.")
    verdict = Verdict.INCONCLUSIVE if label else DECIDED[outcome][0]
    return finding(verdict, " ".join(filter(None, said)), outcome)


def reproduce_command(rule: ClaimRule, sources: ClaimSources, facts: Mapping[str, Sequence[str]], subset: bool) -> str:
    """The make command for what a claim rests on, under the conditions of the cells there are, else those asked for;
    of a comparison at equal bytes one per model, with the claim's methods alone.

    Args:
        facts: those of the evidence; those with one value win over what was asked for.
        subset: whether the same subset will do; otherwise all samples are asked for.
    """
    asked, table = sources.asked, rule.sources[0]
    fields = ("protocol", "prompts", "engine", "limit")
    known = {name: getattr(asked.filters, name) if asked.filters.given(name) else None for name in fields}
    known |= {name: facts[name][0] for name in known if len(facts.get(name, ())) == 1}
    known["profile"] = asked.profile
    if not subset:
        known["limit"] = ENOUGH if table == "figure1" and facts else None
    protocol = known["protocol"] or "lmms_eval"
    usual = {"profile": "paper", "protocol": "lmms_eval", "prompts": PROTOCOL_PROMPTS.get(protocol),
             "engine": "generate", "model": MODEL, "limit": "null"}  # fmt: skip
    own = [MODEL] if table in ("table3", "figure1") else [asked.options.model]  # these are about several
    target, more = f"make reproduce-{table}", []
    if rule.methods:
        own, target = sources.compared_models(rule.models), "make compare"
        more = [f"ARGS='table.methods=[{','.join(dict.fromkeys((NONE, AGAINST, *rule.methods)))}]'"]
    lines = []
    for known["model"] in own:
        words = [f"{name.upper()}={known[name]}" for name in usual if known[name] not in (None, usual[name])]
        lines.append(" ".join([target, *words, *more]))
    return " && ".join(lines)


def _numbers(claim: Claim, rule: ClaimRule, parts: Sequence[ClaimPart]) -> str:
    """The numbers against the statement, and what was decided of each part."""
    if len(parts) > 1:
        others = (RuleOutcome.NOT_AS_CLAIMED, RuleOutcome.UNDECIDED)  # how many are as claimed is what is measured
        found = ((sum(part.outcome is one for part in parts), one) for one in others)
        counts = " and ".join(f"{count} {one}" for count, one in found)
        wanted = "all" if rule.needed is ALL else f"at least {rule.needed}"
        gaps = [part.name for part in parts if math.isnan(part.estimate.low)]
        without = f" Without an interval: {', '.join(gaps)}." if gaps else ""
        return f"Of the other parts {counts}; the claim needs {wanted} of {len(parts)}.{without}"
    (part,) = parts
    if math.isnan(part.estimate.low) or part.outcome is None:
        return "There is no interval: too few samples, or a reference score of 0 in a resample."
    return f"The interval {DECIDED[part.outcome][1]} {rule.bound(claim)}."
