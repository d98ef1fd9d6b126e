#!/usr/bin/env bash
# Makes one of the small environments, no torch in them: `lint` (ruff, mypy and pydantic as requirements.lock has them) or
# `docs` (requirements-docs.lock) at $1-lint or $1-docs.
set -euo pipefail
venv=$1-$2 what=$2
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  [ -x .uv/bin/uv ] || { python3 -m venv .uv && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv; }
  uv=.uv/bin/uv
fi
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python '>=3.11' "$venv"
case $what in
  lint) grep -E '^(ruff|mypy|pydantic)==' requirements.lock | "$uv" pip install --quiet --python "$venv/bin/python" -c requirements.lock -r - ;;
  docs) "$uv" pip install --quiet --python "$venv/bin/python" -r requirements-docs.lock ;;
esac
