"""C14: attention to vision rises again in deep layers (Figure 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plphp_core.analysis.attention_peaks import DEEP, peaks, rebound
from plphp_core.analysis.bootstrap import MISSING, Estimate, scaled
from plphp_core.claims.claim_evidence import FACTS, FAILED, ClaimEvidence, Measured, Quantity, distinct
from plphp_core.claims.claim_finding import POINTS
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.config.benchmark_catalogue import CONFIGS
from plphp_core.families import get_family
from plphp_core.records.errors import ReportError
from plphp_core.reporting.attention_results import MODELS, AttentionResult, layer_means
from plphp_core.reporting.configured import benchmarks_configured


def rises_again(sources: ClaimSources) -> Measured:
    """A part per model: the largest rebound of γ, in points of all attention."""
    readings = sources.attention
    if not any(model in readings for model in MODELS):
        raise ReportError("no attention readings of the paper's models")
    parts, marked, evidence = [], [], ClaimEvidence()
    for model in MODELS:
        own, title = readings.get(model, []), get_family(model).title
        gamma = layer_means(own, seed=sources.asked.choices.seed) if own else []
        parts.append(Quantity(title, scaled(largest(gamma), 100), POINTS))
        evidence += of_readings(own) if own else ClaimEvidence(missing=(title,))
        if own:
            layers = ", ".join(str(peak.layer + 1) for peak in peaks(gamma, [one.n for one in own]))
            marked.append(f"{title} {layers or 'none'}")
    return Measured(tuple(parts), evidence, (f"Layers that Figure 1 marks, counted from 1: {'; '.join(marked)}.",))


def largest(gamma: Sequence[Estimate]) -> Estimate:
    """The largest rebound of any layer beyond the first third; MISSING below three layers."""
    deep = range(max(2, math.ceil(DEEP * len(gamma))), len(gamma))
    found = [rebound(gamma, layer).rebound for layer in deep]
    return max(found, key=lambda one: one.value, default=MISSING)


def of_readings(parts: Sequence[AttentionResult]) -> ClaimEvidence:
    """ClaimEvidence of one model's readings."""
    facts = {name: distinct(str(getattr(one, name)) for one in parts) for name in FACTS if hasattr(parts[0], name)}
    facts["limit"] = distinct(_limit(one) for one in parts)
    failed = [one for one in parts if one.errors > FAILED * (one.n + one.errors)]
    absent = [name for name in benchmarks_configured(CONFIGS, "table1") if name not in {one.benchmark for one in parts}]
    return ClaimEvidence(
        missing=tuple(f"{parts[0].title} on {name}" for name in absent),
        n={f"{one.title} {one.benchmark}": one.n for one in parts},
        failed=tuple(f"{one.title} on {one.benchmark}: {one.errors} of {one.n + one.errors}" for one in failed),
        hardware=distinct(name for one in parts for name in one.hardware.split("; ")),
        facts=facts,
        untrained=any(one.checkpoint.endswith(("_random", "-random")) for one in parts),
    )


def _limit(one: AttentionResult) -> str:
    asked = one.n + one.errors
    return "full" if asked >= one.population else f"{asked} of {one.population}"
