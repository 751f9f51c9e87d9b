"""What happens to a lake between two steps of a landing, and at its first writing by a newer hedgerow."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from sinks import errors
from sinks.entries import Damage, Note, State
from sinks.lake import marker
from sinks.lake.sink import LakeSink
from sinks.objects.base import Objects
from tests import stores
from tests.sinks.test_conformance import DAY, landing, names


@pytest.fixture
def lake(tmp_path) -> LakeSink:
    made = stores.local_lake(tmp_path / "lake")
    made.prepare(1, "events", host="https://a", event_filter="", rebuild=False)
    return made


def at_put(monkeypatch: pytest.MonkeyPatch, lake: LakeSink, meanwhile: Callable[[], object], *, after: bool) -> None:
    """*meanwhile* happens at the next PUT of a window: before it, or *after* it, in place of its answer."""
    put: Callable[..., str] = lake.objects.put
    waiting = [meanwhile]

    def putting(objects: Objects, path: str, *given: object, **more: object) -> str:
        now = waiting.pop() if path.endswith("Z.parquet") and waiting else lambda: None
        if not after:
            now()
        etag = put(path, *given, **more)
        if after:
            now()
        return etag

    monkeypatch.setattr(type(lake.objects), "put", putting)


def test_what_is_noted_while_a_tail_is_put_is_not_forgotten(lake, monkeypatch):
    """Another process finds damage in the part before the tail: the new landing is damaged, too, and for every reader."""
    (known,) = lake.land([landing("a", state=State.OPEN)])
    other = LakeSink(lake.objects)
    assert other.ledger(1, "events").entries == {DAY: known}
    at_put(monkeypatch, lake, lambda: other.note([Note(known, DAY, Damage())]), after=False)

    tail = landing("b", generation=1, replace_start=DAY + timedelta(minutes=1), first=1, state=State.OPEN)
    (entry,) = lake.land([tail])

    assert entry.generation == 2
    assert entry.facts.damaged
    assert LakeSink(lake.objects).ledger(1, "events").entries == {DAY: entry}


def lost() -> None:
    raise errors.DestinationBusy("the store does not answer")


def test_put_that_fails_after_it_was_taken_is_a_landing(lake, monkeypatch):
    """The store took the object and then answered no more: what stands there is ours by its id, and landed once."""
    at_put(monkeypatch, lake, lost, after=True)

    (entry,) = lake.land([landing("a")])

    assert (entry.generation, names(lake)) == (1, ["a"])


@pytest.mark.parametrize(("write", "left"), [(True, marker.FORMAT), (False, 2)], ids=["written", "looked at"])
def test_lake_of_an_older_format_is_marked_at_its_first_writing(write, left, lake):
    """An older hedgerow would not see what this one notes, and must refuse the lake; a look alone changes nothing."""
    lake.objects.put(marker.FORMAT_PATH, marker.json_of(format=2))

    marker.check_format(lake.objects, write=write)

    assert json.loads(lake.objects.get(marker.FORMAT_PATH)[0]) == {"format": left}
