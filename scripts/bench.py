"""Measure decoding beside its floor: `python scripts/bench.py bench=cpu` (`--help`: options)."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it runs from any folder, installed or not

if __name__ == "__main__":
    from plphp_core.bench.command import main

    sys.exit(main(ROOT, sys.argv[1:]))
