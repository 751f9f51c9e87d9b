"""Values to values: rows as they land, digests, tables. Pure."""
