"""Reads events without losing one, and asks the source what it counts."""
