"""Order-free digests: what the source showed and what was landed, as sums modulo 2^64.

Sums make digests of parts add up to the digest of the whole. Definitions: design.md, "What the ledger proves"; the
source form was equal between HogQL and DuckDB on a real server (facts/posthog-api.md §10).
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass

import polars as pl

from transforms.schema import DIGESTED

MODULUS = 2**64
SLICE_ROWS = 2_000
_PRIME = 1_000_003


@dataclass(frozen=True, slots=True)
class SourceDigest:
    """Five sums over distinct (uuid, event, distinct_id, timestamp): count, Σu, Σt, Σut, Σun (mod 2^64).

    u: the uuid's last ten hex digits; t: µs of the UTC day; n: bytes of event + 31 · bytes of distinct_id; the factors
    of the products are taken modulo 1000003 (n is not).
    """

    count: int = 0
    u: int = 0
    t: int = 0
    ut: int = 0
    un: int = 0

    def __add__(self, other: SourceDigest) -> SourceDigest:
        return SourceDigest(*((a + b) % MODULUS for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        return ":".join(map(str, astuple(self)))

    @staticmethod
    def parse(text: str) -> SourceDigest:
        return SourceDigest(*map(int, text.split(":")))


def source(keys: pl.DataFrame) -> SourceDigest:
    """Digest of distinct keys: columns uuid, timestamp, _n (bytes of event + 31 · bytes of distinct_id, as read)."""
    if keys.is_empty():
        return SourceDigest()
    u = pl.col("uuid").str.slice(-10).str.to_integer(base=16, dtype=pl.Int64)
    t = pl.col("timestamp").dt.epoch("us") % 86_400_000_000
    sums = keys.select(
        u.sum().alias("u"),
        t.sum().alias("t"),
        ((u % _PRIME) * (t % _PRIME)).sum().alias("ut"),
        ((u % _PRIME) * pl.col("_n")).sum().alias("un"),
    ).row(0)
    return SourceDigest(keys.height, *(int(value) % MODULUS for value in sums))


def key_bytes(rows: pl.DataFrame) -> pl.Series:
    """n of every row: bytes of event + 31 · bytes of distinct_id."""
    n = pl.col("event").str.len_bytes().cast(pl.Int64) + 31 * pl.col("distinct_id").str.len_bytes().cast(pl.Int64)
    return rows.select(n.alias("_n")).to_series()


def row_hashes(rows: pl.DataFrame) -> pl.Series:
    """64 bits of every row over all landed columns but `_loaded_at`: the first eight bytes of an MD5, big-endian.

    The text hashed is, column by column, `<bytes>:<text>` or `~` for null; timestamps as µs since 1970. MD5 because
    DuckDB has it too, so that anyone can recompute it in SQL (docs/ledger.md); it is no secret.
    """
    digests: list[bytes] = []
    for part in rows.iter_slices(SLICE_ROWS):  # the texts are as large as the rows
        texts = part.select(pl.concat_str([one for name in DIGESTED for one in _hashed(part[name])]).cast(pl.Binary))
        digests += [hashlib.md5(text, usedforsecurity=False).digest() for text in texts.to_series()]
    first_eight = pl.Series("_h", digests, dtype=pl.Binary).bin.slice(0, 8)
    return first_eight.bin.reinterpret(dtype=pl.UInt64, endianness="big")


def _hashed(column: pl.Series) -> list[pl.Expr]:
    """What of a column's values enters the text hashed: a word where all are null, no question for nulls where none is."""
    if column.null_count() == len(column):
        return [pl.lit("~")]
    value = pl.col(column.name)
    text = (value.dt.epoch("us") if column.dtype == pl.Datetime("us", "UTC") else value).cast(pl.String)
    parts = [text.str.len_bytes().cast(pl.String), pl.lit(":"), text]
    return [pl.concat_str(parts).fill_null("~")] if column.null_count() else parts


def landed(hashes: pl.Series) -> int:
    """Σ of row hashes modulo 2^64; the halves are summed apart so that nothing overflows on the way."""
    if hashes.is_empty():
        return 0
    high, low = int((hashes // 2**32).sum()), int((hashes % 2**32).sum())
    return (high * 2**32 + low) % MODULUS
