"""Streams beside events: exports with their contents, snapshots, evaluations with their history."""
