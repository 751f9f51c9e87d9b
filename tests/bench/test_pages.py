"""What the benchmarks' server sends is what the truth holds."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data import BLOCK_ROWS
from bench.pages import page, reversed_page, shifted

RANGES = [
    pytest.param(0, 0, id="empty"),
    pytest.param(5, 20, id="inside a block"),
    pytest.param(5, BLOCK_ROWS, id="to a block's end"),
    pytest.param(BLOCK_ROWS - 1, BLOCK_ROWS + 1, id="over an edge"),
    pytest.param(BLOCK_ROWS, 2 * BLOCK_ROWS, id="one block"),
    pytest.param(BLOCK_ROWS, 2 * BLOCK_ROWS + 1, id="a block and a row"),
    pytest.param(100, 1_100, id="many blocks"),
    pytest.param(2_000, 3_000, id="to the end"),
]


@pytest.mark.parametrize(("first", "last"), RANGES)
@pytest.mark.parametrize("make", [page, reversed_page])
def test_a_page_is_one_gzip_member_of_the_rows_asked(made, truth, make, first, last):
    """Whatever blocks it is made of, a client that unpacks one member reads these rows, with their sum and length right."""
    inflate = zlib.decompressobj(31)
    body = inflate.decompress(b"".join(make(made, first, last, '"there"')))

    assert inflate.eof
    assert not inflate.unused_data
    found = json.loads(body)
    wanted = truth["uuid"].to_pylist()[first:last]
    assert [row["id"] for row in found["results"]] == (wanted if make is page else wanted[::-1])
    assert found["next"] == "there"


def test_rows_are_sent_as_the_truth_has_them(made, truth):
    """Every column that is compared after a run stands in the row, properties to the letter."""
    body = zlib.decompress(b"".join(page(made, 0, 500, "null")), 31)

    for row, wanted in zip(json.loads(body)["results"], truth.slice(0, 500).to_pylist(), strict=True):
        assert row["timestamp"] == wanted["timestamp"].isoformat()
        assert f'"properties":{wanted["properties"]},'.encode() in body
        assert [row[name] for name in ("event", "distinct_id", "elements_chain")] == [
            wanted[name] for name in ("event", "distinct_id", "elements_chain")
        ]


@given(st.binary(max_size=50), st.integers(0, 500))
def test_a_sum_is_shifted_as_by_zeros(text, length):
    """crc(AB) = shifted(crc(A), len(B)) ^ crc(B)."""
    zeros = b"\0" * length

    assert shifted(zlib.crc32(text), length) ^ zlib.crc32(zeros) == zlib.crc32(text + zeros)
