"""The claims ledger: every claim of the paper judged, whatever is missing. `claims.md` and `claims.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from plphp_core.claims import ledger_tables
from plphp_core.claims.claim_finding import ClaimFinding, counts
from plphp_core.claims.claim_rules import RULES
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.claims.judgement import judge, unmeasured
from plphp_core.records.errors import ReportError
from plphp_core.reporting import published
from plphp_core.reporting.request import Report, ReportRequest, asked_suffix

PAPER = "arXiv 2502.14504v1"
SCHEMA = 1


def findings(asked: ReportRequest) -> list[ClaimFinding]:
    """One per claim in claims.yaml, in its order. A claim whose cells are missing or ambiguous is not measured.

    Raises ReportError if the claims themselves cannot be read.
    """
    sources, found = ClaimSources(asked), []
    for claim in published.load_claims(asked.options.published):
        rule = RULES.get(claim.id)
        try:
            if rule is None:
                raise ReportError("there is no rule for this claim")
            found.append(judge(claim, rule, sources))
        except ReportError as error:
            first = str(error).splitlines()[0].rstrip(":;. ")  # the files that it lists are no sentence
            found.append(unmeasured(claim, rule, asked, f"Nothing to judge: {first}."))
    return found


def report(asked: ReportRequest) -> Report:
    """The ledger as files: claims.md, and claims.json as an extra. Raises ReportError as `findings` does."""
    found, variant = findings(asked), asked_suffix(asked)
    extra = {f"claims{variant}.json": ledger_json(found, asked)}
    sheets = ledger_tables.tables(found, asked.profile)
    return Report("claims", variant, sheets, (), {}, planned=False, latex=False, extra=extra, findings=found)


def ledger_json(found: Sequence[ClaimFinding], asked: ReportRequest) -> str:
    """The content of claims.json; the same findings always give the same bytes."""
    made = {name: getattr(asked.choices, name) for name in ("confidence", "resamples", "seed", "average")}
    content = {
        "schema": SCHEMA,
        "profile": asked.profile,
        "toy": asked.profile == "toy",
        "made": {"paper": PAPER, **made},
        "counts": counts(found),
        "findings": [one.as_dict() for one in found],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
