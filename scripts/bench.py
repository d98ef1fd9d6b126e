"""Measure decoding beside its floor: `python scripts/bench.py bench=cpu` (`--help`: options)."""

import os
import sys
from pathlib import Path

# Threads that wait for each other in a loop burn the time of a core that another program needs to let them go on:
# beside one busy program a step took ten times as long, and no two steps the same. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it runs from any folder, installed or not

if __name__ == "__main__":
    from plphp_core.bench.command import main

    sys.exit(main(ROOT, sys.argv[1:]))
