"""Streams beside events landed as tables: what is new or changed, nothing twice (docs/streams.md).

Contents go to the destination byte for byte before they expire; a content whose sha256 is known is never fetched again.
Each asset is committed with its content, so that a run that ends goes on where it stopped.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from datetime import datetime, timedelta

from extractors.errors import AccessDenied, EndpointMissing, RequestRefused
from extractors.http.client import Client
from flows.assets.exports import land_exports
from flows.assets.history import land_history
from flows.assets.synced import Synced
from flows.runs.catalog import BY_NAME, Mechanism
from flows.runs.history import INTERRUPTED, record
from flows.runs.wiring import Listener, client_of, now, sink_of
from flows.settings.model import Settings
from sinks.destination import Destination
from sinks.errors import SinkError


def sync(
    settings: Settings,
    project_id: int,
    stream: str,
    *,
    named: bool,
    accept_deletions: bool = False,
    rebuild: bool = False,
    max_wait: timedelta | None = None,
    listener: Listener | None = None,
) -> Synced:
    """Land what is new of a *stream* beside events. *named*: the user asked for this stream; otherwise a key or server
    that has none is no error. *accept_deletions*: what the source does not show any more is deleted, however much it is.
    *rebuild*: tables of kept contents are made anew first, where the stream has any.

    Raises SettingsError, SourceError, SinkError; what is committed stays.
    """
    listener = listener or Listener()
    started_at = now()
    done = Synced(project_id, stream)
    sink = sink_of(settings, listener)
    sink.check(project_id, stream, host=settings.source.host, event_filter="")
    with sink.held(), client_of(settings, listener=listener, max_wait=max_wait) as (client, _):
        error = ""
        try:
            _land(settings, client, sink, done, accept_deletions=accept_deletions, rebuild=rebuild)
        except (AccessDenied, EndpointMissing, RequestRefused) as exc:
            # A key that is wrong, or has no such project, is wrong for every stream.
            if named or (isinstance(exc, AccessDenied) and exc.about != "scope"):
                raise
            done.skipped = str(exc)
            return done
        except Exception as exc:
            error = f"{type(exc).__name__}: {exc}"[:500]
            raise
        except BaseException:
            error = INTERRUPTED
            sink.stop_waiting()
            raise
        finally:
            done.requests = sum(client.requests.values())
            _remember(sink, done, started_at=started_at, error=error)
    return done


def _land(
    settings: Settings, client: Client, sink: Destination, done: Synced, *, accept_deletions: bool, rebuild: bool
) -> None:
    stream = BY_NAME[done.stream]
    if stream.mechanism is Mechanism.HISTORY:
        land_history(settings.source.host, client, sink, done, stream, accept_deletions=accept_deletions)
    else:
        land_exports(settings, done.project_id, client, sink, done, rebuild=rebuild)


def _remember(sink: Destination, done: Synced, *, started_at: datetime, error: str) -> None:
    """Write the run into the destination's history, where there is one; which must not hide the error that ended it."""
    ended_at = now()
    done.seconds = round((ended_at - started_at).total_seconds(), 3)
    with suppress(SinkError) if error else nullcontext():
        if sink.exists() and not done.skipped and (error or sink.origin(done.project_id, done.stream)):
            rows = done.new + done.changed
            record(sink, done, command="sync", started_at=started_at, finished_at=ended_at, error=error, rows=rows)
