"""Tables and figures from the numbers of `analysis`.

`cells` loads and checks the result files, `selection` picks the one cell that belongs in each place of a table,
`configured` reads which rows and benchmarks a table has, `bootstrap` puts an interval on every number, `comparison` has
the numbers of one model, `savings` its vision tokens and cache, `rivals` and `contrasts` compare rows with each other,
`layout`, `notes` and `long_tables` hold what tables of methods × benchmarks share, `costs` and `cost_lines` the same
for cache and times on one benchmark. `table1` … `table5` lay out one table of the
paper each, `figures` its figures, `sweep` and `engines` what was run besides; `table_model` and
`render` and `terminal` write tables in any format, `reports` and `cli` are the command. Nothing here runs a model.
"""
