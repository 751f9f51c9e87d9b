"""A destination of Parquet objects, one for each window."""
