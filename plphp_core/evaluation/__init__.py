"""Evaluation: lmms-eval's tasks and metrics, run cell by cell on top of an append-only journal (`records.journal`).

A cell is (model, method with parameters, task). The scheduler (`cli.run_command`) groups runs, a `runner` drives a
group's cells, a `worker` answers what their journals lack, `generation` decodes a batch under each method,
`distributed` deals batches out to several processes, `plan` and `estimate` say what is left to do. `lmms_tasks` speaks
with lmms-eval, `lmms_model` is what lmms-eval's own command line sees.
"""
