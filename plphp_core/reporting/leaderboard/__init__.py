"""The leaderboard: results folders of anybody, as one table per model and one page."""

from plphp_core.reporting.leaderboard.board import Board, made, written

__all__ = ["Board", "made", "written"]
