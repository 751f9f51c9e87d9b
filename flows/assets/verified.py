"""`hedgerow verify` of a whole project: its events, and every stream that is landed beside them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flows.assets import verifying
from flows.assets.verifying import Checked
from flows.landing.session import STREAM
from flows.landing.verification import Verification
from flows.runs import findings
from flows.runs import verify as events
from flows.runs.catalog import STREAMS
from flows.runs.run import Report
from flows.runs.wiring import Listener, sink_of
from flows.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one project. *events*: None where none are landed; *others*: streams beside them."""

    project_id: int
    events: tuple[Verification, Report] | None
    others: tuple[Checked, ...] = ()

    @property
    def problems(self) -> list[str]:
        """What is not as it should be, in words."""
        of_events = findings.of_verification(self.events[0]) if self.events else []
        return [*of_events, *(problem for one in self.others for problem in one.problems)]

    @property
    def good(self) -> bool:
        return (self.events is None or self.events[0].good) and all(one.good for one in self.others)


def verify(
    settings: Settings,
    project_id: int,
    *,
    since: str | None = None,
    until: str | None = None,
    repair: bool = False,
    accept_deletions: bool = False,
    detail: bool = False,
    max_wait: timedelta | None = None,
    listener: Listener | None = None,
) -> Verified:
    """Verify what is landed of a project. A range is one of events, so that with one nothing else is looked at.

    Raises SettingsError, SourceError, SinkError; what is repaired stays.
    """
    sink, found = sink_of(settings, listener), None
    landed = [one for one in STREAMS if not one.ranged and not (since or until) and sink.origin(project_id, one.name)]
    if not landed or sink.origin(project_id, STREAM) is not None:
        found = events.verify_events(
            settings,
            project_id,
            since=since,
            until=until,
            repair=repair,
            accept_deletions=accept_deletions,
            detail=detail,
            max_wait=max_wait,
            listener=listener,
        )
    others = [
        verifying.verify(settings, project_id, one, repair=repair, max_wait=max_wait, listener=listener)
        for one in landed
    ]
    return Verified(project_id, found, tuple(others))
