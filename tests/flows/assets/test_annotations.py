"""Annotations by the real command line: a list with history that is proven, and keeps what vanishes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from extractors.errors import AccessDenied
from extractors.simulator.assets.lists import ListStore, stores
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.profiles import CLOUD, OLD_2023, Profile
from extractors.simulator.server import Simulator, serve
from flows.assets import streams
from flows.settings.model import Settings
from tests.program import Command, Ended
from tests.second_server.api import SecondServer
from tests.second_server.server import second_server

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
FREE = replace(CLOUD, per_minute=None, per_hour=None, rest_per_minute=None, rest_per_hour=None, offset_wait_s=0.0)
CURRENT = "SELECT id, content, missing_since IS NOT NULL FROM annotations_current ORDER BY id"


@dataclass(slots=True)
class Place:
    """A destination, and the server that it is filled from."""

    address: str
    server: Simulator | SecondServer
    hedgerow: Command

    def run(self, *arguments: str) -> Ended:
        return self.hedgerow(self.server, *arguments, HEDGEROW_DESTINATION=self.address)

    def sync(self, *more: str, status: int = 0) -> dict[str, Any]:
        """What `sync annotations --json` says, which ends with *status*."""
        done = self.run("sync", "annotations", "--json", *more)
        assert done.returncode == status, done.stderr
        (told,) = json.loads(done.stdout)["runs"]
        return told

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        done = self.run("sql", sql, "--json")
        assert done.returncode == 0, done.stderr
        return [tuple(row.values()) for row in json.loads(done.stdout)]


@dataclass(slots=True)
class Clock:
    at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def store() -> ListStore:
    made = stores()["annotations"]
    for number in range(4):
        made.add(NOW - timedelta(days=1 + number // 2))  # two of each moment
    made.rows[0] |= {"dashboard_id": 7, "scope": "dashboard", "tags": ["a"]}
    return made


def serving(store: ListStore, profile: Profile = FREE, **more: Any):
    return serve(Dataset(), profile=profile, lists={"annotations": store}, **more)


@pytest.fixture(params=["duckdb", "file"])
def place(request, store, tmp_path, hedgerow) -> Iterator[Place]:
    with serving(store, now=Clock()) as simulator:
        yield Place(f"{request.param}:{tmp_path / 'here'}", simulator, hedgerow)


def test_annotations_are_landed_by_name_and_keep_their_history(place, store):
    """First landing, nothing new, a change, a row that vanishes and one that PostHog says is deleted; names that move and
    a person's own are no change and are not written."""
    first, again = place.sync(), place.sync()
    store.rows[1]["content"] = "Release, corrected"
    store.hidden.add(1)  # its dashboard was deleted
    store.rows[2]["deleted"] = True
    third, fourth = place.sync(), place.sync()
    store.hidden.clear()
    back = place.sync()

    told = [
        (one["new"], one["changed"], one["deleted"], one["problems"]) for one in (first, again, third, fourth, back)
    ]
    assert told == [(4, 0, 0, []), (0, 0, 0, []), (0, 1, 1, []), (0, 0, 0, []), (0, 0, 0, [])]
    assert ["does not show 1 of 4 annotations" in str(one["notes"]) for one in (third, back)] == [True, False]
    assert place.rows(CURRENT) == [(1, "Release 1", False), (2, "Release, corrected", False), (4, "Release 4", False)]
    history = "SELECT id, deleted, valid_to IS NULL FROM annotations WHERE id IN (2, 3) ORDER BY id, valid_from"
    assert place.rows(history) == [(2, False, False), (2, False, True), (3, False, False), (3, True, True)]
    written = "SELECT DISTINCT json_keys(created_by), json_keys(raw->'created_by'), contains(raw, 'example.com') FROM annotations"
    assert place.rows(written) == [(["id", "uuid"], ["id", "uuid"], False)]
    typed = "SELECT dashboard_id, scope, tags->>0, date_marker = created_at FROM annotations WHERE id = 1"
    assert place.rows(typed) == [(7, "dashboard", "a", True)]


@pytest.mark.parametrize("kind", ["duckdb", "file"])
def test_what_vanishes_is_missing_and_not_deleted(kind, store, tmp_path, hedgerow):
    """Without a word of PostHog's it stays, with the time since when; --accept-deletions marks it."""
    with serving(store, replace(FREE, twins=False)) as simulator:
        place = Place(f"{kind}:{tmp_path / 'here'}", simulator, hedgerow)
        place.sync()
        store.hidden.add(1)
        hidden = place.sync()
        kept = place.rows(CURRENT)
        accepted = place.sync("--accept-deletions")
        left = [row[0] for row in place.rows(CURRENT)]

    assert (hidden["deleted"], hidden["problems"], kept[0]) == (0, [], (1, "Release 1", True))
    assert "--accept-deletions" in hidden["notes"][0]
    assert (accepted["deleted"], left) == (1, [2, 3, 4])


