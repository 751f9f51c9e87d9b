"""The limit: what no program can be faster than that asks for the pages one behind the other and keeps nothing.

httpx streams, zlib unpacks, msgspec parses into six fields with raw properties, `next` is followed. FROZEN: figures of
different times are compared by it, so it is never made faster or slower.

    python -m bench.limit <url> <start> <end> <rows a page>
"""

from __future__ import annotations

import sys
import zlib

import httpx
import msgspec


class Row(msgspec.Struct):
    id: str
    event: str
    distinct_id: str
    timestamp: str
    properties: msgspec.Raw
    elements_chain: str


class Page(msgspec.Struct):
    next: str | None
    results: list[Row]


def main() -> None:
    url, start, end, limit = sys.argv[1:]
    decoder, rows = msgspec.json.Decoder(Page), 0
    params = {"orderBy": '["timestamp"]', "after": start, "before": end, "limit": limit}
    following: str | None = str(httpx.URL(f"{url}/api/environments/1/events/", params=params))
    headers = {"Authorization": "Bearer phx_bench", "Accept-Encoding": "gzip"}
    with httpx.Client(headers=headers, timeout=60) as client:
        while following:
            inflate, parts = zlib.decompressobj(31), []
            with client.stream("GET", following) as response:
                response.raise_for_status()
                for piece in response.iter_raw():
                    parts.append(inflate.decompress(piece))
            page = decoder.decode(b"".join(parts))
            following, rows = page.next, rows + len(page.results)
    print(rows)


if __name__ == "__main__":
    main()
