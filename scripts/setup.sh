#!/usr/bin/env bash
# Makes the virtual environment at $1 from requirements.lock. TORCH_BACKEND picks another build of torch (see the Makefile).
set -euo pipefail
venv=$1
backend=${TORCH_BACKEND:-}

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  [ -x .uv/bin/uv ] || { python3 -m venv .uv && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv; }
  uv=.uv/bin/uv
fi

if [ ! -x "$venv/bin/python" ]; then
  "$uv" venv --quiet --python '>=3.11' "$venv"
fi

if [ -z "$backend" ]; then
  "$uv" pip install --quiet --python "$venv/bin/python" -r requirements.lock
else
  # The locked CUDA libraries belong to the registry's build of torch; another build brings its own.
  grep -vE '^(nvidia-|cuda-|triton)' requirements.lock |
    "$uv" pip install --quiet --python "$venv/bin/python" --torch-backend "$backend" \
      --reinstall-package torch --reinstall-package torchvision -r -
  echo "$backend" >"$venv/.torch-backend"
fi
"$uv" pip install --quiet --python "$venv/bin/python" --no-deps -e .
