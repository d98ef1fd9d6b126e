"""leaderboard.html: tables that may come from anybody, under the same rules as the report's page."""

from __future__ import annotations

from collections.abc import Sequence

from plphp_core.reporting.page.html_page import filled_template
from plphp_core.reporting.page.sections import TableView
from plphp_core.reporting.table_model import Table


def html(said: str, profile: str, tables: Sequence[Table]) -> bytes:
    """The page in UTF-8. `said`: one sentence on what there is."""
    content = {"said": said, "profile": profile, "tables": list(map(TableView, tables)), "browser": {"sets": []}}
    return filled_template("leaderboard.html", content)
