"""What the flows make of a run for Prefect, without its server: parameters, states, events, pages, secrets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from pydantic import SecretStr

from extractors.errors import SourceUnavailable
from extractors.http.pacing import Share
from extractors.window import Range
from flows import annotations, backfill, evaluations, events, exports, verify
from flows.assets.synced import Synced
from flows.landing import audit, pipeline
from flows.landing.verification import Difference, Verification
from flows.orchestration import adapter, artifacts, parts
from flows.orchestration.automations import unstarted, zombies
from flows.report import terminal
from flows.report.status import Kind, Segment
from flows.runs.run import Report
from flows.settings.parse import SettingsError
from sinks.entries import State
from sinks.sink import Run
from tests.flows.report.test_status import day as landed_day
from tests.flows.report.test_status import told as summary_of

FLOWS = [
    events.sync_events,
    exports.sync_exports,
    evaluations.sync_evaluations,
    annotations.sync_annotations,
    verify.verify_events,
    backfill.backfill_events,
    backfill.backfill_part,
]
NOW = datetime(2026, 3, 10, tzinfo=UTC)
DAY = timedelta(days=1)
REPORT = Report(
    run_id="own",
    project_id=1,
    stream="events",
    since=NOW - 2 * DAY,
    until=NOW,
    windows=2,
    rows=1_234,
    copies=0,
    quarantined=0,
    requests=5,
    waited_s=61.0,
    seconds=75.5,
    verified=2,
    compared=True,
    late=3,
    deleted=0,
    changed=0,
    lateness_s=0.0,
    problems=(),
    notes=("3 late events in 1 window",),
    learned={},
)
DIFFERENCE = Difference(NOW - DAY, NOW, State.VERIFIED, 10, 9, 10, damaged=True, changed=False)
PROBLEM = "the window at 2026-03-09 does not hold what the source counts"


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_form_describes_every_parameter_and_none_is_a_secret(flow):
    """What Prefect's UI shows of a parameter: its type and what it is for."""
    shown = parameter_schema(flow).model_dump()["properties"]

    assert shown
    assert [name for name, one in shown.items() if not one.get("description")] == []
    assert [name for name in shown if "key" in name or "secret" in name or "token" in name] == []


BAD = [
    pytest.param(events.sync_events, {"since": "yesterday"}, "is no time", id="time"),
    pytest.param(events.sync_events, {"until": "earliest"}, "is no time", id="an end that is a start"),
    pytest.param(events.sync_events, {"since": "1066-10-14"}, "a year between", id="year"),
    pytest.param(events.sync_events, {"projects": [0]}, "greater than 0", id="project"),
    pytest.param(events.sync_events, {"max_wait_minutes": 0}, "greater than 0", id="wait"),
    pytest.param(verify.verify_events, {"repair": "perhaps"}, "valid boolean", id="switch"),
    pytest.param(backfill.backfill_events, {"since": "7d", "until": "now", "workers": 0}, "greater than", id="workers"),
    pytest.param(backfill.backfill_events, {"until": "now"}, "since", id="nothing"),
]


@pytest.mark.parametrize(("flow", "given", "said"), BAD)
def test_parameters_are_checked_before_anything_is_asked(flow, given, said):
    """A value that cannot be used is refused in words, by the run's own validation."""
    with pytest.raises((ParameterTypeError, TypeError), match=said):
        flow.validate_parameters(given) if said != "since" else flow(**given)


WAIT = {"max_wait": timedelta(minutes=7)}
RANGE = {"since": "2026-01-01", "until": "2026-01-02"}
PART = {"project_id": 5, "name": "2 of 3", "share": 0.25}
FLAGS = [{"accept_deletions": accepted, "require_proof": not accepted} for accepted in (True, False)]
HANDED_ON = [
    *((events.sync_events, RANGE | flags | {"rebuild": True}, WAIT) for flags in FLAGS),
    *((backfill.backfill_events, RANGE | flags, WAIT) for flags in FLAGS),
    *((backfill.backfill_part, RANGE | flags | PART, WAIT) for flags in FLAGS),
    (verify.verify_events, RANGE | {"accept_deletions": True, "repair": True}, WAIT),
    (exports.sync_exports, {}, WAIT),
    (evaluations.sync_evaluations, {"accept_deletions": True}, WAIT),
    (annotations.sync_annotations, {"accept_deletions": True}, WAIT),
]


