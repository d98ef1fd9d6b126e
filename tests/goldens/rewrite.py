"""`python -m tests.goldens.rewrite [NAME …]`: write `expected/` again, all of it or runs such as paper/table1."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.goldens import world
from tests.goldens.runs import EXPECTED, RUNS, made

TINY = re.compile(r"\d\.\d*e-1\d")


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in RUNS]:
        print(f"no such run: {', '.join(unknown)}; there are {', '.join(RUNS)}", file=sys.stderr)
        return 2
    if not names:
        shutil.rmtree(EXPECTED, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        there = world.make(Path(folder))
        for name in names or RUNS:
            shutil.rmtree(EXPECTED / name, ignore_errors=True)
            (EXPECTED / name).mkdir(parents=True)
            for file, text in made(name, there).items():
                if tiny := TINY.search(text):
                    print(f"{name}/{file}: {tiny[0]} is rounding, other on every machine", file=sys.stderr)
                (EXPECTED / name / file).write_text(text, encoding="utf-8")
    print(f"{len(names or RUNS)} runs written to {EXPECTED}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
