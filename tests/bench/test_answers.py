"""What the benchmarks' server answers out of its sums is what an engine answers that runs the HogQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from bench.answers import UnknownQuestion, answer
from bench.data import CREATED_US
from extractors import hogql
from extractors.filters import EventFilter
from extractors.hogql import Dialect, Grid
from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.data.hogql import Engine
from extractors.simulator.profiles import SELF_HOSTED
from extractors.window import Range

START = datetime(2025, 2, 28, tzinfo=UTC)
HOUR, MICROSECOND, DAY = timedelta(hours=1), timedelta(microseconds=1), timedelta(days=1)
SOME = [Range(START + HOUR, START + 5 * HOUR), Range(START + 7 * HOUR, START + 20 * HOUR + 999 * MICROSECOND)]
STEPS = ((0, HOUR), (1, timedelta(minutes=15)), (2, timedelta(minutes=5)))
ALL = {"events": EventFilter(), "dialect": Dialect.DATETIME64}
QUESTIONS = {
    "hours": hogql.hour_counts(1, Range(START, START + DAY), **ALL),
    "identities": hogql.identity_count(1, Range(START + HOUR, START + 9 * HOUR + MICROSECOND), **ALL),
    "earliest": hogql.earliest(1, **ALL),
    "one window": hogql.probe(1, Grid(START, ((9_999, DAY),)), [Range(START, START + DAY)], limit=9, **ALL),
    "windows": hogql.probe(1, Grid(START, STEPS), SOME, limit=999, **ALL),
    "pieces": hogql.probe(1, Grid(START, STEPS, (START + 8 * HOUR + MICROSECOND,)), SOME, limit=999, **ALL),
    "outside": hogql.outside(1, SOME, **ALL),
    "between": hogql.outside(1, SOME, within=Range(START - DAY, START + 6 * HOUR), **ALL),
}


@pytest.fixture(scope="module")
def engine(truth) -> Engine:
    """The simulator's, over the same rows."""
    later = timedelta(microseconds=CREATED_US)
    events = (Event(**row, created_at=row["timestamp"] + later) for row in truth.to_pylist())
    return Engine(Dataset(events), SELF_HOSTED)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_of_hedgerow_is_answered_as_by_an_engine(made, engine, name):
    """Sums are prepared and not run, which nobody who asks can see."""
    text = json.loads(QUESTIONS[name].body)["query"]["query"]
    body, _, limit = text.rpartition(" LIMIT ")

    wanted = engine.query(body, int(limit)).rows

    assert wanted
    assert [list(map(str, row)) for row in answer(made, text)] == [list(map(str, row)) for row in wanted]


def test_an_unknown_question_is_an_error(made):
    """A question whose form has changed is not answered as the old one was."""
    with pytest.raises(UnknownQuestion):
        answer(made, "SELECT count() AS n FROM events LIMIT 1")
