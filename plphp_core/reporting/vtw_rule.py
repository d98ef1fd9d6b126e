"""What VTW's own rule says of its K for a model: the file that `scripts/choose_vtw_k.py` writes, and Table 1's note."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from plphp_core.analysis.results import Results
from plphp_core.records.errors import ReportError

SCHEMA = 1


@dataclass(frozen=True)
class DepthRule:
    """The rule of arXiv 2405.05803: the first K with mean KL(P_vtw ‖ P_full) ≤ `eta` nats over `samples` prompts.

    divergence: K → mean KL in nats; chosen: None if no K is below. revision: identity of the weights.
    """

    model: str
    checkpoint: str
    revision: str
    dtype: str
    prompts: str
    benchmarks: tuple[str, ...]
    samples: int
    seed: int
    eta: float
    divergence: dict[int, float]
    chosen: int | None

    def text(self) -> str:
        """The content of its file."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


def path(results: Path, profile: str, model: str) -> Path:
    """Where the rule's result for a model lies."""
    return results / profile / f"vtw_k.{model}.json"


def load_rule(file: Path) -> DepthRule | None:
    """The result in `file`; None if nobody asked. Raises ReportError for a damaged file."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw.pop("schema") != SCHEMA:
            raise ValueError(f"another schema than {SCHEMA}")
        divergence = {int(K): float(nats) for K, nats in raw.pop("divergence").items()}
        if not divergence or not all(map(math.isfinite, divergence.values())):
            raise ValueError("divergence needs numbers")
        return DepthRule(**raw | {"benchmarks": tuple(raw["benchmarks"]), "divergence": divergence})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{file}: {error}; delete it, or run scripts/choose_vtw_k.py again") from error


def note(rule: DepthRule | None, results: Results) -> list[str]:
    """What the rule chooses and what it says of the K in the table; nothing without a result."""
    if rule is None:
        return []
    ours = next(iter(results.cells.values()))
    if (rule.model, rule.revision) != (results.model, ours.revision):
        return ["VTW's own rule was applied to other weights than this table's: scripts/choose_vtw_k.py does it again."]
    tabulated = dict.fromkeys(row.params.get("K") for row in results.rows if row.method == "vtw")
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
