"""Before hours of GPU time: would a run work? `python scripts/preflight.py model=llava_onevision profile=paper`.

Takes the same options as scripts/run.py, and weights=false: do not load the weights. Exit code 0: it would work;
1: something would break; 2: unknown options.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # tasks/ is found from any working directory

from scripts import offline  # noqa: E402

offline.force(sys.argv[1:])

from plphp_core.evaluation.preflight.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(ROOT))
