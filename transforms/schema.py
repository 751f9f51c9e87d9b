"""The columns of landed events (contract.md §4), named and typed as PostHog's own batch exports."""

from __future__ import annotations

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", "UTC")

EVENTS = pa.schema(
    [
        pa.field("project_id", pa.int64(), nullable=False),
        pa.field("uuid", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("distinct_id", pa.string(), nullable=False),
        pa.field("person_id", pa.string()),
        pa.field("properties", pa.string(), nullable=False),
        pa.field("person_properties", pa.string()),
        pa.field("elements_chain", pa.string(), nullable=False),
        pa.field("timestamp", TIMESTAMP, nullable=False),
        pa.field("created_at", TIMESTAMP),
        pa.field("_loaded_at", TIMESTAMP, nullable=False),
    ]
)
"""Rows as a sink gets them; a sink stores `uuid` and the JSON columns in its own types for them."""

DIGESTED = tuple(name for name in EVENTS.names if name != "_loaded_at")
"""Columns that enter the landed digest, in order."""
