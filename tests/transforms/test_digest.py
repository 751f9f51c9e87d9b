"""Digests: the same sums in polars, in DuckDB and by hand; free of order; parts add up to the whole."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.http.decode import RAW_ROWS
from sinks.queries import SUM_SQL
from transforms import digest
from transforms.digest import MODULUS, SourceDigest
from transforms.events import from_page
from transforms.schema import DIGESTED, EVENTS

DAY = datetime(2026, 1, 31, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
UUID = "01890a5d-ac96-774b-bcce-b302099a8057"

ROW = {
    "project_id": 1,
    "uuid": UUID,
    "event": "näme \U0001f994",
    "distinct_id": "d",
    "person_id": None,
    "properties": '{"n":123456789012345678901234567890,"z":-0.0,"a":1,"a":"\\u0000"}',
    "person_properties": None,
    "elements_chain": "",
    "timestamp": DAY + MICROSECOND,
    "created_at": None,
    "_loaded_at": DAY,
}

checked = settings(derandomize=True, max_examples=60, deadline=None)
names = st.text(max_size=5)
keys = st.tuples(st.integers(0, 2**48 - 1), names, names, st.integers(-(10**15), 86_400_000_000 - 1))
hashes = st.lists(st.integers(0, MODULUS - 1), max_size=20)


def rows(*changes: dict[str, object]) -> pl.DataFrame:
    """Rows as ROW with the *changes*, in the schema EVENTS."""
    return pl.DataFrame(pl.from_arrow(pa.Table.from_pylist([{**ROW, **change} for change in changes], EVENTS)))


def frame(found: list[tuple[int, str, str, int]]) -> pl.DataFrame:
    """Keys for digest.source; the last number of a key is µs from DAY on."""
    texts = [f"00000000-0000-4000-8000-{number:012x}" for number, *_ in found]
    _, events, ids, micros = zip(*found, strict=True) if found else ((), (), (), ())
    times = [DAY + each * MICROSECOND for each in micros]
    raw = pa.table([texts, list(events), list(ids), times, ["{}"] * len(texts), [""] * len(texts)], schema=RAW_ROWS)
    return pl.DataFrame(pl.from_arrow(from_page(raw, project_id=1, loaded_at=DAY)))


def by_hand(found: list[tuple[int, str, str, int]]) -> SourceDigest:
    """The definition, in whole numbers."""
    total, prime = SourceDigest(), 1_000_003
    for number, event, distinct_id, micros in found:
        u, t = number % 2**40, micros % 86_400_000_000
        n = len(event.encode()) + 31 * len(distinct_id.encode())
        total += SourceDigest(1, u, t, (u % prime) * (t % prime), (u % prime) * n)
    return total


@checked
@given(st.lists(keys, max_size=20))
def test_source_digest_is_its_definition(found):
    """Five sums, as anyone can compute them; bytes are counted, not letters; times before 1970 too."""
    assert digest.source(frame(found)) == by_hand(found)


@checked
@given(st.lists(keys, max_size=20), st.integers(0, 20), st.randoms(use_true_random=False))
def test_source_digest_is_free_of_order_and_adds_up(found, cut, rng):
    """Whatever the order and wherever the rows are cut, the parts make the whole."""
    mixed = rng.sample(found, len(found))

    assert digest.source(frame(mixed[:cut])) + digest.source(frame(mixed[cut:])) == digest.source(frame(found))


def test_source_digest_of_a_known_row():
    """One number for each sum, fixed for all versions."""
    found = digest.source(frame([(0xB302099A8057, "näme", "d1", 12_345_678_901)]))

    assert str(found) == "1:8751054935:12345678901:18410000612:1921694"
    assert SourceDigest.parse(str(found)) == found


def test_source_digests_add_modulo_two_to_the_64th():
    """Sums that pass 2^64 begin again, as they do in SQL."""
    assert SourceDigest(un=MODULUS - 1) + SourceDigest(1, un=3) == SourceDigest(1, un=2)


DIFFERENT = [
    pytest.param((1, "e", "d", 0), (2, "e", "d", 0), id="uuid"),
    pytest.param((1, "e", "d", 0), (1, "e", "d", 1), id="a microsecond"),
    pytest.param((1, "e", "d", 0), (1, "ee", "d", 0), id="length of the event"),
    pytest.param((1, "e", "dd", 0), (1, "e" * 2, "d", 0), id="a letter moved between the names"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_source_digest_tells_keys_apart(one, other):
    """What is another row to the source is another digest."""
    assert digest.source(frame([one])) != digest.source(frame([other]))


def text_of(row: dict[str, object]) -> str:
    """The text that is hashed, by the definition."""
    parts = []
    for name in DIGESTED:
        value = row[name]
        if isinstance(value, datetime):
            value = (value - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND
        parts.append("~" if value is None else f"{len(str(value).encode())}:{value}")
    return "".join(parts)


def test_row_hash_of_a_known_row():
    """The vector: the hash is its definition, and fixed for all versions."""
    (found,) = digest.row_hashes(rows({}))

    assert found == int(hashlib.md5(text_of(ROW).encode()).hexdigest()[:16], 16)
    assert found == 12134665229781802267


SAME_TEXTS = [
    pytest.param({"event": "ab", "distinct_id": "c"}, {"event": "a", "distinct_id": "bc"}, id="a letter moved"),
    pytest.param({"person_id": None}, {"person_id": "~"}, id="null and its sign"),
    pytest.param({"person_id": None}, {"person_id": ""}, id="null and empty"),
    pytest.param({"created_at": None}, {"created_at": DAY}, id="null and a time"),
    pytest.param({"properties": '{"a":1}'}, {"properties": '{"a": 1}'}, id="a blank in properties"),
    pytest.param({}, {"timestamp": DAY}, id="a microsecond"),
]


@pytest.mark.parametrize(("one", "other"), SAME_TEXTS)
def test_row_hash_tells_contents_apart(one, other):
    """Every landed column counts, to the byte."""
    first, second = digest.row_hashes(rows(one, other))

    assert first != second


def test_row_hash_leaves_out_when_a_row_was_loaded():
    """The same row loaded again is the same row."""
    first, second = digest.row_hashes(rows({}, {"_loaded_at": DAY + timedelta(days=1)}))

    assert first == second


@checked
@given(hashes, st.integers(0, 20), st.randoms(use_true_random=False))
def test_landed_digest_is_an_order_free_sum(found, cut, rng: random.Random):
    """The sum modulo 2^64, however large; parts in any order add up to the whole."""
    mixed = rng.sample(found, len(found))
    parts = [digest.landed(pl.Series(part, dtype=pl.UInt64)) for part in (mixed[:cut], mixed[cut:])]

    assert sum(parts) % MODULUS == digest.landed(pl.Series(found, dtype=pl.UInt64)) == sum(found) % MODULUS


def in_duckdb(table: pl.DataFrame) -> str:
    """SUM_SQL over the rows as the destination stores them."""
    with duckdb.connect(":memory:") as connection:
        connection.register("given", table.to_arrow())
        connection.execute(
            "CREATE TABLE events AS SELECT * REPLACE (uuid::UUID AS uuid, properties::JSON AS properties, "
            "person_properties::JSON AS person_properties) FROM given"
        )
        ((found,),) = connection.execute(f"SELECT {SUM_SQL} FROM events").fetchall()
    return found


VECTORS = [
    pytest.param([], id="no rows"),
    pytest.param([{}], id="one row"),
    pytest.param([{"timestamp": datetime(1969, 12, 31, tzinfo=UTC)}], id="before 1970"),
    pytest.param([{"person_id": "p", "person_properties": '{"b":2,"a":1E5}', "created_at": DAY}], id="all columns"),
    pytest.param([{"person_id": "p"}, {"person_id": None}, {"created_at": DAY}, {}], id="nulls beside values"),
    pytest.param([{"event": "a\x00b", "distinct_id": "", "elements_chain": 'a:b="\\""'}], id="odd names"),
    pytest.param([{"distinct_id": str(number)} for number in range(500)], id="a sum beyond 64 bits"),
]


@pytest.mark.parametrize("changes", VECTORS)
def test_landed_digest_is_the_same_in_polars_and_duckdb(changes):
    """Anyone can recompute what the ledger says in SQL, from the destination alone."""
    table = rows(*changes)

    assert in_duckdb(table) == str(digest.landed(digest.row_hashes(table)))
