"""The ledgers: what the paper claims, and apart from it what others do, and what the measurements say about it."""

from plphp_core.claims.claim_finding import ClaimFinding
from plphp_core.claims.claims_ledger import report
from plphp_core.claims.judgement import findings
from plphp_core.claims.third_parties import third_parties_report

__all__ = ["ClaimFinding", "findings", "report", "third_parties_report"]
