"""Damage to one row of an answer: what it is, and which row it hits (faults.ROW_KINDS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from extractors.simulator.data.dataset import Dataset, Event, Person
from extractors.simulator.data.listing import Found
from extractors.simulator.data.rows import row, shown_timestamp
from extractors.simulator.faults import ROW_KINDS, Fault
from extractors.simulator.profiles import Profile

LEVELS = 1_000
IN_PLACE = tuple(kind for kind in ROW_KINDS if kind != "stray-row")
PLACE = "DAMAGED HERE"


def victim(events: Sequence[Event], fault: Fault | None) -> int | None:
    """Position of the row that *fault* damages: the pinned uuid's, else the least uuid's; None if there is none."""
    if fault is None or fault.kind not in IN_PLACE:
        return None
    candidates = [at for at, event in enumerate(events) if not fault.uuid or event.uuid == fault.uuid]
    return min(candidates, key=lambda at: events[at].uuid, default=None)


def damaged(kind: str, event: Event, person: Person | None, profile: Profile) -> bytes:
    """The row of *event* with the damage *kind*, one of IN_PLACE."""
    if kind == "nan":
        return row(_with(event, "NaN"), person, profile)
    if kind == "deep":
        return row(_with(event, "[" * LEVELS + "]" * LEVELS), person, profile)
    if kind == "bad-utf8":
        return row(_with(event, f'"{PLACE}"'), person, profile).replace(PLACE.encode(), b"\xff\xfe")
    shown = shown_timestamp(event.timestamp, profile)
    honest = f'"timestamp":"{shown}"'.encode()
    head, _, tail = row(event, person, profile).rpartition(honest)
    moment, zone = (shown[:-1], "Z") if shown.endswith("Z") else (shown[:-6], shown[-6:])
    if kind == "nanoseconds":
        moment += ("" if "." in moment else ".000000") + "789"
        return head + f'"timestamp":"{moment}{zone}"'.encode() + tail
    return head + f'"timestamp":"{moment}"'.encode() + tail


def stray(dataset: Dataset, found: Found, fault: Fault) -> Event | None:
    """A real event outside of the range that *found* answers: the pinned one, the last before it, or the first behind."""
    earlier = dataset.between(None, found.after + 1) if found.after is not None else ()
    later = dataset.between(found.before - 1, None)
    if fault.uuid:
        return next((event for event in (*earlier, *later) if event.uuid == fault.uuid), None)
    return earlier[-1] if earlier else later[0] if later else None


def _with(event: Event, value: str) -> Event:
    """*event* with one more property of this JSON text, or of what is no JSON."""
    rest = event.properties[1:].lstrip()
    comma = "" if rest.startswith("}") else ","
    return replace(event, properties=f'{{"$damaged":{value}{comma}{rest}')
