"""Writes the kept file of the current format: `python -m tests.sinks.formats.make`, once, before a format is released.

The files stay as they are afterwards: a later hedgerow must read, migrate and go on from each of them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from extractors.http.decode import RAW_ROWS, REJECTS
from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Agreement, Base, Changes, Damage, Dispute, Entry, Landing, Note, State, Tally
from sinks.sink import FORMAT, Run
from transforms import events as rows_of

HERE = Path(__file__).parent
DAY = datetime(2026, 1, 31, tzinfo=UTC)
HOUR = timedelta(hours=1)
READ_AT = datetime(2026, 2, 1, 12, tzinfo=UTC)
HOST, FILTER = "https://us.posthog.com", '{"include": [], "exclude": ["$autocapture"]}'
ODD = ('{"big":123456789012345678901234567890,"z":-0.0}', '{"a":1,"a":2}', '{"nul":"a\\u0000b"}', "{}")


def landing(hour: int, rows: int, *, state: State = State.LANDED, rejects: int = 0, generation: int = 0) -> Landing:
    """A window of an hour with *rows* odd events, and *rejects* that could not be typed."""
    start = DAY + hour * HOUR
    raw = pa.table(
        [
            [f"00000000-0000-4000-8000-{hour:04x}{number:08x}" for number in range(rows)],
            [f"event {number} ü" for number in range(rows)],
            ["'; DROP TABLE events;--"] * rows,
            [start + timedelta(seconds=number, microseconds=7) for number in range(rows)],
            [ODD[number % len(ODD)] for number in range(rows)],
            [""] * rows,
        ],
        schema=RAW_ROWS,
    )
    settled = rows_of.settled(rows_of.from_page(raw, project_id=1, loaded_at=READ_AT))
    tally = Tally(rows + rejects, str(settled.source), rows, str(settled.landed_digest), quarantined_rows=rejects)
    base = Base(start + HOUR / 2, tally) if state is State.OPEN else None
    edges = (start, start + HOUR, start, start + HOUR)
    entry = Entry(1, "events", *edges, state, READ_AT, tally, generation=generation, base=base)
    unread = pa.table([[start] * rejects, ["not UTF-8"] * rejects, ["{"] * rejects], schema=REJECTS)
    return Landing(entry, settled.rows, unread, start, HOUR)


def described(sink: DuckDBSink) -> dict[str, object]:
    """What the file holds, as JSON can say it."""
    ledger = sink.ledger(1, "events")
    return {
        "entries": [line(entry) for _, entry in sorted(ledger.entries.items())],
        "steps": {str(day): step.total_seconds() for day, step in ledger.steps.items()},
        "mark": str(ledger.mark),
        "unchecked": sorted(map(str, ledger.unchecked)),
        "marks": list(map(str, ledger.marks)),
        "removals": [texts(asdict(removal)) for removal in ledger.removals],
        "saved": ledger.saved,
        "rows": [texts(row) for row in rows(sink)],
        "changes": [texts(asdict(change)) for change in sink.changes(1, "events")],
        "runs": [texts(asdict(run)) for run in sink.runs(1, limit=9)],
    }


def line(entry: Entry) -> dict[str, str]:
    """An entry as people see it: what formats 1 and 2 did not have is left out where it says nothing."""
    fields = asdict(entry) | {"state": entry.shown}
    if entry.base is not None and entry.base.whole_at is None:
        del fields["base"]["whole_at"]
    return texts(fields)


def texts(fields: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items()}


def rows(sink: DuckDBSink) -> list[dict[str, object]]:
    return sink.rows(1, DAY, DAY + 24 * HOUR).to_pylist()


def main() -> None:
    sink = DuckDBSink(HERE / f"format{FORMAT}.duckdb")
    sink.path.unlink(missing_ok=True)
    sink.prepare(1, "events", host=HOST, event_filter=FILTER, rebuild=False)
    first, second, _ = sink.land([landing(0, 6), landing(1, 0), landing(2, 3, rejects=2)])
    said = f"{first.tally.source_digest}/5:6"
    sink.note(
        [Note(first, READ_AT, Agreement(said, first.covered_end)), Note(second, READ_AT, Dispute("1:1:1:1:1/1:1"))]
    )
    sink.note([Note(second, READ_AT + HOUR, Damage())])
    sink.save(1, "events", 75)
    sink.land([replace(landing(2, 3, generation=1), changes=Changes(1, 2, 3, HOUR), removed=2)])
    sink.land([landing(2, 3, rejects=2, generation=2)])
    sink.land([landing(3, 4, state=State.OPEN)], mark=DAY + 4 * HOUR)
    sink.record(Run("1", "sync", 1, "events", READ_AT, READ_AT + HOUR, "incomplete", 4, 13, 5, 0.5, "2 rows"))
    text = json.dumps(described(sink), indent=1, ensure_ascii=False)
    sink.path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
