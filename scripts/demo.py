"""The methods side by side in a browser: `python scripts/demo.py model=qwen2_vl` (`--help`: options)."""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that it runs from any folder, installed or not; tasks/ draws the examples

from scripts.start import start  # noqa: E402


def load():
    from scripts import offline

    # The demo's own profile, where none is given, needs no network either.
    offline.force(sys.argv[1:] if any(one.startswith("profile=") for one in sys.argv[1:]) else ["profile=toy"])
    from plphp_core.demo.server import main

    return partial(main, ROOT, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start(load))
