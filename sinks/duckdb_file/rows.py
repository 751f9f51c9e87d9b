"""Values of the ledger as rows of hedgerow.windows, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from sinks.duckdb_file.schema import ALL_COLUMNS
from sinks.entries import FACTS, NO_FACTS, OWN, Agreed, Base, Entry, Facts, Probed, State, Tally, of_older
from sinks.sink import EPOCH

_STATES = {str(state): state for state in State}
_NONE = [None] * len(FACTS)
TIME = pa.timestamp("us", "UTC")
TIMES = frozenset(name for name in ALL_COLUMNS.split(", ") if name.endswith(("_at", "_start", "_end", "_until")))
TIME_PLACES = tuple(place for place, name in enumerate(ALL_COLUMNS.split(", ")) if name in TIMES)


def ledger_table(entries: Sequence[Entry]) -> pa.Table:
    """The rows of *entries*, in the order of ALL_COLUMNS."""
    names = ALL_COLUMNS.split(", ")
    columns = zip(*map(ledger_values, entries), strict=True)
    arrays = [pa.array(column, TIME if name in TIMES else None) for name, column in zip(names, columns, strict=True)]
    return pa.table(arrays, names=names)


def ledger_values(entry: Entry) -> list[object]:
    base = None
    if entry.base is not None:
        whole_at = entry.base.whole_at.isoformat() if entry.base.whole_at else None
        until = entry.base.until.isoformat()
        base = json.dumps({"until": until, "tally": asdict(entry.base.tally), "whole_at": whole_at})
    return [
        entry.project_id,
        entry.stream,
        entry.start,
        entry.end,
        entry.covered_start,
        entry.covered_end,
        str(entry.shown),
        entry.generation,
        entry.read_at,
        *asdict(entry.tally).values(),
        base,
        entry.probed.at if entry.probed else None,
        entry.probed.values if entry.probed else None,
        entry.agreed.values if entry.agreed else None,
        entry.agreed.until if entry.agreed else None,
        entry.noted,
        entry.tried_at,
        *(getattr(entry.facts, name) for name in FACTS),
    ]


def entries_of(rows: Iterable[Sequence[Any]]) -> list[Entry]:
    """The entries of *rows*, each in the order of ALL_COLUMNS, times in microseconds since 1970."""
    at = _Times()  # most times stand in several entries
    return [_entry_of(row, at) for row in rows]


class _Times(dict[int | None, datetime | None]):
    def __missing__(self, micros: int | None) -> datetime | None:
        found = None if micros is None else EPOCH + timedelta(microseconds=micros)
        self[micros] = found
        return found


def _entry_of(row: Sequence[Any], at: _Times) -> Entry:
    values = list(row)
    for place in TIME_PLACES:
        values[place] = at[values[place]]
    project_id, stream, start, end, covered_start, covered_end, shown, generation, read_at, *others = values
    *tally, base, probed_at, probed, agreed, agreed_until, noted, tried_at = others[: -len(FACTS)]
    stored = json.loads(base) if base else None
    last = Probed(probed_at, probed) if probed is not None else None
    if noted is None:  # of an older format
        state, facts, equal = of_older(shown, read_at=read_at, probed=last, covered_end=covered_end)
    else:
        found = others[-len(FACTS) :]
        facts = NO_FACTS if found == _NONE else Facts(*found)
        own = shown in OWN or not facts
        state = _STATES[shown] if own else State.LANDED
        equal = Agreed(agreed, agreed_until) if agreed is not None else None
    return Entry(
        project_id=project_id,
        stream=stream,
        start=start,
        end=end,
        covered_start=covered_start,
        covered_end=covered_end,
        state=state,
        read_at=read_at,
        tally=Tally(*tally),
        generation=generation,
        base=_base(stored) if stored else None,
        probed=last,
        agreed=equal,
        facts=facts,
        noted=noted or 0,
        tried_at=tried_at,
    )


def _base(stored: dict[str, Any]) -> Base:
    whole_at = stored.get("whole_at")
    return Base(
        datetime.fromisoformat(stored["until"]),
        Tally(**stored["tally"]),
        datetime.fromisoformat(whole_at) if whole_at else None,
    )


def utc(value: object):  # type: ignore[no-untyped-def]  # any column's value
    return value.astimezone(UTC) if isinstance(value, datetime) else value
