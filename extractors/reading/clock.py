"""The server's clock: what a run is planned by. One answer's word, which another one must confirm."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from extractors import errors
from extractors.http.client import Client, Heard, one_clock
from extractors.reading.page import PageSource
from extractors.window import iso


class ServerClock:
    """The clock by the Date of answers. *tried*: an event of the server was asked for."""

    def __init__(self, client: Client, pages: PageSource) -> None:
        self._client = client
        self._pages = pages
        self._unconfirmed: Heard | None = None
        self.tried = False

    def now(self, *, first: bool = False) -> datetime:
        """As EventsReader.now says."""
        if first and not self.tried:
            self.tried = True
            # An answer that fails says nothing of the others: reading meets it again, where it matters.
            with suppress(errors.ServerFault, errors.RangeTooHeavy, errors.BodyCut, errors.RequestRefused):
                self._pages.newest()
                return self._told()
        try:
            self._pages.quiet()
        except errors.BodyCut as exc:
            raise errors.UnusableAnswer(
                f"{self._client.host} does not answer as PostHog does: 200 with what is no events list",
                hint="check POSTHOG_HOST: is it the address of the PostHog app?",
            ) from exc
        return self._told()

    def confirm(self) -> None:
        """Let the latest page confirm what now() was told; once, as a run is planned by the clock of its beginning.

        Raises ClockJumped where it does not, and UnusableAnswer where it has no Date.
        """
        told, self._unconfirmed = self._unconfirmed, None
        heard = self._client.heard
        if told is None or one_clock(told, heard):
            return
        raise errors.ClockJumped(
            f"the server's clock jumped: it said {iso(_date(told))}, and {heard.received_s - told.received_s:.0f} s later "
            f"{iso(_date(heard))}",
            hint="run again; if it stays, a server or a proxy behind this address has a wrong clock",
        )

    def confirm_by_any(self) -> None:
        """The same by the latest answer, if there is another one and it has a Date."""
        heard = self._client.heard
        if self._unconfirmed is not None and heard is not self._unconfirmed and heard.served_at is not None:
            self.confirm()

    def _told(self) -> datetime:
        told = _date(self._client.heard)
        self._unconfirmed = self._client.heard
        return told


def _date(heard: Heard) -> datetime:
    """The Date of an answer that must have one."""
    if heard.served_at is None:
        raise errors.UnusableAnswer("the server sends no Date header, so its clock is not known")
    return heard.served_at
