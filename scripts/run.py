"""Evaluate methods on benchmarks: `python scripts/run.py table=table1 profile=toy limit=8` (`--help`: all options)."""

import os
import sys
from pathlib import Path

# Threads that wait for each other in a loop take the time of cores that other programs, or torchrun's other processes,
# need: beside one busy program a CPU run took ten times as long. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # tasks/ is found from any working directory

from scripts import offline  # noqa: E402

offline.force(sys.argv[1:])

from plphp_core.evaluation.launch import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(ROOT))
