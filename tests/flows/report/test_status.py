"""`hedgerow status`: what is said of a stream follows from its ledger and histories, and the page needs nothing but itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flows.report import documents, files, results, status_page, words
from flows.report.status import Day, Kind, Segment, Summary, Used, cells, summary
from flows.report.status_page import page
from flows.settings.parse import SettingsError
from sinks.entries import HEAVY, Changes, Entry, Probed, State, Tally
from sinks.ledger import Ledger
from sinks.sink import Change, Run
from tests.entries import own

START, DAY, HOUR = datetime(2026, 1, 30, tzinfo=UTC), timedelta(days=1), timedelta(hours=1)
NOW = START + 5 * DAY + 2 * HOUR


def entry(start: datetime, end: datetime, state: State = State.VERIFIED, rows: int = 10, **more: datetime) -> Entry:
    covers = {"covered_start": start, "covered_end": end} | more
    tally = Tally(rows + 1, f"{rows + 1}:0:0:0:0", rows, "0", quarantined_rows=1)
    return Entry(
        project_id=1, stream="events", start=start, end=end, read_at=end, tally=tally, **covers, **own(state, end)
    )


def told(*entries: Entry, **more: object) -> Summary:
    ledger = Ledger({one.start: one for one in entries}, {}, (START + 5 * DAY,))
    return summary(1, "events", ledger, now=NOW, **more)


def day(number: int, state: State = State.VERIFIED, **more: datetime) -> Entry:
    return entry(START + number * DAY, START + (number + 1) * DAY, state, **more)


SEGMENTS = [
    pytest.param([], [], id="nothing"),
    pytest.param([day(0), day(1)], [(0, 48, Kind.VERIFIED)], id="joined"),
    pytest.param([day(0), day(1, State.LANDED)], [(0, 24, Kind.VERIFIED), (24, 48, Kind.LANDED)], id="two kinds"),
    pytest.param(
        [day(0), day(2)], [(0, 24, Kind.VERIFIED), (24, 48, Kind.GAP), (48, 72, Kind.VERIFIED)], id="a day missing"
    ),
    pytest.param(
        [day(0, covered_end=START + 20 * HOUR), day(1)],
        [(0, 20, Kind.VERIFIED), (20, 24, Kind.GAP), (24, 48, Kind.VERIFIED)],
        id="a window covered in part",
    ),
    pytest.param(
        [day(0, covered_start=START + HOUR)], [(1, 24, Kind.VERIFIED)], id="nothing is missing before the first"
    ),
    *(
        pytest.param([day(0, state)], [(0, 24, kind)], id=str(state))
        for state, kind in [
            (State.OPEN, Kind.OPEN),
            (State.STALE, Kind.OPEN),
            (State.UNMERGED, Kind.LANDED),
            (State.DISPUTED, Kind.DIFFERS),
            (State.HELD, Kind.DIFFERS),
        ]
    ),
]


def test_sync_of_a_source_whose_clock_is_ahead_has_finished():
    """The mark is the source's time: it is in force although this machine's clock has not come to it."""
    one = entry(START, START + DAY)
    ledger = Ledger({START: one}, {}, (one.read_at,))
    found = summary(1, "events", ledger, now=one.read_at - timedelta(minutes=2))

    assert (found.mark, found.freshness) == (one.read_at, timedelta(0))


@pytest.mark.parametrize(("entries", "expected"), SEGMENTS)
def test_segments_tell_every_stretch_of_time_once(entries, expected):
    """Neighbours of one kind are one; what lies between windows is a gap; nothing is claimed outside."""
    found = told(*entries).segments

    assert found == tuple(Segment(START + a * HOUR, START + b * HOUR, kind) for a, b, kind in expected)


def test_day_has_the_worst_kind_of_its_parts():
    """A dispute in one hour, or a gap of one, shows on its day; rows are those of all its windows."""
    hours = [
        entry(START + n * HOUR, START + (n + 1) * HOUR, State.DISPUTED if n == 3 else State.VERIFIED) for n in range(24)
    ]
    later = [entry(START + DAY + n * HOUR, START + DAY + (n + 1) * HOUR) for n in range(24) if n != 7]
    found = told(*hours, *later, day(2)).days

    assert [(one.date, one.kind, one.rows, one.windows) for one in found] == [
        (date(2026, 1, 30), Kind.DIFFERS, 240, 24),
        (date(2026, 1, 31), Kind.GAP, 230, 23),
        (date(2026, 2, 1), Kind.VERIFIED, 10, 1),
    ]


def test_cells_never_hide_what_is_wrong():
    """However few cells: each shows the worst of what lies in it, and a minute of dispute in a year is seen."""
    minute = timedelta(minutes=1)
    stretches = [
        Segment(START, START + 200 * DAY, Kind.VERIFIED),
        Segment(START + 200 * DAY, START + 200 * DAY + minute, Kind.DIFFERS),
        Segment(START + 200 * DAY + minute, START + 365 * DAY, Kind.LANDED),
    ]
    found = cells(stretches, 60)

    assert found.count(Kind.DIFFERS) == 1
    assert found[:32] == [Kind.VERIFIED] * 32
    assert set(found[33:]) == {Kind.LANDED}


NAMES = ("left out", "found since")
BARE = replace(told(day(0)), quarantined=0)
LINES = [
    pytest.param({}, {}, id="nothing to say"),
    pytest.param({"quarantined": 2}, {"left out": "2 in quarantine, 0 suppressed"}, id="quarantine alone"),
    pytest.param({"suppressed": 3}, {"left out": "0 in quarantine, 3 suppressed"}, id="suppressed alone"),
    pytest.param({"late": 4}, {"found since": "4 late · 0 deleted · 0 changed"}, id="late alone"),
    pytest.param({"deleted": 5}, {"found since": "0 late · 5 deleted · 0 changed"}, id="deleted alone"),
    pytest.param({"changed": 6}, {"found since": "0 late · 0 deleted · 6 changed"}, id="changed alone"),
]


@pytest.mark.parametrize(("counts", "lines"), LINES)
def test_what_is_not_as_it_was_has_a_line(counts, lines, capsys):
    """On a terminal whatever is not nothing is said, be it alone; and nothing else is."""
    results.show_status(replace(BARE, **counts))
    said = [line.strip() for line in capsys.readouterr().out.splitlines()]
    told = {name: line.removeprefix(name).strip() for line in said for name in NAMES if line.startswith(name)}

    assert told == lines


def change(late: int, lateness: timedelta) -> Change:
    return Change(1, "events", START, NOW, Changes(late=late, deleted=1, changed=2, lateness=lateness))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([3] * 30, f"{'▇' * 30} last 30 days, at most 3 rows"),
        ([7] + [0] * 30, "no rows in the last 30 days, none since 2026-01-01"),
        ([0], "no rows in the last 1 day"),
    ],
)
def test_days_without_rows_are_said_in_words(rows, said):
    """Blanks say nothing: since when there are none is told where all days that are drawn have none."""
    days = [Day(date(2026, 1, 1) + number * DAY, count, 1, Kind.VERIFIED) for number, count in enumerate(rows)]

    assert results._per_day(days) == said


def test_lateness_is_told_by_how_late():
    """Late events stand where their lateness lies; deletions and changes are counted beside them."""
    found = told(day(0), changes=[change(5, timedelta(minutes=59)), change(7, HOUR), change(1, 400 * DAY)])

    assert found.lateness == (5, 7, 0, 0, 0, 0, 1)
    assert (found.late, found.deleted, found.changed, found.latest) == (13, 3, 6, 400 * DAY)


def test_freshness_counts_from_the_last_complete_sweep():
    """Two hours behind; unknown before the first sync, and by a mark that lies ahead of the clock."""
    assert told(day(0)).freshness == 2 * HOUR
    assert summary(1, "events", Ledger(marks=(NOW + HOUR,)), now=NOW).freshness is None
    assert summary(1, "events", Ledger(), now=NOW).freshness is None


def test_window_that_was_too_heavy_is_not_compared():
    """A query without an answer compares nothing, also where it is the only one or the last."""
    light, heavy = (
        replace(one, probed=Probed(one.end, values)) for one, values in ((day(0), "11:0:0:0:0"), (day(1), HEAVY))
    )
    one, none = told(light, heavy), told(heavy)

    assert (one.compared_at, one.compared_until, one.uncompared) == (light.end, light.end, 1)
    assert (none.compared_at, none.compared_until, none.uncompared) == (None, None, 1)


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100 %"), (0.99999, "99.9 %"), (0.5, "50.0 %"), (0.0004, "0.1 %"), (1e-9, "0.1 %")]
)
def test_share_is_never_rounded_to_all_or_nothing(share, text):
    """Where a minute of a year differs, neither is all of it verified, nor is nothing different."""
    assert words.percent(share) == text


def run(error: str = "") -> Run:
    return Run("r", "sync", 1, "events", NOW - HOUR, NOW, "failed" if error else "done", 3, 30, 5, 0.0, error)


def many() -> Summary:
    states = [State.VERIFIED] * 20 + [State.LANDED, State.OPEN, State.DISPUTED]
    entries = [day(n, states[n % len(states)]) for n in range(1100) if n % 97]
    budget = [Used("list", 3, 240, 30, 1200)]
    return told(
        *entries, changes=[change(5, 3 * HOUR)], runs=[run(), run("<script>alert('x')</script>")], budget=budget
    )


def test_json_has_every_figure():
    """The document can be written and read, and says what people are told."""
    document = json.loads(json.dumps(results.as_status(many()), default=documents.plain))

    assert {
        "coverage",
        "gaps",
        "days",
        "freshness_s",
        "lateness",
        "budget",
        "quarantined",
        "suppressed",
        "runs",
    } <= set(document)
    assert document["budget"] == [
        {"bucket": "list", "last_minute": 3, "per_minute": 240, "last_hour": 30, "per_hour": 1200}
    ]
    assert len(document["days"]) == 1099


class Reader(HTMLParser):
    """Tags, and everything that would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")
        ]


