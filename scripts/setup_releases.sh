#!/usr/bin/env bash
# Makes the virtual environment at $2 with the newest or the oldest ($1) releases that pyproject.toml allows of torch,
# torchvision and transformers, the rest as new as goes with them; says in a line what is in it.
set -euo pipefail
which=$1 venv=$2
uv=$(command -v uv || echo .uv/bin/uv) # `make setup` brings the latter
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python '>=3.11' "$venv"
python="$venv/bin/python"
pins=()
if [ "$which" = oldest ]; then
  mapfile -t pins < <("$python" - <<'PYTHON'
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
for line in project["dependencies"] + project["optional-dependencies"]["eval"]:
    if bound := re.match(r"(torch|torchvision|transformers)>=([\d.]+)", line):
        print(f"{bound[1]}=={bound[2]}.*")
PYTHON
  )
fi
"$uv" pip install --quiet --upgrade --python "$python" -e '.[eval,dev]' "${pins[@]}"
"$python" - "$which" <<'PYTHON'
import sys
from importlib.metadata import version
names = ("torch", "torchvision", "transformers", "lmms-eval")
print(f"{sys.argv[1]} releases: Python {sys.version.split()[0]},", ", ".join(f"{name} {version(name)}" for name in names))
PYTHON
