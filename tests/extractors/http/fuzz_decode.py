"""Feeds bytes to the decoder: every answer is a page that counts all its rows, or one of our errors, never anything else.

By hand, for longer: `python -m tests.extractors.http.fuzz_decode -max_total_time=600 tests/extractors/http/corpus`. An input that
breaks the promise is kept in tests/extractors/http/corpus and replayed by every test run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FunctionType

from extractors.errors import SourceError
from extractors.http import decode, scan

CORPUS = Path(__file__).parent / "corpus"


def check(body: bytes) -> None:
    """Raises AssertionError, or whatever the decoder should not, where the promise is broken."""
    rows_of_query(body)
    page = page_of(body)
    assert page is not None or not a_page(body), "a page was refused"
    if page is None:
        return
    assert page.rows.schema.equals(decode.RAW_ROWS)
    assert page.rejects.schema.equals(decode.REJECTS)
    page.rows.to_pylist()
    page.rejects.to_pylist()
    try:
        results = json.loads(body)["results"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    assert page.received == len(results), f"{len(results)} rows came, {page.received} are accounted for"


def page_of(body: bytes) -> decode.Page | None:
    try:
        return decode.page(body)
    except SourceError:
        return None


def a_page(body: bytes) -> bool:
    """Whether Python's own reader finds an object with a list of rows, of which one at least has no number as its id."""
    try:
        document = json.loads(body.decode())
        rows = document["results"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    named = [row for row in rows if not (isinstance(row, dict) and isinstance(row.get("id"), int))]
    return isinstance(rows, list) and (not rows or bool(named))


def rows_of_query(body: bytes) -> None:
    try:
        decode.query_rows(body)
    except SourceError:
        return


def main() -> None:
    import atheris

    def one(data: bytes) -> None:
        check(data)

    for module in (decode, scan):
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                setattr(module, name, atheris.instrument_func(value))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
