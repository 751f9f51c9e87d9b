"""A page of rows as one gzip member, put together from packed blocks: little is packed anew, and no block summed again."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from isal import isal_zlib

from bench.data import BLOCK_ROWS, DataSet

HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\x03"
POLYNOMIAL = 0xEDB88320
Body = list[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Piece:
    """Text, and the same as deflate blocks."""

    plain: bytes
    packed: bytes


def page(data: DataSet, first: int, last: int, following: str) -> Body:
    """The rows [first, last) and *following*, JSON, as `next`: pieces of the body, to be sent one behind the other."""
    head = _stored(b'{"next":%s,"results":[' % following.encode())
    if first >= last:
        return _member(data, [head], _packed(b"]}", last=True), 0, 0)
    begin, end = -(-first // BLOCK_ROWS), (last - 1) // BLOCK_ROWS
    left, right = _edges(data, first, last)
    return _member(data, [head, left], right, begin, max(begin, end))


def reversed_page(data: DataSet, first: int, last: int, following: str) -> Body:
    """The same, newest first."""
    if first >= last:
        return page(data, first, last, following)
    left, right = _edges(data, first, last)
    begin, end = -(-first // BLOCK_ROWS), (last - 1) // BLOCK_ROWS
    rows = b"".join([left.plain, *(data.rows_of(block) for block in range(begin, end)), right.plain])
    cuts = (data.ends[first : last + 1] - data.ends[first]).tolist()
    texts = [rows[start : stop - 1] for start, stop in pairwise(cuts)]
    head = b'{"next":%s,"results":[' % following.encode()
    return _member(data, [], _packed(head + b",".join(texts[::-1]) + b"]}", last=True), 0, 0)


@lru_cache(maxsize=4096)
def _edges(data: DataSet, first: int, last: int) -> tuple[Piece, Piece]:
    """Rows before the first whole block, and those after the last one, which always hold the last row, and the end."""
    begin, end = -(-first // BLOCK_ROWS), (last - 1) // BLOCK_ROWS
    start_of = data.ends[end * BLOCK_ROWS]
    rows = data.rows_of(end)[max(0, int(data.ends[first] - start_of)) : int(data.ends[last] - start_of) - 1]
    right = _packed(rows + b"]}", last=True)
    if begin <= end and first % BLOCK_ROWS:
        start_of = data.ends[(begin - 1) * BLOCK_ROWS]
        return _packed(data.rows_of(begin - 1)[int(data.ends[first] - start_of) :]), right
    return Piece(b"", b""), right


def _member(data: DataSet, heads: list[Piece], tail: Piece, begin: int, end: int) -> Body:
    """*heads*, the blocks [begin, end), *tail*."""
    crc, size = 0, len(tail.plain)
    for head in heads:
        crc, size = zlib.crc32(head.plain, crc), size + len(head.plain)
    blocks: Body = []
    if begin < end:
        length = int(data.ends[end * BLOCK_ROWS] - data.ends[begin * BLOCK_ROWS])
        # crc(AB) = shifted(crc(A), len(B)) ^ crc(B), and the sum over all before the blocks is known.
        crc = data.block_crc[end] ^ shifted(data.block_crc[begin] ^ crc, length)
        size += length
        blocks = [data.blocks[data.block_at[begin] : data.block_at[end]]]
    crc = zlib.crc32(tail.plain, crc)
    ending = struct.pack("<II", crc, size & 0xFFFFFFFF)
    return [HEADER, *(head.packed for head in heads), *blocks, tail.packed, ending]


def _packed(text: bytes, *, last: bool = False) -> Piece:
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
    packed = packer.compress(text) + packer.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_FULL_FLUSH)
    return Piece(text, bytes(packed))


def _stored(text: bytes) -> Piece:
    """One deflate block that holds *text*, of less than 64 KiB, as it is."""
    return Piece(text, struct.pack("<BHH", 0, len(text), len(text) ^ 0xFFFF) + text)


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
