"""Write the paper's tables from finished cells: `python scripts/report.py table1 profile=toy`."""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that it runs from any folder, installed or not

from scripts.start import start  # noqa: E402


def load():
    from plphp_core.reporting.cli import main

    return partial(main, sys.argv[1:], ROOT)


if __name__ == "__main__":
    sys.exit(start(load))
