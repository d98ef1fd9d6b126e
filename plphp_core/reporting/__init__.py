"""Tables and figures from the numbers of `analysis`, and the files that show them. Nothing here runs a model.

`request` is what was asked for, `reports` makes any report of it by name. Tables: `table_report` makes one from its
file in `configs/table/`, out of the columns of `score_columns` and `cost_columns` (each a `table_spec.NumberColumn`)
and the sentences of `table_notes`; `cost_comparison` has what methods at equal cost are, `cost_sheets` and
`score_sheet` their tables, `engine_comparison` both engines. `figures` has a module per kind of picture, `page` the
HTML page, `leaderboard` the submissions of others. `render` and `terminal` write a `table_model.Table` in any format,
`csv_export` its numbers.
"""
