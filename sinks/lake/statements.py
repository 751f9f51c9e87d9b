"""SQL of a lake's views: the same names as in a DuckDB file, over the Parquet files as they are (docs/lake.md)."""

from __future__ import annotations

from sinks.entries import FACTS, SHOWN, State
from sinks.lake.tables import UNREADABLE_HINT, unreadable
from sinks.lake.window_file import TableNotes
from sinks.objects.base import Objects
from sinks.objects.local import LocalObjects
from sinks.objects.s3 import S3Objects

COLUMNS = {
    "project_id": "BIGINT",
    "uuid": "UUID",
    "event": "VARCHAR",
    "distinct_id": "VARCHAR",
    "person_id": "VARCHAR",
    "properties": "JSON",
    "person_properties": "JSON",
    "elements_chain": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "created_at": "TIMESTAMPTZ",
    "_loaded_at": "TIMESTAMPTZ",
    "date": "DATE",
}
"""Columns of the view `events` (docs/lake.md), and the partition's date, by which files are left out unread."""
STORED = {"uuid": "VARCHAR", "properties": "VARCHAR", "person_properties": "VARCHAR"}


def glob_of(objects: Objects, *, stream: str = "events") -> str:
    """The pattern of all windows, as DuckDB, polars and others take it."""
    return f"{address_of(objects)}/{stream}/**/*.parquet"


def address_of(objects: Objects) -> str:
    """The lake's root as others address it."""
    return str(objects.root) if isinstance(objects, LocalObjects) else objects.name


def events_sql(objects: Objects, *, empty: bool) -> str:
    """The SELECT of the view `events`. *empty*: there are no files yet, so the view must say the types (DuckDB 2)."""
    options = "hive_partitioning = true, hive_types = {'project_id': BIGINT, 'date': DATE}"
    columns = ",\n  ".join(
        f'"{name}"::{kind} AS "{name}"' if name in STORED else f'"{name}"' for name, kind in COLUMNS.items()
    )
    files = f"read_parquet({quoted(glob_of(objects))}, {options}{', allow_empty = true' if empty else ''})"
    if not empty:
        return f"SELECT\n  {columns}\nFROM {files}"
    nothing = ", ".join(f'NULL::{STORED.get(name, kind)} AS "{name}"' for name, kind in COLUMNS.items())
    return f"SELECT\n  {columns}\nFROM (SELECT {nothing} WHERE false UNION ALL BY NAME SELECT * FROM {files})"


def table_sql(objects: Objects, path: str, notes: TableNotes | None) -> str:
    """The SELECT of the view over a table beside the events. One that cannot be read says so to whoever asks for it."""
    if notes is None:
        return unreadable_sql(said_of(objects, path))
    typed = ", ".join(f"{named(column)}::JSON AS {named(column)}" for column in notes.json)
    star = f"* REPLACE ({typed})" if typed else "*"
    return f"SELECT {star} FROM read_parquet({quoted(f'{address_of(objects)}/{path}')}, hive_partitioning = false)"


def said_of(objects: Objects, path: str) -> str:
    """What the view over a table that cannot be read says."""
    return f"{unreadable(objects, path)}: {UNREADABLE_HINT}"


def unreadable_sql(said: str) -> str:
    """The SELECT of a view that fails with *said*. By a condition: a column would be left out of a count, which had a row."""
    return f"SELECT NULL AS unreadable WHERE error({quoted(said)}) IS NULL"


def windows_sql(objects: Objects, *, noted: bool) -> str:
    """The SELECT of the view `hedgerow.windows`: the files' footers, and what the journal says of these landings.

    Needs at least one file. *noted*: there is a journal already. The rules are those of journal.joined and noted, in SQL.
    """
    columns = _window_columns()
    footers = f"parquet_kv_metadata({quoted(glob_of(objects))})"
    root = address_of(objects)
    rules = quoted(f"{root}/_hedgerow/streams/*/*.json")
    return (
        f"WITH footers AS (SELECT decode(value)::JSON AS f FROM {footers} WHERE decode(key) = 'hedgerow'),\n"
        f"lines AS ({_noted_lines(root, noted=noted)}),\n"
        "latest AS (SELECT * FROM lines QUALIFY row_number() OVER (PARTITION BY id ORDER BY coalesce(n, -1) DESC, "
        'CASE WHEN n IS NULL THEN "at" ELSE 0 END DESC, coalesce(gravity, 9)) = 1),\n'
        "damage AS (SELECT id, max(damaged_n) AS damaged_n, arg_max(damaged_at, coalesce(damaged_n, -1)) AS damaged_at, "
        "max(sound_n) AS sound_n FROM lines GROUP BY id),\n"
        "rules AS (SELECT epoch, regexp_extract(filename, 'streams/project_id=([0-9]+)', 1) AS of_project, "
        "regexp_extract(filename, 'stream=(\\w+)[.]json', 1) AS of_stream "
        f"FROM read_json({rules}, filename = true, hive_partitioning = false, columns = {{epoch: 'BIGINT'}}))\n"
        f"SELECT\n  {(chr(10) + '  ').join(f'{column},' for column in columns).rstrip(',')}\n"
        "FROM footers LEFT JOIN latest l ON l.id = f->>'id' LEFT JOIN damage d ON d.id = f->>'id' "
        "LEFT JOIN rules r ON of_project = f->>'project_id' AND of_stream = f->>'stream'"
    )


