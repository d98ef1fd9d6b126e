"""Numbers from finished cells: what may be compared, estimates with intervals, changes, costs. Nothing is printed here.

`comparable` decides which cells may stand in one table, `bootstrap` puts an interval on every number, `results` holds
the scores and changes of one model, `retention_stats` its vision tokens and cache, `costs` times and cache on one
benchmark; `baseline_comparison` and `paired_contrasts` compare rows with each other.
"""
