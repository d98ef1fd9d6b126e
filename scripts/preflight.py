"""Before hours of GPU time: would a run work? `python scripts/preflight.py model=llava_onevision profile=paper`.

Takes the same options as scripts/run.py, and weights=false: do not load the weights. Exit code 0: it would work;
1: something would break; 2: unknown options.
"""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # tasks/ is found from any working directory

from scripts.start import start  # noqa: E402


def load():
    from scripts import offline

    offline.force(sys.argv[1:])
    from plphp_core.preflight.preflight_app import main

    return partial(main, ROOT)


if __name__ == "__main__":
    sys.exit(start(load))