def test_a_list_that_is_empty_all_at_once_is_not_believed(store, tmp_path, hedgerow):
    """A key that sees nothing any more looks the same as deletions: named, exit 3, and everything stays."""
    with serving(store, replace(FREE, twins=False)) as simulator:
        place = Place(f"file:{tmp_path / 'here'}", simulator, hedgerow)
        place.sync()
        store.hidden |= {1, 2, 3, 4}
        told = place.sync(status=3)

    assert "does not show 4 of 4 annotations any more: kept" in told["problems"][0]


@pytest.mark.parametrize("miscounted", [1, -1])
def test_a_count_that_is_not_that_of_the_rows_is_a_problem(miscounted, place, store):
    """Exit 3; what came is landed, and nothing is taken for missing or deleted."""
    place.sync()
    store.miscounted, store.rows[0]["content"] = miscounted, "New"
    store.hidden.add(2)
    told = place.sync(status=3)

    assert f"the list of annotations counts {3 + miscounted}, and 3 came" in told["problems"][0]
    assert (told["changed"], told["deleted"]) == (1, 0)
    assert place.rows(CURRENT)[:2] == [(1, "New", False), (2, "Release 2", False)]


def test_what_belongs_to_another_project_is_landed_and_not_missed(place, store):
    """An annotation of the organization is in the list of each of its projects, and in the table of one."""
    store.rows[3]["scope"] = "organization"
    store.elsewhere.add(4)
    told = place.sync()

    assert (told["new"], told["problems"]) == (4, [])


def test_a_list_and_a_query_that_differ_are_a_problem(place, store):
    """What hangs on nothing and is not shown, and what is shown and not stored, is named by its id; exit 3."""
    store.hidden.add(3)
    told = place.sync(status=3)

    assert "not the same: 3 only in system.annotations" in told["problems"][0]
    assert [row[0] for row in place.rows(CURRENT)] == [1, 2, 4]


@pytest.mark.parametrize(
    ("profile", "more"),
    [
        pytest.param(replace(FREE, twins=False), {}, id="no table"),
        pytest.param(FREE, {"scopes": frozenset({"annotation:read"})}, id="no right to query"),
        pytest.param(replace(OLD_2023, rest_per_minute=None, rest_per_hour=None), {}, id="2023"),
    ],
)
def test_a_server_without_the_table_says_nothing_false(profile, more, store, tmp_path, hedgerow):
    """No problem and no note: the list alone is proven by its count."""
    store.hidden.add(3)
    with serving(store, profile, **more) as simulator:
        told = Place(f"file:{tmp_path / 'here'}", simulator, hedgerow).sync()

    assert (told["new"], told["problems"], told["notes"]) == (3, [], [])


def test_a_key_without_the_scope_is_told_and_nothing_is_written(store, tmp_path, hedgerow):
    """Exit 10 with the scope to give, and no destination."""
    with serving(store, scopes=frozenset({"query:read"})) as simulator:
        done = Place(f"duckdb:{tmp_path / 'here'}", simulator, hedgerow).run("sync", "annotations")

    assert (done.returncode, "annotation:read" in done.stderr, (tmp_path / "here").exists()) == (10, True, False)


@pytest.mark.parametrize("include", [["annotations"], ["exports", "evaluations"], ["events", "annotations"]])
@pytest.mark.parametrize(
    "wrong", [{"POSTHOG_PERSONAL_API_KEY": "phx_revoked"}, {"POSTHOG_PROJECT_ID": "77"}], ids=["key", "project"]
)
def test_a_wrong_key_or_project_is_no_stream_that_is_not_there(wrong, include, store, tmp_path, hedgerow):
    """Exit 10 of a scheduled sync, whatever the settings say is landed unasked."""
    (tmp_path / "hedgerow.toml").write_text(f"[streams]\ninclude = {include}\n")
    with serving(store) as simulator:
        done = hedgerow(simulator, "sync", "-q", HEDGEROW_DESTINATION=f"duckdb:{tmp_path / 'here'}", **wrong)

    assert (done.returncode, done.stderr != "") == (10, True)


