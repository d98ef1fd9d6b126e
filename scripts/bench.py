"""Measure decoding beside its roofline: `python scripts/bench.py bench=cpu` (`--help`: options)."""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it runs from any folder, installed or not

from scripts.start import start  # noqa: E402


def load():
    from plphp_core.bench.bench_app import main

    return partial(main, ROOT, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start(load))
