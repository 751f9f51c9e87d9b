"""A destination that is one DuckDB file."""
