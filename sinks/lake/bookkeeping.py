"""SQL of a lake's histories as views: runs, changes and quarantine, over footers and the journal as they are (docs/lake.md).

The columns are those of the tables of the same names in a DuckDB file.
"""

from __future__ import annotations

from sinks.lake.statements import address_of, glob_of, quoted
from sinks.objects.base import Objects

_RUN = {
    "run_id": "VARCHAR",
    "command": "VARCHAR",
    "project_id": "BIGINT",
    "stream": "VARCHAR",
    "started_at": "TIMESTAMPTZ",
    "finished_at": "TIMESTAMPTZ",
    "outcome": "VARCHAR",
    "windows": "BIGINT",
    "rows": "BIGINT",
    "requests": "BIGINT",
    "waited_s": "DOUBLE",
    "error": "VARCHAR",
}
_RUN_OF = {name: f"(run->>'{name}')::{kind}" for name, kind in _RUN.items()} | {"error": "coalesce(run->>'error', '')"}


def runs_sql(objects: Objects, *, noted: bool) -> str:
    """The SELECT of the view `hedgerow.runs`: the journal's lines of runs, each once.

    *noted*: there is a journal already. Without one the view has no rows and stays so: DuckDB 1 knows no pattern that
    finds nothing.
    """
    if not noted:
        columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _RUN.items())
        return f"SELECT {columns} WHERE false"
    columns = ",\n  ".join(f"{_RUN_OF[name]} AS {name}" for name in _RUN)
    files = quoted(f"{address_of(objects)}/_hedgerow/journal/*/*/*.jsonl")
    lines = f"SELECT * FROM read_json({files}, format = 'newline_delimited', columns = {{run: 'JSON'}})"
    return (
        f"SELECT\n  {columns}\nFROM ({lines})\nWHERE run IS NOT NULL\n"
        "QUALIFY row_number() OVER (PARTITION BY run->>'run_id') = 1"
    )


def _footers(objects: Objects) -> str:
    footers = f"parquet_kv_metadata({quoted(glob_of(objects))})"
    return f"SELECT decode(value)::JSON AS f FROM {footers} WHERE decode(key) = 'hedgerow'"


_WINDOW = (
    "(f->>'project_id')::BIGINT AS project_id",
    "f->>'stream' AS stream",
    "(f->>'start')::TIMESTAMPTZ AS window_start",
)


def changes_sql(objects: Objects) -> str:
    """The SELECT of the view `hedgerow.changes`: what the windows' footers say of what their landings found."""
    columns = [
        *_WINDOW,
        "(c->>0)::TIMESTAMPTZ AS found_at",
        *(f"(c->>{place})::BIGINT AS {name}" for place, name in enumerate(("late", "deleted", "changed"), 1)),
        "(c->>4)::DOUBLE AS lateness_s",
    ]
    unnested = f"SELECT f, unnest((f->'changes')::JSON[]) AS c FROM ({_footers(objects)})"
    return f"SELECT\n  {(',' + chr(10) + '  ').join(columns)}\nFROM ({unnested})"


def quarantine_sql(objects: Objects, *, empty: bool) -> str:
    """The SELECT of the view `hedgerow.quarantine`: the objects that the windows' footers name.

    *empty*: there are none yet, so that nothing can be read; for each window that has one later, a row then says so.
    """
    read_at = "(f->>'read_at')::TIMESTAMPTZ AS read_at"
    if empty:
        later = "'attached before the first row in quarantine: attach again' AS reason"
        columns = [*_WINDOW, 'NULL::TIMESTAMPTZ AS "at"', later, "NULL::VARCHAR AS text", read_at]
        rows = f"({_footers(objects)})\nWHERE f->>'quarantine' IS NOT NULL"
    else:
        files = quoted(f"{address_of(objects)}/_hedgerow/quarantine/*/*/*.parquet")
        columns = [*_WINDOW, '"at"', "reason", "text", read_at]
        rows = (
            f"read_parquet({files}, filename = true, hive_partitioning = false)\n"
            f"JOIN ({_footers(objects)}) ON ends_with(filename, f->>'quarantine')"
        )
    return f"SELECT\n  {(',' + chr(10) + '  ').join(columns)}\nFROM {rows}"
