"""Tables and figures from the numbers of `analysis`.

`configured` reads which rows and benchmarks a table has; `score_columns`, `cost_columns`, `comparison_tables`, `notes`
and `csv_export` hold what tables share. `table1` … `table5` and `figure1` … `figure8` lay out one table or figure of
the paper each, `sweep` and `engines` what was run besides; `drawing` says how figures look, `table_model` and `render`
write tables in any format, `reports` and `cli` are the command. Nothing here runs a model.
"""
