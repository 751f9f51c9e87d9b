"""Settings: texts to values, the tables, and the layers that they come from."""
