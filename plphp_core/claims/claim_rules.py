"""What each claim is measured by and when it holds. docs/claims.md gives the reasons for the tolerances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from plphp_core.analysis.attention_peaks import RISE
from plphp_core.claims import claim_measures as measures
from plphp_core.claims.claim_finding import ClaimMeasurement, written
from plphp_core.claims.claim_sources import LLAVA, MULTI_IMAGE, ClaimSources
from plphp_core.claims.equal_retention import as_good
from plphp_core.claims.verdict import Statement
from plphp_core.records.errors import ReportError
from plphp_core.reporting.attention_results import MODELS
from plphp_core.reporting.published import Claim

ALL = None  # every part is needed
# of claims without a number: what their quantities are compared with; the border itself decides nothing
OF_ORDER = {"more than 0": 0.0, "at least 0": 0.0, "at least 5 points": 100 * RISE}


@dataclass(frozen=True)
class ClaimRule:
    """How a claim is judged.

    measure: gives its parts; raises ReportError where that is impossible.
    statistic: what they are, in words.
    sources: tables and figures it rests on; `make reproduce-<first>` measures it.
    kind: "at least" or "at most" the published number; one of OF_ORDER for claims without one.
    tolerance: in the unit of the claim, in the paper's favour.
    needed: how many parts must hold; ALL for every one.
    timed: whether it is about time, which depends on the hardware.
    models: those the claim is about.
    methods: those that a claim of order at equal bytes is about; its only source is table=compare.
    """

    measure: Callable[[ClaimSources], ClaimMeasurement]
    statistic: str
    sources: tuple[str, ...]
    kind: str = "at least"
    tolerance: float = 0.0
    needed: int | None = ALL
    timed: bool = False
    models: tuple[str, ...] = LLAVA
    methods: tuple[str, ...] = ()

    def statement(self, claim: Claim) -> Statement:
        """Raises ReportError for a claim without the number that the rule compares with."""
        if self.kind in OF_ORDER:
            return Statement(low=OF_ORDER[self.kind])
        if claim.value is None:
            raise ReportError(f"claims.yaml gives no value for {claim.id}, which is compared with one")
        if self.kind == "at least":
            return Statement(low=claim.value - self.tolerance)
        return Statement(high=claim.value + self.tolerance)

    def bound(self, claim: Claim) -> str:
        """What the rule compares with, tolerance included, as in "at least −1.46%"."""
        if self.kind in OF_ORDER:
            return self.kind
        held = self.statement(claim)
        return f"{self.kind} {written(held.low if self.kind == 'at least' else held.high, claim.unit)}"

    def words(self, claim: Claim) -> str:
        """The statement as a reader sees it; empty for a claim without the number that it needs."""
        if self.kind in OF_ORDER:
            return f"{self.kind} in {'every part' if self.needed is ALL else f'at least {self.needed} of the parts'}"
        if claim.value is None:
            return ""
        paper = f" (the paper's {written(claim.value, claim.unit)}, tolerance {self.tolerance:g})"
        return self.bound(claim) + paper * bool(self.tolerance)


AVERAGE = "average over the score columns of the change relative to Uncompressed"
DEFAULTS = f"PLPHP at its defaults: {AVERAGE}"
ABOVE = (
    "PLPHP at its defaults: average over the score columns of the change relative to a setting of {0}, mean over {0}'s "
    "settings"
)
ON_EACH = "benchmark: change relative to Uncompressed, mean over the benchmark's score columns"
DECODE_SAVED = "share of the median decode time per token that {} saves"
KV_SAVED = "share of the prompt's KV bytes that {} saves"
KV_AVERAGE = "share of the prompt's KV bytes saved, mean over benchmarks"
LOWEST = "the lowest r of Table 5"
TABLE1, TABLE3, TABLE5 = ("table1",), ("table3",), ("table5",)
QWEN, OTHERS = ("qwen2_vl",), ("idefics2", "mantis")
FASTV, VTW = (partial(measures.above, rival=name) for name in ("fastv", "vtw"))
C4 = partial(measures.average_change, benchmarks=MULTI_IMAGE)
C5, C6, C7A, C7B = (partial(measures.cost_saved, claim=name) for name in ("C5", "C6", "C7a", "C7b"))
C9A, C10B = (partial(measures.on_each, models=models) for models in (QWEN, OTHERS))
C9B = partial(measures.average_change, models=QWEN)
C9C, C10A = (partial(measures.kv_saved, models=models) for models in (QWEN, OTHERS))
C8_IS = "median over samples of what PLPHP adds to the prefill, over the sample's uncompressed decode time per token"
C11_IS = "per benchmark: change from Δr = 0 to Δr > 0 at the same r, mean over all such pairs and the score columns"
C12_IS = (
    "for α and for β, mean over the steps to the next higher value with the other one held: vision tokens pruned in "
    "addition (points, mean over benchmarks) and average score lost (percent)"
)
C13_IS = (
    "per rival and benchmark: change from the rival's score, interpolated linearly between its settings at the vision "
    "kept by PLPHP, to PLPHP's; mean over PLPHP's settings and the score columns"
)
C14_IS = (
    "per model, γ as mean over benchmarks of means over samples: how much of a fall from an earlier layer it wins back "
    "in a layer beyond the first third, in points of all attention; the largest such rebound"
)
GAIN, NO_LOSS, RISES = OF_ORDER

RULES = {
    "C1": ClaimRule(measures.average_change, DEFAULTS, TABLE1, tolerance=1.0),
    "C2": ClaimRule(FASTV, ABOVE.format("FastV"), TABLE1, tolerance=2.3),
    "C3": ClaimRule(VTW, ABOVE.format("VTW"), TABLE1, tolerance=9.7),
    "C4": ClaimRule(C4, f"PLPHP at its defaults on SD, IE, VST and MV: {AVERAGE}", TABLE1, tolerance=0.51),
    "C5": ClaimRule(C5, DECODE_SAVED.format("r = 0.4"), TABLE5, tolerance=3.0, timed=True),
    "C6": ClaimRule(C6, KV_SAVED.format("r = 0.4"), TABLE5, tolerance=2.0),
    "C7a": ClaimRule(C7A, DECODE_SAVED.format(LOWEST), TABLE5, tolerance=3.5, timed=True),
    "C7b": ClaimRule(C7B, KV_SAVED.format(LOWEST), TABLE5, tolerance=2.0),
    "C8": ClaimRule(measures.prefill_cost, C8_IS, TABLE5, "at most", timed=True),
    "C9a": ClaimRule(C9A, f"per {ON_EACH}", TABLE3, GAIN, models=QWEN),
    "C9b": ClaimRule(C9B, DEFAULTS, TABLE3, tolerance=1.0, models=QWEN),
    "C9c": ClaimRule(C9C, KV_AVERAGE, TABLE3, tolerance=2.0, models=QWEN),
    "C10a": ClaimRule(C10A, f"{KV_AVERAGE}, then over the two models", TABLE3, tolerance=2.0, models=OTHERS),
    "C10b": ClaimRule(C10B, f"per model and {ON_EACH}", TABLE3, GAIN, needed=2, models=OTHERS),
    "C11": ClaimRule(measures.delta_r, C11_IS, ("figure6",), GAIN),
    "C12": ClaimRule(measures.thresholds, C12_IS, ("table2",), GAIN),
    "C13": ClaimRule(as_good, C13_IS, ("figure5", "table1"), NO_LOSS),
    "C14": ClaimRule(measures.rises_again, C14_IS, ("figure1",), RISES, models=MODELS),
}
