"""Statistics of finished work: from records to estimates with their intervals. No text, no pictures.

`comparable` decides which cells may stand in one table, `bootstrap` puts an interval on every number, `results` holds
the scores and changes of one model, `retention_stats` its vision tokens and cache, `costs` times and cache on one
benchmark; `baseline_comparison` and `paired_contrasts` compare rows with each other.
"""
