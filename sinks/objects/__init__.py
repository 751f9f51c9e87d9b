"""Stores of objects that a lake lies in: a directory, S3."""
