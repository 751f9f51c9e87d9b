"""Data sets that are made once and kept: rows as the server sends them, in packed blocks, and the truth to compare with.

A set is a directory: `blocks.deflate` holds BLOCK_ROWS rows at a time, each followed by a comma, as deflate blocks that
stand alone and can be joined; the arrays beside it are prefixes over rows and blocks, so that any range of time is
answered by two look-ups. `truth.parquet` is what a destination must hold.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from extractors.simulator.data.dataset import CHAIN, WEB
from extractors.simulator.data.elements import elements_text

VERSION = 2  # of what a seed makes; another one is another set
SEED = 20
BLOCK_ROWS = 64
END = datetime(2025, 3, 1, tzinfo=UTC)
ROWS_PER_DAY = 16_667  # whatever the number of rows: a larger set is a longer history
DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
CREATED_US = 1_500_000  # after its time an event is stored
PRIME = 1_000_003
SUMS = ("x", "t", "xt", "xn", "m")  # as hedgerow's probe sums them
CHUNK = 800 * BLOCK_ROWS
Numbers = np.ndarray[Any, np.dtype[Any]]

NAMES = ("$pageview", "$pageleave", "$autocapture", "$identify", "purchase", "$feature_flag_called", "survey sent")
PATHS = ("/", "/pricing", "/docs/install", "/shop/shoes", "/shop/coats", "/checkout", "/account/orders", "/blog")
SHORT = '{{"n":{n},"price":{n}.5,"$insert_id":"{a}"}}'
LONG = (
    json.dumps({name: value for name, value in WEB.items() if name != "$raw_user_agent"}, ensure_ascii=False)
    .replace("{", "{{")
    .replace("}", "}}")[:-2]
    + ',"$current_url":"https://shop.example{path}?utm_source=news&n={n}","$pathname":"{path}","$insert_id":"{a}",'
    '"$session_id":"{b}","$device_id":"{c}","$window_id":"{d}","token":"{e}","title":"Shop ✓","price":{n}.25}}'
)
SHAPES = {1000: LONG, 330: SHORT}
"""Properties by the bytes that a row has, more or less."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Which data set: *rows* of about *row_bytes* of JSON."""

    rows: int
    row_bytes: int = 1000

    def __post_init__(self) -> None:
        if self.row_bytes not in SHAPES:
            raise ValueError(f"rows of {self.row_bytes} bytes are not made: expected {sorted(SHAPES)}")

    @property
    def directory(self) -> Path:
        """Where it is kept: BENCH_DATA, or the user's cache."""
        base = os.environ.get("BENCH_DATA") or platformdirs.user_cache_dir("hedgerow-bench")
        return Path(base) / f"v{VERSION}-{self.rows}-{self.row_bytes}"

    @property
    def truth(self) -> Path:
        """What a destination must hold, as Parquet."""
        return self.directory / "truth.parquet"

    @property
    def start_us(self) -> int:
        """First midnight, µs since 1970."""
        return self.end_us - -(-self.rows // ROWS_PER_DAY) * DAY_US

    @property
    def end_us(self) -> int:
        return int(END.timestamp()) * 1_000_000


class DataSet:
    """A kept set, mapped into memory."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.directory = kind, kind.directory
        self.facts = json.loads((self.directory / "facts.json").read_text(encoding="utf-8"))
        self.micros = self._array("micros")
        self.ends = self._array("ends")
        self.block_at = [int(at) for at in self._array("block_at")]
        self.block_crc = [int(crc) for crc in self._array("block_crc")]
        with (self.directory / "blocks.deflate").open("rb") as file:
            self.blocks = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))

    @cached_property
    def sums(self) -> dict[str, Numbers]:
        """Prefix sums modulo 2^64, by SUMS."""
        return {name: self._array(f"sum_{name}") for name in SUMS}

    def rows_of(self, block: int) -> bytes:
        """The rows of *block*, a comma behind each."""
        packed = self.blocks[self.block_at[block] : self.block_at[block + 1]]
        return zlib.decompressobj(-15).decompress(packed)

    def _array(self, name: str) -> Numbers:
        found: Numbers = np.load(self.directory / f"{name}.npy", mmap_mode="r")
        return found


def kept(kind: Kind) -> DataSet:
    """The data set, made if it is not there yet."""
    if not (kind.directory / "facts.json").exists():
        working = kind.directory.with_name(f"{kind.directory.name}.{os.getpid()}")
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir(parents=True)
        _make(kind, working)
        shutil.rmtree(kind.directory, ignore_errors=True)
        working.rename(kind.directory)
    return DataSet(kind)


def _make(kind: Kind, directory: Path) -> None:
    micros = _times(kind)
    lengths, digits, weights, totals = [np.zeros(1, np.int64)], [], [], [0]
    least: dict[int, str] = {}
    crcs, crc, packer = [0], 0, zlib.compressobj(6, zlib.DEFLATED, -15)
    schema = pa.schema(
        [(name, pa.string()) for name in ("uuid", "event", "distinct_id", "properties", "elements_chain")]
    )
    schema = schema.insert(3, pa.field("timestamp", pa.timestamp("us", "UTC")))
    with (
        (directory / "blocks.deflate").open("wb") as blocks,
        pq.ParquetWriter(directory / "truth.parquet", schema, compression="zstd") as truth,
    ):
        for at, columns in _chunks(kind, micros):
            times = pa.array(micros[at : at + CHUNK]).cast(pa.timestamp("us", "UTC"))
            arrays = [pa.array(column, pa.string()) for column in columns]
            truth.write_table(pa.table([*arrays[:3], times, *arrays[3:]], schema=schema))
            texts = _rows(columns, np.datetime_as_string(micros[at : at + CHUNK].astype("M8[us]")).tolist())
            lengths.append(np.array([len(text) for text in texts], np.int64))
            digits.append(np.array([int(uuid[-10:], 16) for uuid in columns[0]], np.uint64))
            named = zip(columns[1], columns[2], strict=True)
            weights.append(np.array([len(event) + 31 * len(who) for event, who in named], np.uint64))
            for hour, uuid in zip((micros[at : at + CHUNK] // HOUR_US).tolist(), columns[0], strict=True):
                least[hour] = min(least.get(hour, uuid), uuid)
            for first in range(0, len(texts), BLOCK_ROWS):
                block = b"".join(texts[first : first + BLOCK_ROWS])
                crc = zlib.crc32(block, crc)
                crcs.append(crc)
                totals.append(totals[-1] + blocks.write(packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)))
    arrays_of = {"micros": micros, "ends": np.cumsum(np.concatenate(lengths))}
    arrays_of |= {"block_at": np.array(totals, np.int64), "block_crc": np.array(crcs, np.uint32)}
    arrays_of |= _sums(micros, np.concatenate(digits), np.concatenate(weights))
    for name, array in arrays_of.items():
        np.save(directory / f"{name}.npy", array)
    facts = {"rows": kind.rows, "bytes": int(arrays_of["ends"][-1]), "packed": totals[-1], "least": least}
    (directory / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _times(kind: Kind) -> Numbers:
    """Ascending, never a whole second; every 100th row or so shares its time with the four behind it."""
    rng = np.random.default_rng([SEED, kind.rows])
    micros = np.sort(rng.integers(kind.start_us, kind.end_us, kind.rows) // 1000 * 1000 + 1)
    for first in np.flatnonzero(rng.random(kind.rows) < 1 / 100):
        micros[first : first + 5] = micros[first]
    return micros


def _chunks(kind: Kind, micros: Numbers) -> Iterator[tuple[int, list[list[str]]]]:
    """First row and columns of each chunk: uuid, event, distinct id, properties, chain."""
    rng = np.random.default_rng([SEED, kind.rows, kind.row_bytes])
    shape = SHAPES[kind.row_bytes]
    for at in range(0, kind.rows, CHUNK):
        times = micros[at : at + CHUNK]
        count = len(times)
        drawn = rng.bytes(80 * count).hex()
        words = [drawn[place : place + 160] for place in range(0, 160 * count, 160)]
        names = [NAMES[one] for one in rng.integers(len(NAMES), size=count)]
        paths = [PATHS[one] for one in rng.integers(len(PATHS), size=count)]
        people = [f"user-{one}" for one in rng.integers(kind.rows // 20 + 1, size=count)]
        uuids = [
            f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7{word[:3]}-8{word[3:6]}-{word[6:18]}"
            for ms, word in zip((times // 1000).tolist(), words, strict=True)
        ]
        properties = [
            shape.format(n=number, path=path, a=word[18:34], b=word[34:48], c=word[48:80], d=word[80:112], e=word[112:])
            for number, path, word in zip(range(at, at + count), paths, words, strict=True)
        ]
        yield at, [uuids, names, people, properties, [CHAIN if name == "$autocapture" else "" for name in names]]


def _rows(columns: list[list[str]], times: list[str]) -> list[bytes]:
    """Rows in the order of keys that servers have, each with a comma behind it."""
    chains = {chain: f'"elements":{elements_text(chain)},"elements_chain":{json.dumps(chain)}' for chain in ("", CHAIN)}
    return [
        (
            f'{{"id":"{uuid}","distinct_id":"{who}","properties":{properties},"event":"{event}",'
            f'"timestamp":"{at}+00:00","person":null,{chains[chain]}}},'
        ).encode()
        for uuid, event, who, properties, chain, at in zip(*columns, times, strict=True)
    ]


def _sums(micros: Numbers, x: Numbers, weights: Numbers) -> dict[str, Numbers]:
    prime = np.uint64(PRIME)
    t = (micros % DAY_US).astype(np.uint64)
    m = ((micros + CREATED_US) % DAY_US).astype(np.uint64)
    columns = {"x": x, "t": t, "xt": x % prime * (t % prime), "xn": x % prime * weights, "m": m}
    return {f"sum_{name}": np.concatenate([[np.uint64(0)], np.cumsum(column)]) for name, column in columns.items()}
