"""The claims ledger: every claim of the paper judged, whatever is missing. `claims.md` and `claims.json`."""

from __future__ import annotations

from plphp_core.claims import ledger_tables
from plphp_core.claims.claim_finding import ClaimFinding
from plphp_core.claims.claim_rules import RULES
from plphp_core.claims.claim_sources import ClaimSources
from plphp_core.claims.judgement import judge, unmeasured
from plphp_core.claims.reproduce_command import Command
from plphp_core.records.errors import ReportError
from plphp_core.reporting import published
from plphp_core.reporting.request import Report, ReportRequest, asked_suffix

PAPER = "arXiv 2502.14504v1"


def findings(asked: ReportRequest) -> list[ClaimFinding]:
    """One per claim in claims.yaml, in its order. A claim whose cells are missing or ambiguous is not measured.

    Raises ReportError if the claims themselves cannot be read.
    """
    sources = ClaimSources(asked)
    checkpoints, command = sources.checkpoints(), Command.of(asked)
    found = []
    for claim in published.load_claims(asked.options.published):
        rule = RULES.get(claim.id)
        try:
            if rule is None:
                raise ReportError("there is no rule for this claim")
            found.append(judge(claim, rule, rule.measure(sources), asked.profile, checkpoints, command))
        except ReportError as error:
            first = str(error).splitlines()[0].rstrip(":;. ")  # the files that it lists are no sentence
            found.append(unmeasured(claim, rule, asked.profile, f"Nothing to judge: {first}.", command))
    return found


def report(asked: ReportRequest) -> Report:
    """The ledger as files: claims.md, and claims.json as an extra. Raises ReportError as `findings` does."""
    found = findings(asked)
    options = asked.choices
    made = {
        "paper": PAPER,
        "confidence": options.confidence,
        "resamples": options.resamples,
        "seed": options.seed,
        "average": options.average,
    }
    variant = asked_suffix(asked)
    extra = {f"claims{variant}.json": ledger_tables.text(found, asked.profile, made)}
    sheets = ledger_tables.sheets(found, asked.profile)
    return Report("claims", variant, sheets, (), {}, planned=False, latex=False, extra=extra)