@pytest.mark.parametrize(("flow", "given", "also"), HANDED_ON, ids=lambda one: getattr(one, "name", ""))
def test_what_a_run_is_given_reaches_the_work(flow, given, also, configured, monkeypatch):
    """Every parameter, as it was given: range, deletions, proof, repair, rebuild, the longest wait, a part's share."""
    heard: dict[str, object] = {}

    def work(settings: object, project_id: int, *stream: str, **more: object) -> object:
        heard.update(more, project_id=project_id)
        raise SourceUnavailable("heard")

    for name in ("runs.loads.load_events", "runs.verify.verify_events", "assets.streams.sync"):
        monkeypatch.setattr(f"flows.{name}", work)
    more = {} if "project_id" in given else {"projects": [5]}
    state = flow.fn(**given, **more, **{"max_wait_minutes": 7} if also else {})

    assert state.message == "project 5: heard"
    expected = (
        {name: value for name, value in given.items() if name not in ("name", "share")} | also | {"project_id": 5}
    )
    if "share" in given:
        expected["share"] = Share(f"backfill {given['name']}", given["share"])
    assert {name: heard[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "project 7 · up to now"),
        ({"since": "2026-01-01"}, "project 7 · 2026-01-01 .. now"),
        ({"until": "2026-01-01"}, "project 7 · what is landed .. 2026-01-01"),
        ({"since": "7d", "until": "1d", "projects": [1, 2]}, "projects 1, 2 · 7d .. 1d"),
    ],
)
def test_run_is_named_by_project_and_range(given, name, monkeypatch):
    """A list of runs tells which is which."""
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "7")
    monkeypatch.setattr("prefect.runtime.flow_run.parameters", given, raising=False)

    assert events._name() == name


def test_secret_comes_from_the_environment_or_else_from_a_block(tmp_path, monkeypatch):
    """The environment wins; what it lacks is asked of Prefect; a destination that needs no secret asks for none."""
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    blocks = {"posthog-personal-api-key": "phx_block", "aws-secret-access-key": "s3"}
    monkeypatch.setattr(adapter, "_secret", lambda name: (asked.append(name), blocks.get(name))[1])

    from_block = adapter.settings([3])
    assert from_block.source.key == SecretStr("phx_block")
    assert from_block.source.project_id == (3,)
    assert asked == ["posthog-personal-api-key"]

    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_environment")
    monkeypatch.setenv("HEDGEROW_DESTINATION", "s3://bucket/prefix")
    lake = adapter.settings()
    assert lake.source.key == SecretStr("phx_environment")
    assert lake.destination.secret_access_key == SecretStr("s3")
    assert set(asked[1:]) == {"aws-access-key-id", "aws-secret-access-key", "aws-session-token"}


def test_a_block_with_a_wrong_key_is_named(tmp_path, monkeypatch):
    """Not the environment is to be mended, but the block; and the key is not shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapter, "_secret", lambda name: "phc_project_token")

    with pytest.raises(SettingsError, match="block") as caught:
        adapter.settings([1])
    assert "phc_project_token" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("fails", ["before", "after", "never"])
def test_work_is_done_once_whatever_prefect_does(fails, monkeypatch):
    """Its server may be away when a task begins or ends: the work is neither left out nor done twice."""
    done: list[int] = []

    def task(name, work, *, return_state):
        if fails == "before":
            raise OSError("connection refused")
        work()
        if fails == "after":
            raise OSError("connection refused")

    monkeypatch.setattr(adapter, "run_id", lambda: "a run")
    monkeypatch.setattr(adapter, "_step", task)
    adapter.step("windows", lambda: done.append(1))

    assert done == [1]


@pytest.mark.parametrize("error", [SourceUnavailable("no answer"), ValueError("a bug")], ids=["ours", "a bug"])
def test_error_of_the_work_is_raised(error, monkeypatch):
    """Those who started the work hear of it, whether Prefect's task swallowed it or not."""

    def work() -> None:
        raise error

    def task(name, work, *, return_state):
        work()

    monkeypatch.setattr(adapter, "run_id", lambda: "a run")
    monkeypatch.setattr(adapter, "_step", task)
    with pytest.raises(type(error), match=str(error)):
        adapter.step("windows", work)


def ran(error: str, *, command: str = "sync", stream: str = "events") -> Run:
    return Run("id", command, 1, stream, NOW, NOW, "incomplete" if error else "done", 1, 1, 1, 0.0, error)


