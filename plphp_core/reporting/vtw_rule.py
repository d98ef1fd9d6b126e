"""What VTW's own rule says of its K for a model: Table 1's note."""

from __future__ import annotations

from plphp_core.analysis.results import Results
from plphp_core.records.depth_rule import DepthRule


def note(rule: DepthRule | None, results: Results) -> list[str]:
    """What the rule chooses and what it says of the K in the table; nothing without a result."""
    if rule is None:
        return []
    ours = next(iter(results.cells.values()))
    if (rule.model, rule.revision) != (results.model, ours.revision):
        return ["VTW's own rule was applied to other weights than this table's: scripts/choose_vtw_k.py does it again."]
    tabulated = dict.fromkeys(int(row.params["K"]) for row in results.rows if row.method == "vtw")
    known = (f"K={K}: {_nats(rule.divergence[K])}" for K in tabulated if K in rule.divergence)
    rest = f" Of the K in this table: {', '.join(known)} nats." if set(tabulated) & set(rule.divergence) else ""
    where = f"{rule.samples} samples of {', '.join(rule.benchmarks)}; {rule.dtype}"
    if rule.chosen is None:
        lowest = min(rule.divergence, key=rule.divergence.__getitem__)
        said = f"chooses no K: none of {min(rule.divergence)} to {max(rule.divergence)} is below, the nearest is "
        said += f"K={lowest} with {_nats(rule.divergence[lowest])} nats"
    else:
        said = f"chooses K = {rule.chosen} ({_nats(rule.divergence[rule.chosen])} nats)"
    return [
        f"VTW's own rule, the first K whose mean KL(P_vtw to P_full) is at most {rule.eta:g} nats, {said}, on {where}. "
        f"It begins at K = {min(rule.divergence)}.{rest}"
    ]


def _nats(value: float) -> str:
    return f"{value:.2g}" if value else "0"
