"""Statistics of finished work: from records to estimates with their intervals. No text, no pictures.

`comparable` decides which cells may stand in one table, `frame` has their samples, `bootstrap` estimates the numbers of
one cell with their intervals; `results` answers for all rows of a table: value, change, average. `paired_contrasts`
compares rows with each other; `attention_*` are about attention readings.
"""
