"""`plphp leaderboard results=[a,b,c]`: results folders, also other people's, as one page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from plphp_core.config import checked_values
from plphp_core.config.hydra_app import LISTS, composed, key
from plphp_core.config.report_settings import ReportSettings, report_settings
from plphp_core.records.errors import UserError
from plphp_core.reporting import leaderboard, terminal

DONE, FAILED = 0, 1


def main(arguments: Sequence[str]) -> int:
    """Write the leaderboard and print its tables.

    Returns:
        exit code: 0 done; 1 a folder or file is damaged, or none has a finished cell; what there is is shown all the
        same. Rows that cannot be compared are refused in the page and no failure.
    Raises:
        UserError: the command line cannot be served.
    """
    folders, out, asked = leaderboard_asked(arguments)
    board = leaderboard.made(folders, asked.profile, asked.filters, asked.choices)
    for name, file, why in board.damaged:
        print(f"error: {name}{'' if file == name else f', {file}'}: {why}", file=sys.stderr)
    if not board.rankings:
        print(f"error: nothing to show: none of {len(folders)} folders has a finished cell", file=sys.stderr)
        return FAILED
    if not asked.quiet:
        terminal.print_tables(board.tables)
    page, *_ = leaderboard.written(board, out)
    print(f"{board.said} Open {page}")
    return FAILED if board.damaged else DONE


def leaderboard_asked(arguments: Sequence[str]) -> tuple[list[Path], Path, ReportSettings]:
    """What a command line asks for: the folders, the one to write to, and which cells. Raises UserError."""
    config = composed(arguments, lists=(*LISTS, "results"))
    named = [config.results] if isinstance(config.results, str) else list(config.results)
    folders = [checked_values.absolute(checked_values.text("results", one)) for one in named]
    if len(set(folders)) < len(folders):
        raise UserError(f"results={config.results} names a folder twice")
    others = [one for one in arguments if key(one) not in ("results", "table")]
    out = checked_values.absolute(checked_values.text("leaderboard.out", config.leaderboard.out))
    return folders, out, report_settings([*others, "table=page"])
