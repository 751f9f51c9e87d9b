"""Filters of the list: names, properties, groups and HogQL (facts/posthog-api.md §1.4, §1.6, §1.9)."""

from __future__ import annotations

import json

import pytest

from tests.extractors.simulator.asking import LIST, numbers, where

PRICE_5 = {"key": "price", "value": 5}
FREE_PLAN = {"key": "plan", "value": "free"}
LOOK = {"type": "hogql", "key": "event = 'look'"}

FILTERS = [
    pytest.param({"event": "buy"}, [1, 2], id="event"),
    pytest.param({"event": ""}, [1, 2, 3, 4], id="empty event is ignored"),
    pytest.param({"distinct_id": "ann"}, [1, 3], id="distinct id"),
    pytest.param({"distinct_id": ""}, [4], id="empty distinct id filters"),
    pytest.param({"event": "buy", "distinct_id": "ann"}, [1], id="both"),
    pytest.param(where(key="price", value=5), [1], id="exact"),
    pytest.param(where(key="plan", value=["Pro", "free"], operator="exact"), [1, 4], id="one of"),
    pytest.param(where(key="plan", value="None", operator="exact"), [], id="null is no text"),
    pytest.param(where(key="plan", value="Pro", operator="is_not"), [2, 3, 4], id="is not"),
    pytest.param(where(key="plan", value="pr", operator="icontains"), [1], id="contains"),
    pytest.param(where(key="price", value=9, operator="gt"), [2], id="greater"),
    pytest.param(where(key="price", value=9, operator="lt", type="event"), [1], id="less"),
    pytest.param(where(key="plan", value="is_set", operator="is_set"), [1, 4], id="set"),
    pytest.param(where(key="ok", value="true"), [1], id="boolean"),
    pytest.param(
        where(type="AND", values=[{"key": "price", "value": 5}, {"key": "plan", "value": "Pro"}]), [1], id="and"
    ),
    pytest.param(where(key="price", value=5, operator="gte"), [1, 2], id="at least"),
    pytest.param(where(key="price", value=5, operator="lte"), [1], id="at most"),
    pytest.param(where(key="plan", value="pr", operator="not_icontains"), [2, 3, 4], id="does not contain"),
    pytest.param(where(key="plan", value="^P", operator="regex"), [1], id="regular expression"),
    pytest.param(where(key="plan", operator="is_not_set"), [2, 3], id="not set"),
    pytest.param(where(type="OR", values=[PRICE_5, FREE_PLAN]), [1, 4], id="or"),
    pytest.param(
        {"properties": json.dumps({"type": "OR", "values": [PRICE_5, FREE_PLAN]})}, [1, 4], id="or at the top"
    ),
    pytest.param({"properties": json.dumps({"type": "AND", "values": [PRICE_5, FREE_PLAN]})}, [], id="and at the top"),
    pytest.param(
        where({"key": "plan", "operator": "is_set"}, {"type": "OR", "values": [PRICE_5, LOOK]}),
        [1, 4],
        id="and of an or",
    ),
    pytest.param(
        where(type="OR", values=[{"type": "AND", "values": [PRICE_5, FREE_PLAN]}, LOOK]), [3, 4], id="or of an and"
    ),
    pytest.param(where(type="OR", values=[]), [1, 2, 3, 4], id="an empty group lets all pass"),
    pytest.param({"event": "buy"} | where(type="OR", values=[FREE_PLAN, PRICE_5]), [1], id="or beside a name"),
    pytest.param(where(PRICE_5 | {"property_type": "Numeric"}), [1], id="legacy keys are dropped"),
    pytest.param(
        where(type="hogql", key="properties.plan = 'Pro' or toInt(properties.price) > 9"),
        [1, 2],
        id="hogql on properties",
    ),
    pytest.param(where(type="hogql", key="event = 'look' and distinct_id = 'ann'"), [3], id="hogql"),
    pytest.param(
        where(type="hogql", key="uuid > toUUID('00000000-0000-4000-8000-000000000002')"), [3, 4], id="hogql on uuid"
    ),
    pytest.param({"select": '["count()"]', "where": '["1=0"]'}, [1, 2, 3, 4], id="select and where have no effect"),
]


def test_filters_keep_what_matches(subtests, shared):
    """Each filter keeps the matching events, newest first."""
    for case in FILTERS:
        params, expected = case.values
        with subtests.test(case.id):
            assert numbers(shared.get(LIST, params=params)) == expected


REFUSED = [
    pytest.param({"properties": "[{"}, 400, "Properties are unparsable!", id="bad properties"),
    pytest.param({"offset": "50001"}, 400, "Offset is deprecated. Max supported offset value is 50000", id="offset"),
    pytest.param({"limit": "x"}, 500, "A server error occurred.", id="limit is no number"),
    pytest.param({"orderBy": "timestamp"}, 500, "A server error occurred.", id="order is not JSON"),
    pytest.param(where(type="hogql", key="nonsense("), 500, "A server error occurred.", id="bad HogQL"),
    pytest.param(where(key="price", value=5, unknown=1), 500, "A server error occurred.", id="unknown key"),
    pytest.param(where(type="OR", values=1), 500, "A server error occurred.", id="group without a list"),
    pytest.param(
        where(key="price", value=5, operator="around"), 500, "A server error occurred.", id="unknown operator"
    ),
]


@pytest.mark.parametrize(("params", "status", "detail"), REFUSED)
def test_bad_parameters_are_refused_as_the_server_does(params, status, detail, shared):
    """What the server checks is a 400 with a reason, what it does not check a 500 without."""
    kind = ("validation_error", "invalid_input") if status == 400 else ("server_error", "error")

    answer = shared.get(LIST, params=params)

    assert answer.status_code == status
    assert answer.json() == {"type": kind[0], "code": kind[1], "detail": detail, "attr": None}
