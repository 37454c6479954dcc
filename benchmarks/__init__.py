"""Measurements: each module prints one table and says in its docstring how it is run."""
