"""A page of rows as one gzip member, put together from packed blocks: little is packed anew, and no block summed again."""

from __future__ import annotations

import itertools
import struct
import zlib
from functools import lru_cache

from isal import isal_zlib

from bench.data import BLOCK_ROWS, DataSet

HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\x03"
POLYNOMIAL = 0xEDB88320
Body = list[bytes | memoryview]


def page(data: DataSet, first: int, last: int, following: str) -> Body:
    """The rows [first, last) and *following*, JSON, as `next`: pieces of the body, to be sent one behind the other."""
    head = b'{"next":%s,"results":[' % following.encode()
    begin, end = -(-first // BLOCK_ROWS), max(0, last - 1) // BLOCK_ROWS
    if first >= last:
        return _member(data, head, b"]}", 0, 0)
    left, right = _edges(data, first, last)
    return _member(data, head + left, right + b"]}", begin, max(begin, end))


def reversed_page(data: DataSet, first: int, last: int, following: str) -> Body:
    """The same, newest first."""
    if first >= last:
        return page(data, first, last, following)
    left, right = _edges(data, first, last)
    begin, end = -(-first // BLOCK_ROWS), max(0, last - 1) // BLOCK_ROWS
    rows = b"".join([left, *(data.rows_of(block) for block in range(begin, end)), right, b","])
    cuts = (data.ends[first : last + 1] - data.ends[first]).tolist()
    texts = [rows[start : stop - 1] for start, stop in itertools.pairwise(cuts)]
    head = b'{"next":%s,"results":[' % following.encode()
    return _member(data, head + b",".join(texts[::-1]), b"]}", 0, 0)


@lru_cache(maxsize=4096)
def _edges(data: DataSet, first: int, last: int) -> tuple[bytes, bytes]:
    """Rows before the first whole block and after the last one, which always holds the last row; no comma behind that."""
    begin, end = -(-first // BLOCK_ROWS), (last - 1) // BLOCK_ROWS
    start_of = data.ends[end * BLOCK_ROWS]
    right = data.rows_of(end)[max(0, int(data.ends[first] - start_of)) : int(data.ends[last] - start_of) - 1]
    if begin <= end and first % BLOCK_ROWS:
        start_of = data.ends[(begin - 1) * BLOCK_ROWS]
        return data.rows_of(begin - 1)[int(data.ends[first] - start_of) :], right
    return b"", right


def _member(data: DataSet, head: bytes, tail: bytes, begin: int, end: int) -> Body:
    """*head*, the blocks [begin, end), *tail*."""
    crc, size = zlib.crc32(head), len(head) + len(tail)
    blocks: Body = []
    if begin < end:
        length = int(data.ends[end * BLOCK_ROWS] - data.ends[begin * BLOCK_ROWS])
        # crc(AB) = shifted(crc(A), len(B)) ^ crc(B), and the sum over all before the blocks is known.
        crc = data.block_crc[end] ^ shifted(data.block_crc[begin] ^ crc, length)
        size += length
        blocks = [data.blocks[data.block_at[begin] : data.block_at[end]]]
    crc = zlib.crc32(tail, crc)
    return [HEADER, _packed(head), *blocks, _packed(tail, last=True), struct.pack("<II", crc, size & 0xFFFFFFFF)]


def _packed(text: bytes, *, last: bool = False) -> bytes:
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
    return bytes(packer.compress(text) + packer.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_FULL_FLUSH))


def shifted(crc: int, length: int) -> int:
    """The CRC-32 that *crc* becomes by *length* bytes of zero: crc · x^(8·length) modulo the polynomial."""
    power, bit = 1 << 31, 3  # bit: of 8·length
    while length:
        if length & 1:
            power = _product(_powers(bit), power)
        length >>= 1
        bit += 1
    return _product(power, crc)


@lru_cache(maxsize=64)
def _powers(exponent: int) -> int:
    """x^(2^exponent)."""
    return 1 << 30 if exponent == 0 else _product(_powers(exponent - 1), _powers(exponent - 1))


def _product(one: int, other: int) -> int:
    """Polynomials, reflected as CRC-32 is."""
    found, bit = 0, 1 << 31
    while one:
        if one & bit:
            found ^= other
            one ^= bit
        bit >>= 1
        other = other >> 1 ^ POLYNOMIAL if other & 1 else other >> 1
    return found