GAP = Segment(NOW - 30 * DAY, NOW - 29 * DAY, Kind.GAP)
RECENT = Segment(NOW - DAY, NOW - DAY / 2, Kind.GAP)
WRONG = replace(REPORT, problems=(PROBLEM,))
OWN = replace(ran(PROBLEM), run_id="own")
ALERTS = [
    pytest.param(REPORT, (), (), [], id="all is well"),
    pytest.param(WRONG, (), (), ["hedgerow.difference"], id="a problem"),
    pytest.param(WRONG, (), (ran(""),), ["hedgerow.difference"], id="a problem that is new"),
    pytest.param(WRONG, (), (ran(PROBLEM),), [], id="a problem that was told"),
    pytest.param(WRONG, (), (ran("", stream="exports"), OWN), ["hedgerow.difference"], id="another stream ended later"),
    pytest.param(WRONG, (), (ran(""), OWN), ["hedgerow.difference"], id="another run ended later"),
    pytest.param(WRONG, (), (OWN, ran(PROBLEM)), [], id="a problem that was told before"),
    pytest.param(WRONG, (), (ran("another"),), ["hedgerow.difference"], id="another problem than before"),
    pytest.param(
        WRONG, (), (ran(PROBLEM, stream="exports"),), ["hedgerow.difference"], id="told of another stream only"
    ),
    pytest.param(WRONG, (), (ran(PROBLEM, command="verify"), ran("")), ["hedgerow.difference"], id="told by verify"),
    pytest.param(
        artifacts.Verified(1, Verification(), WRONG), (), (ran(PROBLEM),), ["hedgerow.difference"], id="daily"
    ),
    pytest.param(REPORT, (GAP,), (), [], id="a gap that is no business of this run"),
    pytest.param(REPORT, (RECENT,), (), ["hedgerow.gap"], id="a gap in its range"),
    *(
        pytest.param(REPORT, (Segment(start, end, Kind.GAP),), (), [], id=f"a gap {where} its range")
        for where, start, end in (
            ("up to", REPORT.since - DAY, REPORT.since),
            ("behind", REPORT.until, REPORT.until + DAY),
        )
    ),
    pytest.param(artifacts.Verified(1, Verification(), REPORT), (GAP,), (), ["hedgerow.gap"], id="a gap, daily"),
    pytest.param(Synced(1, "exports", problems=["cut"]), (), (), ["hedgerow.difference"], id="exports"),
]


@pytest.mark.parametrize(("told", "gaps", "before", "events"), ALERTS)
def test_what_is_wrong_is_told_once_by_syncs_and_daily_by_verify(told, gaps, before, events):
    """An event for each kind of wrong; no event every quarter of an hour for the same one."""
    found = artifacts.alerts(told, gaps=gaps, before=before)

    assert [alert.event for alert in found] == events
    assert all(alert.payload("run")["problems"] for alert in found)


def test_page_shows_the_coverage_and_what_is_to_do():
    """The picture, the range, the gap with the command that fills it, notes and problems."""
    held = summary_of(landed_day(0), landed_day(2, State.DISPUTED), landed_day(3))
    text = artifacts.page(WRONG, held, run="4711")

    picture = next(line for line in text.splitlines() if set(line) & set("█·!"))
    assert len(picture) == 60
    assert [picture[0], picture[20], picture[40], picture[-1]] == ["█", "·", "!", "█"]
    for said in ("1,234 events in 2 windows", PROBLEM, "3 late events", "hedgerow backfill --since", "Run 4711"):
        assert said in text


def test_table_has_the_figures_of_a_run():
    """A line a project: windows, rows, late events, requests, waits."""
    row = artifacts.row(REPORT)

    assert (row["windows"], row["rows"], row["late"], row["requests"], row["waited (s)"]) == (2, 1_234, 3, 5, 61.0)
    assert artifacts.row(artifacts.Verified(1, Verification(windows=9, compared=8), REPORT))["compared"] == 8
    assert artifacts.row(Synced(1, "exports", new=4))["new"] == 4


DONE = [
    pytest.param([REPORT], "1,234 events landed in 2 windows, 3 late, 2 windows verified", id="sync"),
    pytest.param(
        [replace(REPORT, rows=0, late=0, deleted=4, changed=1)],
        "0 events landed in 2 windows, 4 deleted, 1 changed, 2 windows verified",
        id="changes",
    ),
    pytest.param(
        [replace(REPORT, late=0, verified=0, compared=False)],
        "1,234 events landed in 2 windows, not compared with the source",
        id="no queries",
    ),
    pytest.param(
        [artifacts.Verified(1, Verification(windows=9, compared=8), REPORT)],
        "9 windows, 8 compared with the source: no difference",
        id="verify",
    ),
    pytest.param(
        [artifacts.Verified(1, Verification(windows=9, compared=9, differences=[DIFFERENCE]), REPORT)],
        "9 windows, 9 compared with the source: 1 difference mended",
        id="repair",
    ),
    pytest.param([Synced(1, "exports", skipped="too old")], "no exports: too old", id="nothing offered"),
    pytest.param(
        [Synced(1, "evaluations", new=1, changed=2), Synced(2, "evaluations", deleted=3)],
        "project 1: 1 new evaluation, 2 changed; project 2: 0 new evaluations, 0 changed, 3 deleted",
        id="several projects",
    ),
]


