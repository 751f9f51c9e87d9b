"""`make prefect`, as far as it needs no Prefect: its port, its file, its first run, its last words."""

from __future__ import annotations

import socket

import duckdb
import pytest

from flows.orchestration import demo
from flows.orchestration.local import NotReady, Stack, free_port
from sinks.duckdb_file.sink import DuckDBSink

LOOPBACK = "http://127.0.0.1:1"


def test_port_is_the_same_each_time_if_it_is_free(tmp_path):
    """An address that a browser remembers; where somebody else has it any other one."""
    wanted = free_port()
    with socket.create_server(("127.0.0.1", wanted)):
        taken = Stack(tmp_path, {}, port=wanted).port

    assert Stack(tmp_path, {}, port=wanted).port == wanted
    assert taken not in (0, wanted)


def run(kind: str, *, by_schedule: bool = True, message: str = "") -> dict[str, object]:
    state = {"name": kind.capitalize(), "message": message}
    return {"name": "project 1", "auto_scheduled": by_schedule, "state_type": kind, "state": state}


def test_first_run_is_waited_for_and_a_failed_one_is_named():
    """A run by hand is not the schedule's; one that failed ends the wait with its reason, not minutes later without."""
    done = run("COMPLETED")

    assert demo.ended([run("COMPLETED", by_schedule=False), run("RUNNING")]) is None
    assert demo.ended([run("RUNNING"), done]) is done
    with pytest.raises(NotReady, match="project 1: Failed: the key"):
        demo.ended([run("FAILED", message="the key")])


@pytest.mark.parametrize(
    ("hosts", "kept"),
    [
        ({1: LOOPBACK}, False),
        ({1: "https://eu.posthog.com"}, True),
        ({2: LOOPBACK}, True),
        ({1: LOOPBACK, 42: "https://us.posthog.com"}, True),
    ],
    ids=["an earlier demo's", "a PostHog's", "another project's", "another project's, too"],
)
def test_second_demo_replaces_the_first_ones_file_and_no_other(hosts, kept, tmp_path):
    """The simulator has another port and other events each time: on the old file every run would fail."""
    database = tmp_path / demo.DATABASE
    for project_id, host in hosts.items():
        DuckDBSink(database).prepare(project_id, "events", host=host, event_filter="", rebuild=False)
    if kept:
        with pytest.raises(NotReady, match="make prefect did not make it"):
            demo.make_way(database)
    else:
        demo.make_way(database)

    assert database.exists() == kept


def test_two_demos_do_not_share_a_directory(tmp_path):
    """The second would remove the file that the first lands into; after the first it may."""
    with demo.alone(tmp_path), pytest.raises(NotReady, match="at work"), demo.alone(tmp_path):
        pass
    with demo.alone(tmp_path):
        pass


def test_a_file_that_is_no_destination_stays(tmp_path):
    """Somebody's own DuckDB file, or none at all."""
    database = tmp_path / demo.DATABASE
    demo.make_way(database)
    database.write_bytes(b"notes")
    with pytest.raises(NotReady, match="cannot be read"):
        demo.make_way(database)

    assert database.read_bytes() == b"notes"


def test_somebodys_tables_stay(tmp_path):
    """A DuckDB file without hedgerow's tables is not a demo's."""
    database = tmp_path / demo.DATABASE
    with duckdb.connect(str(database)) as db:
        db.execute("CREATE TABLE mine AS SELECT 1 AS a")
    with pytest.raises(NotReady, match="make prefect did not make it"):
        demo.make_way(database)

    assert database.exists()


def test_end_says_what_stays_and_how_to_be_rid_of_it(tmp_path, monkeypatch):
    """The file and the commands that show it and remove it, as they are typed here; nothing landed is said as well."""
    monkeypatch.chdir(tmp_path)
    directory = demo.Path(demo.DIRECTORY)
    directory.mkdir()
    before = " · ".join(demo.left(directory))
    (directory / demo.DATABASE).touch()
    after = " · ".join(demo.left(directory))

    assert "nothing landed" in before
    assert "rm -r prefect-demo" in before
    assert "prefect-demo/posthog.duckdb stays" in after
    assert "hedgerow status --destination duckdb:prefect-demo/posthog.duckdb" in after
    assert "rm -r prefect-demo" in after
