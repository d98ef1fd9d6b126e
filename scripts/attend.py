"""Where models look: attention readings over benchmarks, for Figures 1 and 2, or one sample in full, for Figure 3.

    python scripts/attend.py profile=toy tasks=table1
    python scripts/attend.py profile=toy model=qwen2_vl tasks=[sd] +look.doc=3

Takes the same options as scripts/run.py; `attention` in configs/config.yaml holds its own.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in scripts/run.py

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import offline  # noqa: E402

offline.force(sys.argv[1:])

from plphp_core.evaluation.attention.launch import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(ROOT))
