"""What a claim's numbers rest on (samples, failures, gaps, hardware, conditions), and whether that is what the paper's
rest on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np

from plphp_core.analysis.results import Results
from plphp_core.records.attention_result import AttentionResult
from plphp_core.records.cell_result import CellResult, evaluated_alone
from plphp_core.records.errors import shortlist

FEWEST = 30  # documents of a benchmark, below which a bootstrap interval is too narrow to decide anything
FAILED = 0.01  # share of the samples of a cell
FACTS = ("profile", "model", "checkpoint", "revision", "protocol", "prompts", "engine", "limit", "limit_seed", "dtype",
         "batch_size")  # fmt: skip
PAPERS = "one A100 80GB, one sample at a time, transformers' generate"


class Place(NamedTuple):
    """Where a claim needs a result, and the result if it is finished; `model` is empty where the claim is about one."""

    model: str
    row: str
    benchmark: str
    result: CellResult | AttentionResult | None

    @property
    def name(self) -> str:
        return f"{self.model} {self.row}".strip() + (f" on {self.benchmark}" if self.benchmark else "")


def places(results: Results, rows: Sequence[int], benchmarks: Sequence[str], several: bool = False) -> list[Place]:
    """Those of these rows of a table; `several`: names carry the model."""
    model = results.title if several else ""
    return [Place(model, results.label(at), name, results.cells.get((at, name))) for name in benchmarks for at in rows]


@dataclass(frozen=True)
class ClaimEvidence:
    """n: benchmark (with its model, where there are several) → documents that every row needed answered.

    failed: results with more than FAILED of their samples failed; missing: places without a finished one; facts: FACTS
    → every value there is, in order; untrained: whether a model's weights are random; undefined: benchmarks without
    CIDEr, as a single document was scored.
    """

    n: Mapping[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    untrained: bool = False
    undefined: tuple[str, ...] = ()

    @classmethod
    def of(cls, places: Sequence[Place]) -> ClaimEvidence:
        """What results rest on."""
        found = [(one, one.result) for one in places if one.result is not None]
        documents: dict[str, list[np.ndarray]] = {}
        for one, result in found:
            documents.setdefault(f"{one.model} {one.benchmark}".strip(), []).append(result.doc_ids)
        facts = {name: distinct(filter(None, (_fact(result, name) for _, result in found))) for name in FACTS}
        return cls(
            n={name: len(reduce(np.intersect1d, every)) for name, every in documents.items()},
            failed=tuple(
                f"{one.name}: {result.errors} of {result.n + result.errors}"
                for one, result in found
                if result.errors > FAILED * (result.n + result.errors)
            ),
            missing=distinct(one.name for one in places if one.result is None),
            hardware=distinct(name for _, result in found for name in result.hardware.split("; ")),
            facts={name: values for name, values in facts.items() if values},
            untrained=any(Path(result.checkpoint).name.endswith(("_random", "-random")) for _, result in found),
            undefined=distinct(
                f"{one.model} {one.benchmark}".strip()
                for one, result in found
                if isinstance(result, CellResult) and evaluated_alone([result])
            ),
        )

    def shortfalls(self) -> list[str]:
        """Why nothing can be decided, whatever the interval; empty if there is enough."""
        few = [f"{name} {count}" for name, count in self.n.items() if count < FEWEST]
        found = {
            f"fewer than {FEWEST} samples": few,
            "no CIDEr, which a single document does not have": self.undefined,
            "not finished": self.missing,
            f"more than {FAILED:.0%} of the samples failed": self.failed,
        }
        return [f"{reason}: {shortlist(names, 6)}" for reason, names in found.items() if names]


def _fact(one: CellResult | AttentionResult, name: str) -> str:
    """A field as text; empty where there is none: attention results have no engine, whole benchmarks no seed."""
    if one.limit is None and name in ("limit", "limit_seed"):
        return "null" if name == "limit" else ""
    return str(getattr(one, name, ""))


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def other_times(evidence: ClaimEvidence) -> str:
    """Why times cannot be compared with the paper's; empty if they can.

    The paper names one A100 80GB. Its batch size and its loop are not named: transformers' `generate`, one sample at a
    time, is what lmms-eval did then. Any other loop or batch changes how much of the time the cache takes.
    """
    reasons = []
    if len(evidence.hardware) != 1 or not is_the_papers(evidence.hardware[0]):
        reasons.append(f"measured on {', '.join(evidence.hardware)}")
    for name, wanted in (("batch_size", "1"), ("engine", "generate")):
        if evidence.facts[name] != (wanted,):
            reasons.append(f"{name.replace('_', ' ')} {', '.join(evidence.facts[name])}")
    return f"{'; '.join(reasons)}; the paper's: {PAPERS}" if reasons else ""


def is_the_papers(name: str) -> bool:
    """Whether a device's name is that of a whole A100 with 80 GB."""
    return bool(re.search(r"\bA100\b.*\b80 ?GB\b", name, re.IGNORECASE)) and "MIG" not in name.upper()


def other_models(evidence: ClaimEvidence, checkpoints: Mapping[str, str]) -> str:
    """Why the models are not the paper's; empty if they are.

    A checkpoint counts as the configured one if some part of its path is that one's name, or the hub cache's name for
    it: a local copy may lie anywhere, but a name with a suffix (-GPTQ, -base) is another model.

    Args:
        checkpoints: the models that the claim is about → the checkpoint that the configuration names.
    """
    names = [checkpoint.rsplit("/", 1)[-1] for checkpoint in checkpoints.values()]
    known = {name.lower() for name in names}
    known |= {f"models--{checkpoint.lower().replace('/', '--')}" for checkpoint in checkpoints.values()}
    strange = [name for name in evidence.facts.get("model", ()) if name not in checkpoints]
    strange += [name for name in evidence.facts.get("checkpoint", ()) if not known & set(name.lower().split("/"))]
    return f"measured on {', '.join(distinct(strange))}; the claim is about {', '.join(names)}" if strange else ""


def other_protocol(evidence: ClaimEvidence) -> str:
    """Why scores are not those of the paper's protocol, lmms-eval's; empty if they are."""
    every = [(name, value) for name in ("protocol", "prompts") for value in evidence.facts.get(name, ())]
    strange = [f"{name} {value}" for name, value in every if value != "lmms_eval"]
    return f"measured with {', '.join(strange)}; the paper used lmms-eval" if strange else ""
