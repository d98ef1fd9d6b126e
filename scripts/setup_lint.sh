#!/usr/bin/env bash
# Makes the small environment at $1 that `make lint` needs: ruff, mypy and pydantic as requirements.lock has them, no torch.
set -euo pipefail
venv=$1
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  [ -x .uv/bin/uv ] || { python3 -m venv .uv && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv; }
  uv=.uv/bin/uv
fi
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python '>=3.11' "$venv"
grep -E '^(ruff|mypy|pydantic)==' requirements.lock | "$uv" pip install --quiet --python "$venv/bin/python" -c requirements.lock -r -
