"""The engine: what to land, how it is read, proven and guarded. Knows neither settings nor reports."""