def _window_columns() -> list[str]:
    """What a window's footer says as columns, with what was noted since."""
    times = ("start", "end", "covered_start", "covered_end", "read_at")
    return [
        "(f->>'project_id')::BIGINT AS project_id",
        "f->>'stream' AS stream",
        *(f"(f->>'{name}')::TIMESTAMPTZ AS {'window_' if name in ('start', 'end') else ''}{name}" for name in times),
        f"{_STATE} AS state",
        "(f->>'generation')::BIGINT + coalesce(epoch, 0) - coalesce((f->>'epoch')::BIGINT, 0) AS generation",
        *(
            f"(f->>'$.tally.{name}')::{'VARCHAR' if name.endswith('digest') else 'BIGINT'} AS {name}"
            for name in (
                "source_rows",
                "source_digest",
                "landed_rows",
                "landed_digest",
                "quarantined_rows",
                "suppressed_rows",
                "copies",
            )
        ),
        "coalesce(l.probed_at, (f->>'probed_at')::TIMESTAMPTZ) AS probed_at",
        "coalesce(l.probed, f->>'probed') AS probed",
        *(f"{_fact(name)} AS {name}_at" for name in FACTS),
    ]


def _noted_lines(root: str, *, noted: bool) -> str:
    """The lines of the journal that note something of a landing."""
    # DuckDB 1 fails where a pattern finds nothing: before there is a journal, the pattern finds the stream's rules too.
    journal = "journal/*/*/*.jsonl" if noted else "**/*.json*"
    read = _LINES.format(files=quoted(f"{root}/_hedgerow/{journal}"))
    return f"SELECT * FROM {read} WHERE state IS NOT NULL AND checked IS NULL"


_LINE = {
    "id": "VARCHAR",
    "state": "VARCHAR",
    "n": "BIGINT",
    "gravity": "BIGINT",
    "at": "DOUBLE",
    "facts": "JSON",
    "damaged_n": "BIGINT",
    "damaged_at": "TIMESTAMPTZ",
    "sound_n": "BIGINT",
    "probed_at": "TIMESTAMPTZ",
    "probed": "VARCHAR",
    "checked": "BOOLEAN",
}
_LINE_TYPES = ", ".join(f"\"{name}\": '{kind}'" for name, kind in _LINE.items())
_LINES = (
    f"read_json({{files}}, format = 'newline_delimited', hive_partitioning = false, columns = {{{{{_LINE_TYPES}}}}})"
)
_DAMAGED = (
    "CASE WHEN coalesce(d.damaged_n, -1) >= greatest(coalesce(d.sound_n, -1), 0) THEN d.damaged_at "
    "WHEN coalesce(d.damaged_n, -1) < 0 AND coalesce(d.sound_n, -1) <= 0 THEN (f->>'$.facts.damaged')::TIMESTAMPTZ END"
)


def _fact(name: str) -> str:
    """SQL: since when a fact stands; of a landing that was noted as the journal says, else as its footer does."""
    if name == "damaged":
        return _DAMAGED
    return f"(CASE WHEN l.id IS NULL THEN f->>'$.facts.{name}' ELSE l.facts->>'{name}' END)::TIMESTAMPTZ"


_OWN = "coalesce(l.state, f->>'state')"
_STATE = (
    "CASE WHEN coalesce(epoch, 0) > coalesce((f->>'epoch')::BIGINT, 0) THEN 'stale' "
    f"WHEN {_OWN} IN ('open', 'stale') THEN {_OWN} "
    + " ".join(f"WHEN {_fact(name)} IS NOT NULL THEN '{SHOWN.get(name, State.DISPUTED)}'" for name in FACTS)
    + f" WHEN l.id IS NOT NULL OR ({_DAMAGED}) IS NULL THEN {_OWN} ELSE 'landed' END"
)


def secret_sql(objects: Objects) -> str:
    """What someone runs before the views to reach S3 with credentials of their own; empty for a directory."""
    if not isinstance(objects, S3Objects):
        return ""
    options = objects.options
    settings = ["TYPE s3"]
    if options.endpoint:
        scheme, _, host = options.endpoint.partition("://")
        settings += ["KEY_ID 'your key id'", "SECRET 'your secret'", f"ENDPOINT {quoted(host.rstrip('/'))}"]
        settings += [
            f"URL_STYLE '{'vhost' if options.virtual_host else 'path'}'",
            f"USE_SSL {str(scheme == 'https').lower()}",
        ]
    else:
        settings.append("PROVIDER credential_chain")
    if options.region:
        settings.append(f"REGION {quoted(options.region)}")
    return f"INSTALL httpfs; LOAD httpfs;\nCREATE SECRET hedgerow ({', '.join(settings)});\n"


def named(name: str) -> str:
    """A name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
