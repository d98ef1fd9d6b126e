"""Evaluation: lmms-eval's tasks and metrics, run cell by cell on top of an append-only journal.

A cell is (model, method with parameters, task). `runner` drives cells, `journal` remembers every answered sample,
`benchmarks` speaks with lmms-eval, `wrapper` is what lmms-eval's own command line sees.
"""