@pytest.mark.parametrize(("every", "said"), DONE)
def test_completed_says_what_was_done(every, said):
    """The list of runs shows it: rows, windows and proof, not only that nothing went wrong; what was done goes with it."""
    state = adapter.concluded({}, every)

    assert (state.type, state.name, state.message) == (StateType.COMPLETED, "Completed", said)
    assert state.data is every


@pytest.mark.parametrize(("landed", "said"), [(2, "2 parts landed"), (0, "nothing to land")])
def test_completed_backfill_in_parts_says_so(landed, said):
    """The rows stand at the parts, which are runs of their own."""
    state = parts.landed([parts.Part(1, "2026-01-01", "2026-01-02")] * landed)

    assert state.is_completed()
    assert state.message.startswith(said)


def test_no_bound_is_told_where_a_verification_has_none():
    """Its table and its event say nothing of the years 1 and 9999; a bound that was given is told."""
    everything = artifacts.Verified(1, Verification(windows=9), replace(WRONG, since=audit.FIRST, until=audit.LAST))
    some = artifacts.Verified(1, Verification(windows=9), replace(WRONG, until=audit.LAST))

    assert [artifacts.row(everything)[name] for name in ("since", "until")] == ["", ""]
    assert [artifacts.row(some)[name] for name in ("since", "until")] == ["2026-03-08T00:00:00Z", ""]
    assert [alert.payload("run")["range"] for alert in artifacts.alerts(everything)] == [""]
    assert [alert.payload("run")["range"] for alert in artifacts.alerts(some)] == ["2026-03-08"]


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_x")
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "1")
    monkeypatch.setenv("POSTHOG_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("HEDGEROW_DESTINATION", f"file:{tmp_path / 'lake'}")
    return monkeypatch


def test_more_parts_than_the_source_answers_at_once_are_refused(configured):
    """Two requests in flight are the ceiling of a project; a setting raises it for servers that have none."""
    state = backfill.backfill_events.fn("7d", "now", workers=3)

    assert state.type is StateType.FAILED
    assert "3 workers are more than the 2 requests in flight" in state.message


def test_parts_of_one_file_are_refused(configured, tmp_path):
    """A DuckDB file has one writer at a time."""
    configured.setenv("HEDGEROW_DESTINATION", f"duckdb:{tmp_path / 'a.duckdb'}")
    state = backfill.backfill_events.fn("7d", "now", workers=2)

    assert state.type is StateType.FAILED
    assert "one file, which one process writes at a time" in state.message


def test_parts_have_equal_shares_that_leave_a_quarter(configured, monkeypatch):
    """All parts of all projects together keep to three quarters of the limits."""
    configured.setenv("POSTHOG_PROJECT_ID", "1,2")
    ranges = [Range(NOW, NOW + DAY), Range(NOW + DAY, NOW + 2 * DAY)]
    monkeypatch.setattr("flows.runs.loads.parts_of", lambda settings, project_id, **more: ranges[: 3 - project_id])
    found = parts.cut(adapter.settings(), "7d", "now", workers=2, accept_deletions=False, max_wait_minutes=7)

    assert {part.max_wait for part in found} == {timedelta(minutes=7)}
    assert [(part.project_id, part.name) for part in found] == [(1, "1 of 3"), (1, "2 of 3"), (2, "3 of 3")]
    assert [part.share for part in found] == [0.25, 0.25, 0.25]


def test_a_live_run_is_not_taken_for_dead():
    """The shipped automation waits three heartbeats at least; both watch runs of ours, each by itself."""
    with pytest.raises(SettingsError, match="three heartbeats"):
        zombies(timedelta(seconds=89))
    for one in (zombies(), unstarted()):
        assert one.trigger.within >= timedelta(seconds=90)
        assert one.trigger.for_each == {"prefect.resource.id"}
        assert one.trigger.match_related["prefect.resource.id"] == ["prefect.tag.hedgerow"]


def test_group_says_its_windows():
    """A task is named by what it lands."""
    group = pipeline.Group(Range(NOW, NOW + DAY), 4)

    assert terminal.group_name(1, group) == "project 1 · 2026-03-10 .. 2026-03-11 · 4 windows"
    assert terminal.group_name(1, pipeline.Group()) == "project 1 · look-back"
