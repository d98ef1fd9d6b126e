"""What a claim's numbers rest on (samples, failures, gaps, hardware, conditions), and whether that is what the paper's
rest on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import numpy as np

from plphp_core.analysis.results import Results
from plphp_core.records.attention_result import AttentionResult
from plphp_core.records.cell_result import CellResult, evaluated_alone

FEWEST = 30  # documents of a benchmark, below which a bootstrap interval is too narrow to decide anything
FAILED = 0.01  # share of the samples of a cell
FACTS = ("profile", "model", "checkpoint", "revision", "protocol", "prompts", "engine", "limit", "limit_seed", "dtype",
         "batch_size")  # fmt: skip
PAPERS = "one A100 80GB, one sample at a time, transformers' generate"


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

    def __add__(self, other: ClaimEvidence) -> ClaimEvidence:
        facts = {name: distinct((*self.facts.get(name, ()), *other.facts.get(name, ()))) for name in FACTS}
        return ClaimEvidence(
            {**self.n, **other.n},
            self.failed + other.failed,
            self.missing + other.missing,
            distinct((*self.hardware, *other.hardware)),
            {name: values for name, values in facts.items() if values},
            self.untrained or other.untrained,
            distinct((*self.undefined, *other.undefined)),
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
        return [f"{reason}: {_listed(names)}" for reason, names in found.items() if names]


def evidence(places: Iterable[tuple[str, str, CellResult | AttentionResult | None]], front: str = "") -> ClaimEvidence:
    """What results rest on.

    Args:
        places: (name of the row or model, benchmark, its result or None where it is not finished).
        front: stands before benchmarks' names in `n`.
    """
    places = list(places)
    found = [one for *_, one in places if one is not None]
    facts = {name: distinct(filter(None, (_fact(one, name) for one in found))) for name in FACTS}
    documents: dict[str, list[np.ndarray]] = {}
    for one in found:
        documents.setdefault(f"{front}{one.benchmark}", []).append(one.doc_ids)
    return ClaimEvidence(
        n={name: len(reduce(np.intersect1d, every)) for name, every in documents.items()},
        failed=tuple(
            f"{name} on {benchmark}: {one.errors} of {one.n + one.errors}"
            for name, benchmark, one in places
            if one is not None and one.errors > FAILED * (one.n + one.errors)
        ),
        missing=tuple(f"{name} on {benchmark}" for name, benchmark, one in places if one is None),
        hardware=distinct(name for one in found for name in one.hardware.split("; ")),
        facts={name: values for name, values in facts.items() if values},
        untrained=any(Path(one.checkpoint).name.endswith(("_random", "-random")) for one in found),
    )


def evidence_of_rows(
    results: Results, rows: Sequence[int], benchmarks: Sequence[str], several: bool = False
) -> ClaimEvidence:
    """What these rows of a table rest on; `several`: names carry the model."""
    front = f"{results.title} " if several else ""
    places = [
        (f"{front}{results.label(at)}", name, results.cells.get((at, name))) for name in benchmarks for at in rows
    ]
    alone = evaluated_alone(cell for *_, cell in places if cell is not None)
    return replace(evidence(places, front), undefined=tuple(f"{front}{name}" for name in alone))


def _fact(one: CellResult | AttentionResult, name: str) -> str:
    """A field as text; empty where there is none: attention results have no engine, whole benchmarks no seed."""
    if name == "limit":
        return "full" if one.limit is None else str(one.limit)
    if name == "limit_seed" and one.limit is None:
        return ""
    value = getattr(one, name, "")
    return "unrecorded" if value is None else str(value)


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _listed(names: Sequence[str], most: int = 6) -> str:
    """Names with commas, the first `most` of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def other_times(evidence: ClaimEvidence) -> str:
    """Why times cannot be compared with the paper's; empty if they can.

    The paper names one A100 80GB. Its batch size and its loop are not named: transformers' `generate`, one sample at a
    time, is what lmms-eval did then. Any other loop or batch changes how much of the time the cache takes.
    """
    reasons, machines = [], ", ".join(evidence.hardware)
    if not evidence.hardware or not all(map(is_the_papers, evidence.hardware)):
        reasons.append(f"measured on {machines or 'unrecorded hardware'}")
    elif len(evidence.hardware) > 1:
        reasons.append(f"measured on several machines ({machines})")
    for name, wanted in (("batch_size", "1"), ("engine", "generate")):
        found = evidence.facts.get(name, ())
        if found != (wanted,):
            reasons.append(f"{name.replace('_', ' ')} {', '.join(found) or 'unrecorded'}")
    return f"{'; '.join(reasons)}; the paper's: {PAPERS}" if reasons else ""


def is_the_papers(name: str) -> bool:
    """Whether a device's name is that of a whole A100 with 80 GB."""
    return bool(re.search(r"\bA100\b.*\b80 ?GB\b", name, re.IGNORECASE)) and "MIG" not in name.upper()


def other_models(evidence: ClaimEvidence, checkpoints: Mapping[str, str], families: Sequence[str]) -> str:
    """Why the models are not the paper's; empty if they are.

    A checkpoint counts as the configured one if some part of its path is that one's name, or the hub cache's name for
    it: a local copy may lie anywhere, but a name with a suffix (-GPTQ, -base) is another model.

    Args:
        checkpoints: model → the checkpoint that the configuration names.
        families: the models that the claim is about.
    """
    wanted = [checkpoints[name].lower() for name in families if name in checkpoints]
    known = {name.rsplit("/", 1)[-1] for name in wanted} | {f"models--{name.replace('/', '--')}" for name in wanted}
    strange = [name for name in evidence.facts.get("model", ()) if name not in families]
    strange += [name for name in evidence.facts.get("checkpoint", ()) if not known & set(name.lower().split("/"))]
    if not strange:
        return ""
    names = ", ".join(checkpoints[name].rsplit("/", 1)[-1] for name in families if name in checkpoints)
    return f"measured on {', '.join(distinct(strange))}; the claim is about {names}"


def other_protocol(evidence: ClaimEvidence) -> str:
    """Why scores are not those of the paper's protocol, lmms-eval's; empty if they are."""
    every = [(name, value) for name in ("protocol", "prompts") for value in evidence.facts.get(name, ())]
    strange = [f"{name} {value}" for name, value in every if value != "lmms_eval"]
    return f"measured with {', '.join(strange)}; the paper used lmms-eval" if strange else ""
