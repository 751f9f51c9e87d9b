"""What a lake's SQL says of objects that cannot be read: whoever asks for one hears of it, and nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import duckdb

from sinks import errors
from sinks.lake.statements import address_of, unreadable_sql
from sinks.objects.base import Objects

HINT = "hedgerow verify names what is damaged, and --repair mends what it can"


def made(db: duckdb.DuckDBPyConnection, objects: Objects, views: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Make *views*, name → SELECT, each after those that it is made of. One that needs what cannot be read says so instead.

    The SELECT that each has then, and what is said.
    """
    selects, damaged = dict(views), dict[str, str]()
    for name, select in views.items():
        try:
            db.execute(f"CREATE OR REPLACE VIEW {name} AS\n{select}")
        except duckdb.Error as exc:
            own = f"{objects.name}: {name} cannot be read: {_first_line(exc)}"
            below = (said for one, said in damaged.items() if re.search(rf"\b{re.escape(one)}\b", select))
            damaged[name.strip('"')] = next(below, own)
            selects[name] = unreadable_sql(damaged[name.strip('"')])
            db.execute(f"CREATE OR REPLACE VIEW {name} AS\n{selects[name]}")
    return selects, list(damaged.values())


@contextmanager
def told(objects: Objects, damaged: Sequence[str]) -> Iterator[None]:
    """What DuckDB says while it runs a query of *damaged*, or of a file of the lake: no fault of the query.

    A query that is refused may have asked for a column of what cannot be read: the hint names that.
    Raises DestinationUnusable.
    """
    try:
        yield
    except errors.BadQuery as exc:
        for said in damaged:
            if said in str(exc):
                raise errors.DestinationUnusable(said, hint=HINT) from exc
        if f"file '{address_of(objects)}/" in str(exc):
            raise errors.DestinationUnusable(f"{objects.name} cannot be read: {exc}", hint=HINT) from exc
        if damaged:
            exc.hint = f"{exc.hint}; damaged: {'; '.join(damaged)}"
        raise


def _first_line(exc: duckdb.Error) -> str:
    """DuckDB's first line says what; the rest draws it."""
    return str(exc).split("\n\n")[0].replace("\n", " ")
