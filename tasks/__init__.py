"""The benchmarks as lmms-eval tasks: what a task file (YAML) names is listed in `functions.py`."""
