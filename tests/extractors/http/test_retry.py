"""What is done after each failure, by policy and by what was tried: one table, without HTTP."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors import errors
from extractors.http.retry import RESUMED_ATTEMPTS, UNREADY_ATTEMPTS, Again, How, Patience, Tries, decide, given_up
from extractors.request import CONTENT, HASTY_PAGE, LOOKUP, PAGE, QUERY, SAMPLE, TRIAL_PAGE, WHOLE, WRITE, Policy

PATIENCE = Patience()
BEGUN = Tries(8, ("environments", "projects"), begun_s=100.0)
CUT, FOREIGN = errors.BodyCut("cut"), errors.BodyCut("html", whole=True)
HEAVY, FAULT, BUSY = errors.RangeTooHeavy("504"), errors.ServerFault("500"), errors.SourceUnavailable("502")
TOLD = errors.SourceUnavailable("503", retry_after_s=40)
LIMITS = errors.LimitsExhausted("429", retry_after_s=7)
POLICIES = (PAGE, HASTY_PAGE, TRIAL_PAGE, WHOLE, SAMPLE, QUERY, LOOKUP, WRITE, CONTENT)
SENT_AGAIN = (WHOLE, SAMPLE, LOOKUP)


def anew(**more: object) -> Tries:
    return replace(Tries(8), **more)


def backoff(seconds: float, failed: int) -> Again:
    return Again(How.BACKOFF, seconds, replace(BEGUN, prefixes=(), failed=failed))


def told(count: int) -> Again:
    return Again(How.WAIT, 0.0, replace(BEGUN, told=count))


TABLE = [
    *[pytest.param(LIMITS, policy, BEGUN, Again(How.BLOCK, 7, BEGUN), id="429") for policy in POLICIES],
    *[
        pytest.param(errors.LimitsExhausted("our own"), policy, BEGUN, None, id="no longer to be waited")
        for policy in POLICIES
    ],
    *[pytest.param(errors.RequestRefused("400"), policy, BEGUN, None, id="refused") for policy in POLICIES],
    *[
        pytest.param(
            errors.EndpointMissing("404"),
            policy,
            BEGUN,
            None if policy.resumed else Again(How.ELSEWHERE, 0.0, replace(BEGUN, prefixes=("projects",))),
            id="address missing",
        )
        for policy in POLICIES
    ],
    pytest.param(errors.EndpointMissing("404"), WHOLE, replace(BEGUN, prefixes=("projects",)), None, id="both missing"),
    *[pytest.param(BUSY, policy, BEGUN, backoff(0.5, 1), id="busy") for policy in (*SENT_AGAIN, PAGE, QUERY)],
    pytest.param(BUSY, PAGE, replace(BEGUN, failed=4), backoff(8, 5), id="busy: twice as long each time"),
    pytest.param(BUSY, PAGE, replace(BEGUN, told=3), backoff(0.5, 1), id="busy: a new attempt"),
    pytest.param(BUSY, WRITE, BEGUN, None, id="busy: a write is not sent again"),
    pytest.param(errors.Unreached("refused"), WRITE, BEGUN, None, id="unreached: a write neither"),
    *[pytest.param(TOLD, policy, BEGUN, told(1), id="told") for policy in (*SENT_AGAIN, PAGE, QUERY)],
    pytest.param(TOLD, WRITE, BEGUN, None, id="told: a write may have been done"),
    *[
        pytest.param(error, policy, BEGUN, None, id="less")
        for error in (HEAVY, CUT, FOREIGN)
        for policy in (PAGE, QUERY)
    ],
    *[
        pytest.param(error, policy, BEGUN, backoff(0.5, 1), id="whole")
        for error in (HEAVY, CUT)
        for policy in SENT_AGAIN
    ],
    pytest.param(FOREIGN, WHOLE, BEGUN, Again(How.WAIT, 1.0, anew(foreign=1)), id="foreign"),
    pytest.param(FOREIGN, WHOLE, anew(foreign=1, faults=2), Again(How.WAIT, 2.0, anew(foreign=2)), id="foreign again"),
    pytest.param(FOREIGN, WHOLE, anew(foreign=2), None, id="foreign thrice"),
    *[
        pytest.param(FAULT, policy, BEGUN, Again(How.WAIT, 5.0, anew(faults=1, alone=True)), id="500")
        for policy in (PAGE, QUERY, WHOLE, LOOKUP)
    ],
    pytest.param(FAULT, PAGE, anew(faults=2), Again(How.WAIT, 35.0, anew(faults=3, alone=True)), id="500 thrice"),
    pytest.param(FAULT, PAGE, anew(faults=3), None, id="500 four times"),
    pytest.param(FAULT, TRIAL_PAGE, BEGUN, Again(How.WAIT, 5.0, anew(faults=1)), id="500: tried once more"),
    pytest.param(FAULT, TRIAL_PAGE, anew(faults=1), None, id="500: tried twice"),
    *[pytest.param(FAULT, policy, BEGUN, None, id="500: at once") for policy in (HASTY_PAGE, SAMPLE, WRITE)],
    *[
        pytest.param(error, CONTENT, BEGUN, Again(How.WAIT, 1.0, replace(BEGUN, failed=1)), id="content")
        for error in (BUSY, TOLD, HEAVY, FAULT, CUT, errors.Unreached("x"))
    ],
    pytest.param(CUT, CONTENT, replace(BEGUN, failed=RESUMED_ATTEMPTS - 1), None, id="content: no progress"),
    *[
        pytest.param(error, CONTENT, BEGUN, Again(How.WAIT, 3.0, replace(BEGUN, failed=1)), id="content: not there yet")
        for error in (errors.NotReady("425"), errors.NotFound("404"))
    ],
    pytest.param(errors.NotReady("425"), CONTENT, replace(BEGUN, failed=UNREADY_ATTEMPTS - 1), None, id="never there"),
]


@pytest.mark.parametrize(("error", "policy", "tries", "expected"), TABLE)
def test_failure_is_answered_as_the_table_says(error, policy, tries, expected):
    """Each error, by each policy: how long and how to wait, and what then was tried; or nothing."""
    assert decide(error, policy, tries, PATIENCE, now_s=101.0) == expected


def test_content_that_comes_forward_begins_to_count_anew_in_the_table():
    """What counts is failures in a row without progress."""
    tries = replace(BEGUN, failed=RESUMED_ATTEMPTS - 1)
    again = decide(CUT, CONTENT, tries, PATIENCE, now_s=101.0, progressed=True)

    assert again == Again(How.WAIT, 0.5, replace(BEGUN, failed=0))


@pytest.mark.parametrize(("passed_s", "goes_on"), [(0, True), (299, True), (300, False)])
def test_attempts_are_bounded_in_time(passed_s, goes_on):
    """The total of the patience, from the first attempt on; a wait for a 500 begins it anew."""
    again = decide(BUSY, WHOLE, BEGUN, PATIENCE, now_s=100.0 + passed_s)

    assert (again is not None) == goes_on
    assert decide(FAULT, WHOLE, BEGUN, PATIENCE, now_s=100.0 + passed_s).tries.begun_s is None


@given(
    errors_met=st.lists(st.sampled_from((BUSY, TOLD, HEAVY, CUT, FOREIGN, FAULT)), min_size=300, max_size=300),
    policy=st.sampled_from(POLICIES),
)
def test_requests_are_bounded_whatever_fails(errors_met: list[errors.SourceError], policy: Policy):
    """No order of failures is tried again for ever, nor waited for longer than a step of the patience."""
    tries, asked = Tries(3, ("environments",), begun_s=0.0), 0
    for error in errors_met:
        asked += 1
        again = decide(error, policy, tries, PATIENCE, now_s=1.0)
        if again is None:
            break
        assert again.wait_s <= 35
        tries = replace(again.tries, prefixes=("environments",))

    assert asked < 300


@pytest.mark.parametrize("error", [TOLD, BUSY], ids=["told", "not told"])
def test_one_failure_for_ever_is_tried_a_bounded_number_of_times(error):
    """The attempts of the patience; where the server says how long, as many waits in each."""
    tries, asked = Tries(8), 1
    while (again := decide(error, WHOLE, tries, PATIENCE, now_s=0.0)) is not None:
        tries, asked = again.tries, asked + 1
        assert asked < 100

    assert asked == (64 if error is TOLD else 8)


GIVEN_UP = [
    *[
        pytest.param(error, WRITE, errors.AnswerLost, f"{error}: whether it was done is not known", id=f"write {error}")
        for error in (BUSY, TOLD, HEAVY, CUT, FAULT)
    ],
    pytest.param(errors.Unreached("no way"), WRITE, errors.Unreached, "no way", id="write: never sent"),
    pytest.param(errors.BadQuestion("400"), WRITE, errors.BadQuestion, "400", id="write: refused"),
    pytest.param(FAULT, PAGE, errors.ServerFault, "500, four times in a row", id="500 by full patience"),
    *[
        pytest.param(FAULT, policy, errors.ServerFault, "500", id="500 at once")
        for policy in (HASTY_PAGE, TRIAL_PAGE, SAMPLE, CONTENT)
    ],
    pytest.param(BUSY, PAGE, errors.SourceUnavailable, "502", id="as it is"),
]


@pytest.mark.parametrize(("error", "policy", "kind", "text"), GIVEN_UP)
def test_error_that_is_given_up_says_what_was_done(error, policy, kind, text):
    """A write whose answer was lost is told from one that did not happen; a 500 says how often it was met."""
    found = given_up(error, policy)

    assert type(found) is kind
    assert str(found) == text
