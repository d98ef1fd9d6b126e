"""What only a GPU can show, in minutes: `python scripts/gpu_check.py` (`--help`: options; docs/performance.md)."""

import os
import sys
import time
from functools import partial
from pathlib import Path

BEGAN = time.monotonic()  # importing torch takes part of the minutes too
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded, whatever a library would like to look up

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it runs from any folder, installed or not

from plphp_core.cli.entry_point import start  # noqa: E402


def load():
    from plphp_core.bench.gpu_check.gpu_check_app import main

    return partial(main, ROOT, sys.argv[1:], BEGAN)


if __name__ == "__main__":
    sys.exit(start(load))