@pytest.mark.parametrize(
    "summaries", [[], [told()], [told(day(0))], [many(), many()]], ids=["none", "empty", "a day", "years"]
)
def test_page_needs_nothing_but_itself(summaries):
    """No address, no script, and what data says is text."""
    text = page(summaries, destination="duckdb:<b>&.duckdb", made_at=NOW)
    reader = Reader()
    reader.feed(text)

    assert not reader.fetched
    assert not {"script", "link", "iframe", "img", "object"} & set(reader.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert "duckdb:&lt;b&gt;&amp;.duckdb" in text
    assert "<script" not in text
    assert len(text) < 1_000_000
    assert re.search(r'<html lang="en">.*<title>', text)


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0.0 %"), (0.5, "50.0 %"), (0.9995, "99.9 %"), (1 - 1e-9, "99.9 %"), (1, "100 %")]
)
def test_nearly_all_is_not_all(share, text):
    """A percentage is never rounded up to everything."""
    assert status_page._percent(share) == text


def test_every_day_stands_in_the_page_with_its_kind():
    """The calendar has each date once, in words and not only in colour."""
    one = many()
    text = page([one], destination="duckdb:a", made_at=NOW)

    for each in one.days:
        assert text.count(f"<title>{each.date}: {each.kind},") == 1


