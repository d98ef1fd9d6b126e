"""Which conditions a claim about time can be compared under, and whether a model is the paper's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from plphp_core.claims.claim_evidence import ClaimEvidence

PAPERS = "one A100 80GB, one sample at a time, transformers' generate"


def comparable(evidence: ClaimEvidence) -> str:
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


def other_models(evidence: ClaimEvidence, checkpoints: Mapping[str, str], families: Sequence[str]) -> str:
    """Why the models are not the paper's; empty if they are.

    A checkpoint counts as the configured one if some part of its path is that one's name, or the hub cache's name for
    it: a local copy may lie anywhere, but a name with a suffix (-GPTQ, -base) is another model.

    Args:
        checkpoints: model → the checkpoint that the configuration names.
        families: the models that the claim is about.
    """
    models = evidence.facts.get("model", ())
    wanted = [checkpoints[name] for name in families if name in checkpoints]
    strange = [name for name in models if name not in families]
    strange += [
        text for text in evidence.facts.get("checkpoint", ()) if not any(_is_copy(text, name) for name in wanted)
    ]
    if not strange:
        return ""
    names = ", ".join(name.rsplit("/", 1)[-1] for name in wanted)
    return f"measured on {', '.join(dict.fromkeys(strange))}; the claim is about {names}"


def _is_copy(checkpoint: str, configured: str) -> bool:
    parts = checkpoint.lower().split("/")
    return bool(
        {configured.lower().rsplit("/", 1)[-1], f"models--{configured.lower().replace('/', '--')}"} & set(parts)
    )


def other_protocol(evidence: ClaimEvidence) -> str:
    """Why scores are not those of the paper's protocol, lmms-eval's; empty if they are."""
    strange = [
        f"{name} {value}"
        for name in ("protocol", "prompts")
        for value in evidence.facts.get(name, ())
        if value != "lmms_eval"
    ]
    return f"measured with {', '.join(strange)}; the paper used lmms-eval" if strange else ""
