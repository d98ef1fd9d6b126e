"""Evaluate methods on benchmarks: `python scripts/run.py table=table1 profile=toy limit=8` (`--help`: all options)."""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # tasks/ is found from any working directory

from scripts.start import start  # noqa: E402


def load():
    from scripts import offline

    offline.force(sys.argv[1:])
    from plphp_core.evaluation.run_app import main

    return partial(main, ROOT)


if __name__ == "__main__":
    sys.exit(start(load))
