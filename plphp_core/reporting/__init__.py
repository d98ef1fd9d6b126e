"""Tables from finished evaluation cells.

`cells` loads and checks the result files, `selection` picks the one cell that belongs in each place of a table,
`bootstrap` puts an interval on every number, `comparison` has the numbers of one model, `layout` and `notes` hold what
tables of methods × benchmarks share, `table1` and `table3` lay out one table of the paper each, `sheet` and `render`
write tables in any format. Nothing here runs a model.
"""
