"""C14: attention to vision rises again in deep layers (Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plphp_core.families import get_family
from plphp_core.reporting.bootstrap import MISSING, Estimate, scaled, with_interval
from plphp_core.reporting.cells import ReportError
from plphp_core.reporting.claims.evidence import FACTS, FAILED, Evidence, Measured, Quantity, distinct
from plphp_core.reporting.claims.finding import POINTS
from plphp_core.reporting.claims.sources import Sources
from plphp_core.reporting.readings import MODELS, Reading, layer_means
from plphp_core.reporting.reattention import DEEP, peaks


def rises_again(sources: Sources) -> Measured:
    """A part per model: the largest rebound of γ, in points of all attention."""
    readings = sources.attention
    if not any(model in readings for model in MODELS):
        raise ReportError("no attention readings of the paper's models")
    parts, marked, evidence = [], [], Evidence()
    for model in MODELS:
        own, title = readings.get(model, []), get_family(model).title
        gamma = layer_means(own, seed=sources.asked.choices.seed) if own else []
        parts.append(Quantity(title, scaled(rebound(gamma), 100), POINTS))
        evidence += of_readings(own) if own else Evidence(missing=(title,))
        if own:
            layers = ", ".join(str(peak.layer + 1) for peak in peaks(gamma))
            marked.append(f"{title} {layers or 'none'}")
    return Measured(tuple(parts), evidence, (f"Layers that Figure 1 marks, counted from 1: {'; '.join(marked)}.",))


def rebound(gamma: Sequence[Estimate]) -> Estimate:
    """How much of a fall γ wins back in a deep layer, a fraction of all attention; MISSING below three layers.

    The largest min(γ_s − γ_t, γ_l − γ_t) over layers s < t < l, l beyond the first third (`reattention.DEEP`); the
    three layers are chosen on the means and kept in all resamples.
    """
    means = [one.value for one in gamma]
    found = [
        (min(max(means[:valley]) - means[valley], means[deep] - means[valley]), valley, deep)
        for deep in range(2, len(means))
        if deep >= DEEP * len(means)
        for valley in range(1, deep)
    ]
    if not found:
        return MISSING
    value, valley, deep = max(found)
    before = int(np.argmax(means[:valley]))
    low, sides = gamma[valley].replicates, (gamma[before].replicates, gamma[deep].replicates)
    return with_interval(value, np.minimum(*(side - low for side in sides)))


def of_readings(parts: Sequence[Reading]) -> Evidence:
    """Evidence of one model's readings."""
    facts = {name: distinct(str(getattr(one, name)) for one in parts) for name in FACTS if hasattr(parts[0], name)}
    facts["limit"] = distinct(_limit(one) for one in parts)
    failed = [one for one in parts if one.errors > FAILED * (one.n + one.errors)]
    return Evidence(
        n={f"{one.title} {one.benchmark}": one.n for one in parts},
        failed=tuple(f"{one.title} on {one.benchmark}: {one.errors} of {one.n + one.errors}" for one in failed),
        hardware=distinct(name for one in parts for name in one.hardware.split("; ")),
        facts=facts,
        untrained=any(one.checkpoint.endswith(("_random", "-random")) for one in parts),
    )


def _limit(one: Reading) -> str:
    asked = one.n + one.errors
    return "full" if asked >= one.population else f"{asked} of {one.population}"