@pytest.mark.parametrize(("key", "project"), [("phx_revoked", 1), (None, 77)], ids=["key", "project"])
@pytest.mark.parametrize("stream", ["evaluations", "annotations"])
def test_a_key_or_project_that_is_wrong_for_every_stream_is_told(stream, key, project, store, tmp_path):
    """Also by a stream that nobody named, which a missing scope or an old server would only leave out."""
    with serving(store) as simulator:
        source = {
            "host": simulator.url,
            "key": key or simulator.key,
            "project_id": str(project),
            "state_dir": tmp_path / "state",
        }
        address = f"duckdb:{tmp_path / 'here'}"
        settings = Settings.model_validate({"source": source, "destination": {"address": address}})
        with pytest.raises(AccessDenied):
            streams.sync(settings, project, stream, named=False)


def test_a_stream_of_the_settings_is_as_good_as_named(store, tmp_path, hedgerow):
    """A scope that is missing for it is exit 10; of a stream that is landed unasked it is a note."""
    statuses = []
    for include in ('["annotations"]', '["events", "exports", "evaluations"]'):
        (tmp_path / "hedgerow.toml").write_text(f"[streams]\ninclude = {include}\n")
        with serving(store, scopes=frozenset({"query:read"})) as simulator:
            statuses.append(hedgerow(simulator, "sync", HEDGEROW_DESTINATION=f"duckdb:{tmp_path / 'here'}").returncode)

    assert statuses == [10, 0]


def test_what_a_query_shows_was_not_deleted(place, store):
    """Annotations hidden with their dashboard stay, with --accept-deletions too, and nobody is told to give it: not even
    where the list shows none of them, which without the query would be in doubt."""
    place.sync()
    for row in store.rows:
        row["dashboard_id"] = 7
    place.sync()
    store.hidden |= {1, 2, 3, 4}
    hidden, accepted = place.sync(), place.sync("--accept-deletions")

    assert [(one["deleted"], one["problems"]) for one in (hidden, accepted)] == [(0, []), (0, [])]
    assert "4 of these are there by a query" in hidden["notes"][0]
    assert "--accept-deletions" not in hidden["notes"][0]
    assert [row[0] for row in place.rows(CURRENT)] == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["TABLE annotations", "VIEW annotations", "VIEW annotations_current"])
def test_what_is_the_user_s_is_left(kind, store, tmp_path, hedgerow):
    """A table or a view of a name that the stream needs: exit 12, nothing is landed, and the user's stays."""
    with serving(store) as simulator:
        place = Place(f"duckdb:{tmp_path / 'here'}", simulator, hedgerow)
        assert place.run("sync", "events", "--since", "2026-03-01", "--until", "2026-03-02").returncode == 0
        with duckdb.connect(str(tmp_path / "here")) as db:
            db.execute(f"CREATE {kind} AS SELECT 1 AS mine")
        done = place.run("sync", "annotations")

    assert (done.returncode, "that is not hedgerow's" in done.stderr) == (12, True), done.stderr
    with duckdb.connect(str(tmp_path / "here"), read_only=True) as db:
        assert db.execute(f"FROM {kind.split()[1]}").fetchall() == [(1,)]


def test_a_range_of_a_list_is_refused(store, tmp_path, hedgerow):
    """It would be taken for what was landed."""
    with serving(store) as simulator:
        place = Place(f"duckdb:{tmp_path / 'here'}", simulator, hedgerow)
        ends = [
            place.run("sync", "annotations", *more) for more in (("--since", "7d"), ("--until", "now"), ("--rebuild",))
        ]

    assert [done.returncode for done in ends] == [2, 2, 2]
    assert "say nothing of annotations" in ends[0].stderr


def test_a_server_without_annotations_is_told(store, tmp_path, hedgerow):
    """Exit 11, in words, as of evaluations."""
    with serving(store, replace(FREE, lists=frozenset())) as simulator:
        done = Place(f"duckdb:{tmp_path / 'here'}", simulator, hedgerow).run("sync", "annotations")

    assert (done.returncode, "this server has no list of annotations" in done.stderr) == (11, True)


def test_annotations_of_another_server(tmp_path, hedgerow):
    """One by another hand: more than a page of one moment, one of another project of the organization, one deleted."""
    given: list[dict[str, Any]] = [{} for _ in range(1_200)]
    given[5] = {"deleted": True}
    given[6] = {"scope": "organization", "content": None}
    with second_server([], now=lambda: NOW, lists={"annotations": given}) as server:
        place = Place(f"duckdb:{tmp_path / 'here'}", server, hedgerow)
        first, again = place.sync(), place.sync()

    assert [(one["new"], one["changed"], one["problems"]) for one in (first, again)] == [(1_199, 0, []), (0, 0, [])]
    with duckdb.connect(str(tmp_path / "here"), read_only=True) as db:
        assert db.sql("SELECT count(*), count(DISTINCT id), sum(id) FROM annotations").fetchall() == [
            (1_199, 1_199, 1_200 * 1_201 // 2 - 6)
        ]
