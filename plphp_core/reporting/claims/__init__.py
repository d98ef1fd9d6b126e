"""The claims ledger: what the paper claims, what was measured, and what the one says about the other."""

from plphp_core.reporting.claims.finding import Finding
from plphp_core.reporting.claims.ledger import findings, report

__all__ = ["Finding", "findings", "report"]
