"""Which rows differ between what is held and what is shown, and in which columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from transforms import differences
from transforms import events as rows_of
from transforms.schema import EVENTS

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def rows(*texts: str) -> pa.Table:
    """Each text: uuid, event and properties, and the minutes after noon."""
    made = []
    for text in texts:
        uuid, event, number, minutes = text.split()
        at = AT + int(minutes) * timedelta(minutes=1)
        made.append(
            {"project_id": 1, "uuid": uuid, "event": event, "distinct_id": "d", "properties": f'{{"n":{number}}}'}
            | {"elements_chain": "", "timestamp": at, "_loaded_at": AT}
        )
    return pa.Table.from_pylist(made, EVENTS)


CASES = [
    pytest.param(["a e 1 0"], ["a e 1 0"], [], [], {}, id="equal"),
    pytest.param([], ["a e 1 0"], ["a"], [], {}, id="missing"),
    pytest.param(["a e 1 0"], [], [], ["a"], {}, id="extra"),
    pytest.param(["a e 1 0", "a e 1 0"], ["a e 1 0"], [], ["a"], {}, id="doubled"),
    pytest.param(["a e 2 0"], ["a e 1 0"], [], [], {"a": ("properties",)}, id="another content"),
    pytest.param(["a x 1 0"], ["a e 1 0"], [], [], {"a": ("event",)}, id="another name: the same uuid"),
    pytest.param(["a x 2 5"], ["a e 1 0"], [], [], {"a": ("event", "properties", "timestamp")}, id="all another"),
    pytest.param(["a e 2 0", "a e 1 0"], ["a e 1 0"], [], ["a"], {}, id="an equal row, and one made beside it"),
    pytest.param(["a e 1 0"], ["a e 1 0", "a f 1 0"], ["a"], [], {}, id="one uuid, two events, one of them lost"),
    pytest.param(
        ["a x 1 0", "a e 2 0"],
        ["a f 1 0", "a e 1 0"],
        [],
        [],
        {"a": ("event", "properties")},
        id="one uuid, two events: each with its own",
    ),
    pytest.param(["b e 1 0"], ["a e 1 0"], ["a"], ["b"], {}, id="another uuid is another event"),
]


@pytest.mark.parametrize(("held", "shown", "missing", "extra", "differing"), CASES)
def test_rows_that_differ_are_named_once(held, shown, missing, extra, differing):
    """Equal rows belong together, then rows of one event, then of one uuid; only the rest is missing or extra."""
    held, shown = rows(*held), rows(*shown)
    found = differences.named(rows_of.hashed(held), rows_of.hashed(shown))
    columns = differences.columns(held, shown, found.differing)

    assert (list(found.missing), list(found.extra), set(found.differing)) == (missing, extra, set(differing))
    assert columns == differing
