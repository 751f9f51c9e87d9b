"""`hedgerow check`: what a run would need, tried one by one, each with what was found and how to mend it.

Asks a handful of small questions and lands nothing. Streams beside events only warn, or are skipped where the server
has none: events do not need them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from extractors import errors
from extractors.filters import EventFilter
from extractors.http import decode
from extractors.http.client import Client
from extractors.lists.history import asked_first
from extractors.reading.events import EventsReader
from extractors.reading.zone import ZoneCheck
from extractors.request import WHOLE, Bucket, Request, events_page
from extractors.window import Range
from flows.landing.session import STREAM
from flows.report import words
from flows.runs import wiring
from flows.runs.catalog import STREAMS
from flows.runs.wiring import Listener
from flows.settings.model import Settings
from flows.settings.parse import SettingsError
from sinks.errors import FilterChanged, SinkError

SKEW = timedelta(minutes=2)
PAGE = 1_001  # one more than today's cloud gives, so that its clamp shows
SPANS = (timedelta(days=1), timedelta(days=30), timedelta(days=365))


class Verdict(StrEnum):
    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check. *error*: what failed, which decides the exit status; *requests*, *seconds*: what it took."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""
    error: Exception | None = None
    requests: int = 0
    seconds: float = 0.0


def check(settings: Settings, project_id: int, *, listener: Listener | None = None) -> Iterator[Finding]:
    """Findings about one project, in the order in which they build on each other."""
    with wiring.reader_of(settings, project_id, listener=listener or Listener(), max_wait=timedelta(minutes=2)) as (
        reader,
        client,
        _,
    ):
        client.patience = replace(client.patience, attempts=2, total_s=20, server_error_waits_s=(1.0,))
        asked, begun_s = 0, time.monotonic()
        for finding in _findings(settings, project_id, reader, client, listener=listener):
            sent = sum(client.requests.values())
            yield replace(finding, requests=sent - asked, seconds=time.monotonic() - begun_s)
            asked, begun_s = sent, time.monotonic()


def _findings(
    settings: Settings, project_id: int, reader: EventsReader, client: Client, *, listener: Listener | None
) -> Iterator[Finding]:
    reachable = True
    for finding in _access(settings, reader):
        yield finding
        reachable = reachable and finding.verdict is not Verdict.FAIL
    if reachable:
        yield from _events(client, project_id)
        yield _query(reader, project_id)
        for stream in STREAMS:
            if stream.resource:
                asked_first(client, stream.resource)
            by_name = stream.name not in settings.streams.include
            if stream.listed:
                yield listing(client, project_id, stream.listed, scope=stream.scope, by_name=by_name)
    if beyond := wiring.beyond_cloud(settings):
        yield Finding("limits", Verdict.WARN, beyond, "leave out [source] requests_per_minute and requests_per_hour")
    yield _destination(settings, project_id, listener)


def _access(settings: Settings, reader: EventsReader) -> Iterator[Finding]:
    """Host, TLS, key, scope and project, which one request tells apart, and the clock."""
    host = settings.source.host
    names = {"key": "key", "scope": "scopes", "project": "project"}
    try:
        served_at = reader.now()
    except errors.AccessDenied as exc:
        yield Finding("host", Verdict.OK, f"{host} answers")
        for about, name in names.items():
            if about == exc.about:
                yield _failed(name, exc)
                return
            yield Finding(name, Verdict.OK, "accepted")
        return
    except errors.SourceError as exc:
        yield _failed("host", exc)
        return
    yield Finding("host", Verdict.OK, f"{host} answers" + (", TLS verified" if host.startswith("https:") else ""))
    yield from (Finding(name, Verdict.OK, "accepted") for name in names.values())
    skew = wiring.now() - served_at
    seconds = f"{abs(skew.total_seconds()):.0f} s {'ahead of' if skew > timedelta(0) else 'behind'} the server's"
    if abs(skew) > SKEW:
        mend = "set this machine's clock (NTP): relative times such as 7d are taken from it"
        yield Finding("clock", Verdict.WARN, f"this machine's clock is {seconds}", mend)
    else:
        yield Finding("clock", Verdict.OK, f"this machine's clock is {seconds}")


def _events(client: Client, project_id: int) -> Iterator[Finding]:
    """One page of the last day, or of the last year where that is empty: row form, page size, address and time zone."""
    now = client.served_at or wiring.now()
    try:
        for span in SPANS:
            asked = Range(now - span, now)
            request = events_page(project_id, asked, limit=PAGE, events=EventFilter(), policy=WHOLE)
            page = decode.page(client.send(request).body)
            if page.received:
                break
        # The page holds every event, so what is asked again must not be filtered either.
        everything = EventsReader(client, project_id, events=EventFilter())
        ZoneCheck({}, everything.uuids).check(page, asked)
    except errors.ServerFault as exc:
        yield _not_served(client, project_id, exc)
        return
    except errors.SourceError as exc:
        yield _failed("events", exc)
        return
    prefix = client.prefixes.get("events", "environments")
    yield Finding("events", Verdict.OK, f"{_size(page, span)}, by /api/{prefix}/")
    if page.rejects.num_rows:
        reason = page.rejects["reason"][0].as_py()
        mend = "such rows go to hedgerow.quarantine and end a run with status 3"
        yield Finding("rows", Verdict.WARN, f"{page.rejects.num_rows} rows cannot be typed: {reason}", mend)


def _size(page: decode.Page, span: timedelta) -> str:
    """What one page tells of the size of pages, or of what there is."""
    if not page.more:
        return f"{words.counted(page.received, 'row')} in the last {words.counted(span.days, 'day')}"
    return f"pages of {page.received:,} rows" + (" or more" if page.received == PAGE else " at most")


def _not_served(client: Client, project_id: int, fault: errors.ServerFault) -> Finding:
    """A page that fails for a minute, while a question that finds no event is answered: an event of it is the cause."""
    try:
        EventsReader(client, project_id, events=EventFilter()).now()
    except errors.SourceError as exc:
        return _failed("events", exc)
    mend = "an event of the last day cannot be served: a sync names its microsecond, ends with status 3 and lands all others"
    return Finding("events", Verdict.WARN, str(fault), mend)


def _query(reader: EventsReader, project_id: int) -> Finding:
    """Counts by POST /query: without it every date is cut into hours, and nothing can be verified against the source."""
    now = wiring.now()
    try:
        if reader.probe.hour_counts(Range(now - timedelta(hours=2), now)) is not None:
            return Finding("query", Verdict.OK, "POST /query answers")
    except errors.SourceError as exc:
        return replace(_failed("query", exc), verdict=Verdict.WARN, error=None)
    if not reader.probe.refusal:
        return Finding("query", Verdict.WARN, f"no answer: {reader.probe.failure}", "run hedgerow check again later")
    found = f"refused: {reader.probe.refusal}"
    return Finding(
        "query", Verdict.WARN, found, f"without it nothing is compared with the source; {reader.probe.remedy}"
    )


def listing(client: Client, project_id: int, resource: str, *, scope: str, by_name: bool = False) -> Finding:
    """Whether the list of *resource* answers this key, and if not, whose fault it is. *by_name*: landed only if named, so
    that nothing is wrong with a key that may not."""
    try:
        client.send(Request(project_id, f"{resource}/", Bucket.REST, (("limit", "1"),)))
    except errors.AccessDenied as exc:
        mend = f"to load {resource}, give the key the scope {scope}" if exc.about == "scope" else exc.hint
        if by_name and exc.about == "scope":
            return Finding(resource, Verdict.SKIP, f"landed only when named: {exc}", mend)
        return Finding(resource, Verdict.WARN, str(exc), mend)
    except (errors.EndpointMissing, errors.NotOffered) as exc:
        return Finding(resource, Verdict.SKIP, f"not offered here: {exc}")
    except errors.RequestRefused as exc:
        return Finding(resource, Verdict.WARN, str(exc), "no scope helps: this server refuses the question itself")
    except errors.SourceError as exc:
        return replace(_failed(resource, exc), verdict=Verdict.WARN, error=None)
    return Finding(resource, Verdict.OK, "the list answers")


def _destination(settings: Settings, project_id: int, listener: Listener | None) -> Finding:
    try:
        sink = wiring.sink_of(settings, listener)
        existed = sink.exists()
        sink.check(
            project_id,
            STREAM,
            host=settings.source.host,
            event_filter=wiring.filter_of(settings).identity,
        )
    except (SinkError, SettingsError) as exc:
        return _failed("destination", exc)
    found = f"{sink.name} can be written" + ("" if existed else " (it does not exist yet)")
    return Finding("destination", Verdict.OK, found)


def _failed(name: str, exc: Exception) -> Finding:
    found = words.in_words(str(exc)) if isinstance(exc, FilterChanged) else str(exc)
    return Finding(name, Verdict.FAIL, found, str(getattr(exc, "hint", "")), exc)
