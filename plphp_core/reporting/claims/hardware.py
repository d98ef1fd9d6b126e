"""Which conditions a claim about time can be compared under, and whether a model is the paper's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from plphp_core.reporting.claims.evidence import Evidence

PAPERS = "one A100 80GB, one sample at a time, transformers' generate"


def comparable(evidence: Evidence) -> str:
    """Why times cannot be compared with the paper's; empty if they can.

    The paper names one A100 80GB. Its batch size and its loop are not named: transformers' `generate`, one sample at a
    time, is what lmms-eval did then. Any other loop or batch changes how much of the time the cache takes.
    """
    reasons = []
    if not evidence.hardware or not all(map(is_the_papers, evidence.hardware)):
        reasons.append(f"measured on {', '.join(evidence.hardware) or 'unrecorded hardware'}")
    elif len(evidence.hardware) > 1:
        reasons.append(f"measured on several machines ({', '.join(evidence.hardware)})")
    for name, wanted in (("batch_size", "1"), ("engine", "generate")):
        found = evidence.facts.get(name, ())
        if found != (wanted,):
            reasons.append(f"{name.replace('_', ' ')} {', '.join(found) or 'unrecorded'}")
    return f"{'; '.join(reasons)}; the paper's: {PAPERS}" if reasons else ""


def is_the_papers(name: str) -> bool:
    """Whether a device's name is that of a whole A100 with 80 GB."""
    return bool(re.search(r"\bA100\b.*\b80 ?GB\b", name, re.IGNORECASE)) and "MIG" not in name.upper()


def other_models(evidence: Evidence, checkpoints: Mapping[str, str], families: Sequence[str]) -> str:
    """Why the models are not the paper's; empty if they are.

    A checkpoint counts as the configured one if its text contains that one's name: a local copy may lie anywhere.

    Args:
        checkpoints: model → the checkpoint that the configuration names.
        families: the models that the claim is about.
    """
    models = evidence.facts.get("model", ())
    wanted = [checkpoints[name].rsplit("/", 1)[-1] for name in families if name in checkpoints]
    strange = [name for name in models if name not in families]
    strange += [
        text
        for text in evidence.facts.get("checkpoint", ())
        if not any(name.lower() in text.lower() for name in wanted)
    ]
    if not strange:
        return ""
    return f"measured on {', '.join(dict.fromkeys(strange))}; the claim is about {', '.join(wanted)}"
