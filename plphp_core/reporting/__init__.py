"""Tables from finished evaluation cells.

`cells` loads and checks the result files, `selection` picks the one cell that belongs in each place of a table,
`bootstrap` puts an interval on every number, `sheet` and `render` write tables in any format, and `table1` (one module
per table) lays out one table of the paper. Nothing here runs a model.
"""
