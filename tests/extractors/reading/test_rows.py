"""Passages of a sweep as one."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from extractors.http.decode import RAW_ROWS, REJECTS
from extractors.reading.rows import Passage, joined

AT = datetime(2026, 3, 2, tzinfo=UTC)


def passage(number: int, *, served: bool) -> Passage:
    """The *number*th: a row, a reject, and a microsecond of each kind; *served*: with the server's time."""
    at = AT + timedelta(seconds=number)
    row = {"uuid": str(number), "event": "e", "distinct_id": "d", "timestamp": at, "properties": "{}"}
    return Passage(
        pa.Table.from_pylist([row | {"elements_chain": ""}], RAW_ROWS),
        pa.Table.from_pylist([{"at": at, "reason": "r", "text": str(number)}], REJECTS),
        at,
        unproven=(at,),
        unread=(at,),
        served_at=at if served else None,
    )


def test_joined_passages_keep_all_that_each_said():
    """Rows, rejects and microseconds of every one in order; what has passed is what the last one passed."""
    parts = [passage(1, served=True), passage(2, served=True), passage(3, served=False)]
    moments = tuple(part.passed for part in parts)

    whole = joined(parts)

    assert whole.rows["uuid"].to_pylist() == whole.rejects["text"].to_pylist() == ["1", "2", "3"]
    assert whole.unproven == whole.unread == moments
    assert (whole.passed, whole.served_at) == (moments[-1], moments[1])
    assert joined(parts[:1]) is parts[0]
