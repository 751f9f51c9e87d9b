"""Builds the parts of a run out of the settings. The clock is read here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from extractors.filters import EventFilter
from extractors.http import pacing
from extractors.http.client import Client, Source
from extractors.http.pacing import Limit, Pacing, Share, Wait
from extractors.reading.events import EventsReader
from extractors.request import Bucket
from flows.landing import session
from flows.runs.destinations import destination_of, network
from flows.runs.memory import shares
from flows.settings.load import environment
from flows.settings.model import Settings
from flows.settings.parse import KEY_HELP, SettingsError
from sinks.destination import Destination


@dataclass(frozen=True, slots=True)
class Listener(session.Listener):
    """Whom a run tells what happens; of waits for the limits as well, and of a destination that is busy: by whom, and how
    long it is waited for at most; None when that is over."""

    wait: Callable[[Wait], None] = lambda wait: None
    busy: Callable[[Wait | None], None] = lambda wait: None


def now() -> datetime:
    return datetime.now(UTC)


def projects(settings: Settings) -> tuple[int, ...]:
    """The projects to load. Raises SettingsError that tells a newcomer what to set."""
    missing = []
    if settings.source.key is None:
        missing.append("POSTHOG_PERSONAL_API_KEY")
    if not settings.source.project_id:
        missing.append("POSTHOG_PROJECT_ID")
    if missing:
        raise SettingsError(
            f"not set, in the environment or in .env: {' and '.join(missing)}",
            hint=f"{KEY_HELP}; the project id stands under Settings → Project; EU cloud: also set "
            "POSTHOG_HOST=https://eu.posthog.com. Without PostHog: hedgerow demo",
        )
    return settings.source.project_id


def sink_of(settings: Settings, listener: Listener | None = None, *, address: str | None = None) -> Destination:
    """The destination, or the one at *address*. Raises SettingsError for an address that is none.

    From here on what the process creates (database, WAL, objects, contents, spool) is the user's alone, under Prefect too.
    """
    os.umask(0o077)
    heard, longest_s = listener or Listener(), settings.duckdb.lock_timeout.total_seconds()
    return destination_of(
        settings, address, on_wait=lambda holder: heard.busy(None if holder is None else Wait(longest_s, holder))
    )


@contextmanager
def reader_of(
    settings: Settings,
    project_id: int,
    *,
    listener: Listener,
    max_wait: timedelta | None,
    share: Share | None = None,
) -> Iterator[tuple[EventsReader, Client, Pacing]]:
    """A reader of the project's events, with its client and budget, or a *share* of that."""
    with client_of(settings, listener=listener, max_wait=max_wait, share=share) as (client, budget):
        page_bytes = shares(settings.run.memory).page
        yield EventsReader(client, project_id, events=filter_of(settings), page_bytes=page_bytes), client, budget


@contextmanager
def client_of(
    settings: Settings, *, listener: Listener, max_wait: timedelta | None, share: Share | None = None
) -> Iterator[tuple[Client, Pacing]]:
    """A client of the source, with the budget of its key, or a *share* of it."""
    source = settings.source
    assert source.key is not None
    key = source.key.get_secret_value()
    ways = network().way
    ways(source.host)  # what cannot be used is said before anything is asked
    try:
        budget = pacing_of(settings, key, listener=listener, max_wait=max_wait, share=share)
    except OSError as exc:
        raise SettingsError(
            f"cannot write the state directory {source.state_dir}{_chosen(settings)}: {exc.strerror}",
            hint="set HEDGEROW_STATE_DIR to a directory that can be written",
        ) from exc
    client = Client(Source(source.host, key), budget, on_retry=listener.retry, ways=ways)
    try:
        yield client, budget
    finally:
        client.close()


def _chosen(settings: Settings) -> str:
    """Which variable led to a state directory that nobody named."""
    if "state_dir" in settings.source.model_fields_set:
        return ""
    return f" (by {'XDG_STATE_HOME' if environment({}).get('XDG_STATE_HOME') else 'HOME'})"


def pacing_of(
    settings: Settings, key: str, *, listener: Listener, max_wait: timedelta | None, share: Share | None = None
) -> Pacing:
    """The budget that every process of the key shares."""
    source = settings.source
    return Pacing(
        source.state_dir,
        host=source.host,
        key=key,
        limits=limits_of(settings),
        in_flight=source.in_flight,
        share=share,
        max_wait_s=max_wait.total_seconds() if max_wait is not None else None,
        on_wait=listener.wait,
    )


def limits_of(settings: Settings) -> dict[Bucket, Limit]:
    """The limits in force: the list's are settings, the others PostHog's own."""
    listed = Limit(settings.source.requests_per_minute, settings.source.requests_per_hour)
    return {
        Bucket.LIST: listed,
        Bucket.QUERY: pacing.QUERY,
        Bucket.VALUES: pacing.VALUES,
        Bucket.REST: pacing.REST,
    }


def beyond_cloud(settings: Settings) -> str:
    """What PostHog Cloud answers to limits above its own, which are the defaults; empty where none is (docs/backfill.md)."""
    if not settings.source.host.endswith(".posthog.com"):
        return ""
    wanted, cloud = limits_of(settings)[Bucket.LIST], limits_of(Settings())[Bucket.LIST]
    if wanted.per_minute <= cloud.per_minute and wanted.per_hour <= cloud.per_hour:
        return ""
    return (
        f"{wanted.per_minute:,} requests a minute and {wanted.per_hour:,} an hour are set; PostHog Cloud answers "
        f"{cloud.per_minute:,} and {cloud.per_hour:,}, and asks to wait beyond them (429)"
    )


def list_limit(settings: Settings, share: Share | None = None) -> Limit:
    """The limit of the events list that a run keeps: its *share* of it, where it has one."""
    limit = limits_of(settings)[Bucket.LIST]
    return limit.part(share.of) if share else limit


def filter_of(settings: Settings) -> EventFilter:
    return EventFilter(settings.events.include, settings.events.exclude)
