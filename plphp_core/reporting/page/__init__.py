"""The HTML report: one page that holds verdicts, tables, figures, samples and manifests, and asks nothing of a network.

`write` makes it; `html_page` puts the parts together.
"""

from plphp_core.reporting.page.html_page import write

__all__ = ["write"]
