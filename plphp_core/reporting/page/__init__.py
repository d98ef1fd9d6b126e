"""The HTML report: one page that holds verdicts, tables, figures, samples and manifests, and asks nothing of a network.

`write` makes it; `sections`, `ledger`, `samples`, `runs` and `choices` are its parts, `document` puts them together.
"""

from plphp_core.reporting.page.document import write

__all__ = ["write"]
