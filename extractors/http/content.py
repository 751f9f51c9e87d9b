"""Contents as they come: fetched from where they lie, without the key, and taken up where they ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from extractors import errors
from extractors.http import answers
from extractors.http.exchange import Coming, Connections

MAX_HOPS = 3  # redirects from the content's address to where the content lies
SERVED = (200, 206, 416)


@dataclass(frozen=True, slots=True)
class Content:
    """A content as it comes: status 200, 206 or 416, lower-case headers, and its plain bytes, which can be read once.

    *packed*: the bytes came compressed, so that their number and place are not those of the headers.
    """

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]
    packed: bool


class Arriving(Protocol):
    """Whoever takes a content, piece by piece; *size*: how many bytes have come of it."""

    size: int

    @property
    def range_headers(self) -> Mapping[str, str]:
        """Range and If-Range: what is still to come."""
        ...

    def take(self, content: Content) -> None:
        """Read *content*, which goes on where the last one ended, or begins anew. Raises BodyCut where it is not whole."""
        ...


@contextmanager
def followed(
    first: Coming, connections: Connections, *, headers: Mapping[str, str], answer_s: float
) -> Iterator[Coming]:
    """What *first*, PostHog's answer, leads to: itself, or the store's answer. Asked with *headers*.

    Raises UnusableAnswer for an address that is none or is not safe.
    """
    with ExitStack() as held:
        coming, hops = first, 0
        while coming.redirect is not None and hops < MAX_HOPS:
            address, host = _place(coming, coming.redirect)
            coming = held.enter_context(connections.ask_elsewhere(address, headers, host=host, answer_s=answer_s))
            hops += 1
        yield coming


def refused(coming: Coming) -> errors.SourceUnavailable:
    """The error that a refusal of the store is; its address opens the content, and is not said."""
    return errors.SourceUnavailable(
        f"the store of contents, {coming.host}, answered {coming.status}",
        hint="run again later",
        retry_after_s=answers.retry_after_s(coming.headers),
    )


def _place(redirect: Coming, location: str) -> tuple[str, str]:
    """Address and host that *redirect* leads to."""
    try:
        address = urljoin(redirect.address, location)
        parts = urlsplit(address)
    except ValueError:  # whose words quote the address
        raise errors.UnusableAnswer("PostHog sends the content to what is no address") from None
    ours = urlsplit(redirect.address).scheme
    if parts.scheme not in ("http", "https") or (parts.scheme == "http" and ours == "https"):
        raise errors.UnusableAnswer(
            f"PostHog sends the content to {parts.scheme}://{parts.hostname}, expected https",
            hint="the content would travel unencrypted: mend the object store's address in PostHog",
        )
    return address, parts.hostname or "the store"
