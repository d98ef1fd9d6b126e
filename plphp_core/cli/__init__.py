"""The command `plphp`: above evaluation and reporting, which do not know each other."""