@pytest.mark.parametrize("count", [1, 120, 121, 250])
def test_every_day_s_rows_stand_in_a_bar(count):
    """However many days share a bar, the latest too."""
    days = [Day(START.date() + timedelta(days=n), n + 1, 1, Kind.VERIFIED) for n in range(count)]
    bars = re.findall(r": ([\d,]+) rows</title>", status_page._rows_chart(days))

    assert sum(int(bar.replace(",", "")) for bar in bars) == sum(day.rows for day in days)


def test_gap_is_told_with_the_command_that_fills_it(capsys):
    """The line can be copied: its times are the gap's, to the microsecond."""
    end = START + 20 * HOUR + timedelta(microseconds=5)
    results.show_status(told(day(0, covered_end=end), day(1)))

    wanted = "hedgerow backfill --since 2026-01-30T20:00:00.000005Z --until 2026-01-31T00:00:00Z fills it"
    assert wanted in capsys.readouterr().out


def test_page_is_written_whole_and_for_the_user_alone(tmp_path):
    """Mode 0600, nothing beside it; where it cannot be written that is said."""
    file = tmp_path / "a.html"
    files.write_page("<p>x", file)

    assert (file.read_text(), file.stat().st_mode & 0o777, list(tmp_path.iterdir())) == ("<p>x", 0o600, [file])
    with pytest.raises(SettingsError, match="cannot write"):
        files.write_page("x", tmp_path / "no" / "a.html")
    with pytest.raises(SettingsError, match="cannot write"):
        files.write_page("x", Path("/proc"))
