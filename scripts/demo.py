"""The methods side by side in a browser: `python scripts/demo.py model=qwen2_vl` (`--help`: options)."""

import os
import sys
from pathlib import Path

# Threads that wait for each other in a loop take the time of cores that other programs need. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that it runs from any folder, installed or not; tasks/ draws the examples

from scripts import offline  # noqa: E402

if __name__ == "__main__":
    # The demo's own profile, where none is given, needs no network either.
    offline.force(sys.argv[1:] if any(one.startswith("profile=") for one in sys.argv[1:]) else ["profile=toy"])
    from plphp_core.demo.command import main

    sys.exit(main(ROOT, sys.argv[1:]))
