"""The destinations that many hands write: how each is opened, and how a person damages one by hand."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sinks.duckdb_file.sink import DuckDBSink
from sinks.entries import Entry
from sinks.lake import window_file
from sinks.lake.sink import LakeSink
from sinks.memory import MemorySink
from sinks.objects.base import Missing, Objects
from sinks.sink import REJECTS, Sink
from tests import stores

KINDS = ("memory", "duckdb", "lake", "s3")
DAMAGES = ("delete", "double", "change", "lose")
CHANGED = '{"by":"hand"}'


class Shared(MemorySink):
    """The reference as a destination: what copying asks of one beside landing."""

    name = "memory"

    def origin(self, project_id: int, stream: str) -> tuple[str, str] | None:
        if project_id not in self._hosts or (project_id, stream) not in self._filters:
            return None
        return self._hosts[project_id], self._filters[project_id, stream]

    def rejects(self, entry: Entry) -> pa.Table:
        del entry
        return REJECTS.empty_table()


@dataclass(frozen=True, slots=True)
class Place:
    """One destination: *where* is the memory sink itself, a file, a directory, or server and bucket."""

    kind: str
    where: object

    def open(self) -> Sink:
        """A sink instance of its own, as a new process has."""
        if self.kind == "memory":
            return self.where
        if self.kind == "duckdb":
            return DuckDBSink(Path(self.where))
        if self.kind == "lake":
            return stores.local_lake(Path(self.where))
        server, bucket = self.where
        return stores.s3_lake(server, bucket=bucket)

    def damage(self, entry: Entry, how: str, rng: random.Random) -> bool:
        """Damage what is held of a window as *how* says; whether there was anything to damage.

        `lose` takes the window's object away from a lake, and all its rows from the others.
        """
        if self.kind == "memory":
            rows = self.where._rows.get(entry.key)
            if rows is None or not rows.num_rows:
                return False
            self.where._rows[entry.key] = damaged(rows, how, rng)
            return True
        if self.kind == "duckdb":
            return _damage_file(Path(self.where), entry, how, rng)
        sink = self.open()
        assert isinstance(sink, LakeSink)
        return _damage_object(sink.objects, window_file.window_path(entry), how, rng)

    def content(self, entry: Entry) -> object:
        """What is held of a window, to be put back with `restore`."""
        if self.kind == "memory":
            return self.where._rows.get(entry.key)
        if self.kind == "duckdb":
            with duckdb.connect(str(self.where)) as db:
                return db.execute(f"SELECT * FROM events WHERE {OF}", _of(entry)).to_arrow_table()
        sink = self.open()
        assert isinstance(sink, LakeSink)
        return sink.objects.get(window_file.window_path(entry))[0]

    def restore(self, entry: Entry, content: object) -> None:
        """Somebody puts back by hand what was held of a window."""
        if self.kind == "memory":
            self.where._rows[entry.key] = content
            return
        if self.kind == "duckdb":
            with duckdb.connect(str(self.where)) as db:
                db.execute(f"DELETE FROM events WHERE {OF}", _of(entry))
                db.register("kept", content)
                db.execute("INSERT INTO events BY NAME SELECT * FROM kept")
            return
        sink = self.open()
        assert isinstance(sink, LakeSink)
        sink.objects.put(window_file.window_path(entry), content)


OF = "project_id = ? AND timestamp >= ? AND timestamp < ?"


def _of(entry: Entry) -> list[object]:
    return [entry.project_id, entry.covered_start, entry.covered_end]


def place(kind: str, directory: Path, name: str, *, server: str = "") -> Place:
    """A new, empty destination."""
    if kind == "memory":
        return Place(kind, Shared())
    if kind == "duckdb":
        return Place(kind, str(directory / f"{name}.duckdb"))
    if kind == "lake":
        return Place(kind, str(directory / name))
    return Place(kind, (server, stores.new_bucket(server)))


def damaged(rows: pa.Table, how: str, rng: random.Random) -> pa.Table:
    """*rows* after a person was there; at least one is not what it was."""
    if how == "lose":
        return rows.slice(0, 0)
    victim = rng.randrange(rows.num_rows)
    if how == "double":
        return pa.concat_tables([rows, rows.slice(victim, 1)]).sort_by("timestamp")
    others = pc.not_equal(pa.array(range(rows.num_rows)), victim)
    if how == "delete":
        return rows.filter(others)
    number = rows.schema.get_field_index("properties")
    text = rows["properties"].to_pylist()
    text[victim] = CHANGED
    return rows.set_column(number, rows.schema.field(number), pa.array(text, rows.schema.field(number).type))


def _damage_file(path: Path, entry: Entry, how: str, rng: random.Random) -> bool:
    of, values = OF, _of(entry)
    with duckdb.connect(str(path)) as db:
        db.execute("SET TimeZone = 'UTC'")
        uuids = db.execute(f"SELECT uuid FROM events WHERE {of} ORDER BY timestamp, uuid", values).fetchall()
        if not uuids:
            return False
        one, victim = f"{of} AND uuid = ?", [*values, rng.choice(uuids)[0]]
        statements: dict[str, Callable[[], object]] = {
            "delete": lambda: db.execute(f"DELETE FROM events WHERE {one}", victim),
            "double": lambda: db.execute(f"INSERT INTO events SELECT * FROM events WHERE {one}", victim),
            "change": lambda: db.execute(f"UPDATE events SET properties = '{CHANGED}' WHERE {one}", victim),
            "lose": lambda: db.execute(f"DELETE FROM events WHERE {of}", values),
        }
        statements[how]()
    return True


def _damage_object(objects: Objects, path: str, how: str, rng: random.Random) -> bool:
    if how == "lose":
        if objects.head(path) is None:
            return False
        objects.delete(path)
        return True
    try:
        data, _ = objects.get(path)
    except Missing:
        return False
    file = pq.ParquetFile(io.BytesIO(data))
    rows = file.read().replace_schema_metadata(None)
    if not rows.num_rows:
        return False
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(buffer, rows.schema, compression="zstd") as writer:
        writer.write_table(damaged(rows, how, rng))
        writer.add_key_value_metadata({window_file.KEY: file.metadata.metadata[window_file.KEY]})
    objects.put(path, buffer.getvalue().to_pybytes())
    return True


def held_open(sink: Sink) -> AbstractContextManager[object]:
    """While it is held, the sink's reading calls need not open the file anew."""
    if isinstance(sink, DuckDBSink) and sink.path.exists():
        return sink._file.open(read_only=True)
    return nullcontext()
