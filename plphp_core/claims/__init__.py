"""The claims ledger: what the paper claims, what was measured, and what the one says about the other."""

from plphp_core.claims.claim_finding import ClaimFinding
from plphp_core.claims.claims_ledger import report
from plphp_core.claims.judgement import findings

__all__ = ["ClaimFinding", "findings", "report"]
