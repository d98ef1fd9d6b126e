"""The HTML report: one page with verdicts, tables, figures, samples and manifests, which needs no network."""

from plphp_core.reporting.page.html_page import write

__all__ = ["write"]
