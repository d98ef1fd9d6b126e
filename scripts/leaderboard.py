"""The door to `plphp leaderboard` in a checkout: `python scripts/leaderboard.py key=value …` (`--help`: its keys)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from any folder, installed or not

from plphp_core.cli.entry_point import script

if __name__ == "__main__":
    sys.exit(script("leaderboard"))
