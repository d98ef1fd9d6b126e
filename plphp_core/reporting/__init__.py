"""Tables from finished evaluation cells.

`cells` loads and checks the result files, `selection` picks the one cell that belongs in each place of a table,
`bootstrap` puts an interval on every number, `comparison` has the numbers of one model, `layout` and `notes` hold what
tables of methods × benchmarks share, `costs` and `cost_lines` the same for cache and times on one benchmark, `table1`,
`table3`, `table4`, `table5` and `figure7` lay out one table or figure of the paper each, `drawing` says how figures
look, `sheet` and `render` write tables in any format. Nothing here runs a model.
"""
