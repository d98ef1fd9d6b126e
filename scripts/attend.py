"""Where models look: attention readings over benchmarks, for Figures 1 and 2, or one sample in full, for Figure 3.

    python scripts/attend.py profile=toy tasks=table1
    python scripts/attend.py profile=toy model=qwen2_vl tasks=[sd] attention.look=true attention.doc=3

Takes the same options as scripts/run.py; `attention` in configs/config.yaml holds its own.
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
    from plphp_core.evaluation.attention.attend_app import main

    return partial(main, ROOT)


if __name__ == "__main__":
    sys.exit(start(load))
