"""What a verification found, line by line, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flows.landing.verification import Verification
from flows.report.words import counted, day
from flows.runs import findings

SHOWN = 20  # of what there may be many people are shown so many; --json has them all


def lines_of(done: Verification, *, repair: bool) -> Iterator[str]:
    """What a verification found, for people."""
    left = set(done.left)
    for difference in done.differences[:SHOWN]:
        source = "unknown" if difference.source_rows is None else f"{difference.source_rows:,}"
        why = " and ".join(
            word
            for word, said in (
                ("damaged at the destination", difference.damaged),
                ("changed at the source", difference.changed),
                ("in dispute since an earlier run", difference.standing),
                ("some of it could not be read", difference.unread),
            )
            if said
        )
        mended = (" · still differs" if difference.start in left else " · mended") if repair else ""
        yield (
            f"{day(difference.start)} .. {day(difference.end)}: {why}: landed {difference.ledger_rows:,}, "
            f"held {difference.held_rows:,}, source {source}{mended}"
        )
        for name in ("missing", "extra", "differing"):
            yield from _named(name, getattr(difference, name), difference.differing_in)
    if len(done.differences) > SHOWN:
        yield f"and {counted(len(done.differences) - SHOWN, 'more window')}: see --json"
    if done.unmerged:
        yield findings.unmerged(done.unmerged) + ("" if repair else "; hedgerow verify --repair reads them again now")
    yield from findings.of_verification(done)


def _named(name: str, uuids: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Uuids of one kind, one in a line; *columns*: in which their rows differ."""
    if uuids:
        yield f"  {name}: {counted(len(uuids), 'event')}"
    for uuid in uuids[:SHOWN]:
        yield f"    {uuid}" + (f" in {', '.join(columns[uuid])}" if name == "differing" else "")
    if len(uuids) > SHOWN:
        yield f"    and {len(uuids) - SHOWN:,} more: see --json"
