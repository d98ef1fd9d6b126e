"""Write the paper's tables from finished cells: `python scripts/report.py table1 profile=toy`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # so that it runs from any folder, installed or not
    from plphp_core.reporting.cli import main

    sys.exit(main(sys.argv[1:], ROOT))
