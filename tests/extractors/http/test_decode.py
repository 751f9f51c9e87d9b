"""Decoding answers: every status has its error, every row stays or is rejected with its text, nothing is rewritten."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors import errors
from extractors.http import answers, decode, scan

AT = datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)
UUID = "01890a5d-ac96-774b-bcce-b302099a8057"
DATE = "Wed, 21 Oct 2026 07:27:00 GMT"
HUGE = '{"n": ' + "9" * 5_000 + "}"
DEEP = '{"a":' + "[" * 5_000 + "]" * 5_000 + "}"


def row(properties: str = "{}", **fields: object) -> str:
    """JSON text of one event; a field given as None is missing."""
    event = {"id": UUID, "event": "e", "distinct_id": "d", "timestamp": AT.isoformat(), "elements_chain": "", **fields}
    members = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in event.items() if value is not None]
    return "{" + ", ".join([*members, f'"properties": {properties}']) + "}"


def body(*rows: str, next_address: str = "null") -> bytes:
    return f'{{"next": {next_address}, "results": [{", ".join(rows)}]}}'.encode()


def problem(detail: str, code: str = "error") -> bytes:
    return json.dumps({"type": "x", "code": code, "detail": detail, "attr": None}).encode()


STATUSES = [
    pytest.param(401, problem("wrong key"), errors.AccessDenied, "POSTHOG_PERSONAL_API_KEY", id="401"),
    pytest.param(403, problem("missing scope 'insight:read'"), errors.AccessDenied, "insight:read", id="403 scope"),
    pytest.param(403, problem("no membership"), errors.AccessDenied, "access to this project", id="403 project"),
    pytest.param(404, problem("Endpoint not found."), errors.EndpointMissing, "POSTHOG_HOST", id="404 address"),
    pytest.param(404, problem("No project.", "not_found"), errors.AccessDenied, "POSTHOG_PROJECT_ID", id="404 project"),
    pytest.param(404, b"<html>", errors.AccessDenied, "POSTHOG_HOST", id="404 of a proxy"),
    pytest.param(404, problem("no such dashboard"), errors.RequestRefused, "", id="404 other"),
    *[pytest.param(s, b"", errors.UnusableAnswer, "POSTHOG_HOST", id=str(s)) for s in (301, 302, 307, 308)],
    *[pytest.param(s, problem("no"), errors.RequestRefused, "", id=str(s)) for s in (204, 400, 402, 405, 422)],
    pytest.param(
        405, problem("no", "method_not_allowed"), errors.RequestRefused, "", id="405 of what every server has"
    ),
    *[pytest.param(s, problem("no"), errors.NotReady, "", id=str(s)) for s in (409, 425)],
    pytest.param(429, problem("throttled"), errors.LimitsExhausted, "", id="429"),
    *[pytest.param(s, problem("heavy"), errors.RangeTooHeavy, "", id=str(s)) for s in (504, 512, 513)],
    *[pytest.param(s, b"<html>", errors.SourceUnavailable, "later", id=str(s)) for s in (502, 503)],
    *[pytest.param(s, b"", errors.ServerFault, "", id=str(s)) for s in (500, 501, 520)],
]


@pytest.mark.parametrize(("status", "answer", "error", "hint"), STATUSES)
def test_checked_raises_the_error_of_the_status(status, answer, error, hint):
    """Every status but success says what the caller can do, with a hint where the user can mend it."""
    with pytest.raises(errors.SourceError) as raised:
        answers.checked(status, {}, answer)

    assert type(raised.value) is error
    assert hint in raised.value.hint
    assert bool(hint) == bool(raised.value.hint)
    assert str(status) in str(raised.value)


ENTRIES = [
    pytest.param(404, problem("Not found.", "not_found"), errors.NotFound, id="of the entry"),
    pytest.param(404, problem("Project not found.", "not_found"), errors.AccessDenied, id="of the project"),
    pytest.param(404, problem("Endpoint not found.", "not_found"), errors.EndpointMissing, id="of the address"),
    pytest.param(404, b"<html>", errors.AccessDenied, id="of a proxy"),
    pytest.param(400, problem("bad"), errors.BadQuestion, id="400 of what the user gave"),
]


@pytest.mark.parametrize(("status", "answer", "error"), ENTRIES)
def test_404_of_an_entry_and_400_of_the_user_are_told_apart(status, answer, error):
    """A missing entry is not a missing project, and a user's bad question is not a fault of the program."""
    with pytest.raises(errors.SourceError) as raised:
        answers.checked(status, {}, answer, entry="export 7", by_user=True)

    assert type(raised.value) is error


TOO_OLD = [
    pytest.param(404, problem("Endpoint not found.", "not_found"), errors.EndpointMissing, id="no address"),
    pytest.param(405, problem('Method "GET" not allowed.', "method_not_allowed"), errors.NotOffered, id="no method"),
]


@pytest.mark.parametrize(("status", "answer", "error"), TOO_OLD)
def test_what_a_server_is_too_old_for_is_said_so(status, answer, error):
    """The address of a PostHog app is not to blame where a newer PostHog has what was asked."""
    with pytest.raises(errors.SourceError, match="this server is too old for evaluations") as raised:
        answers.checked(status, {}, answer, newer="evaluations")

    assert type(raised.value) is error
    assert "POSTHOG_HOST" not in raised.value.hint
    assert "upgrade PostHog" in raised.value.hint


def test_a_405_that_is_not_of_posthog_makes_no_server_old():
    """A proxy's 405 is a refusal, whatever was asked."""
    with pytest.raises(errors.RequestRefused) as raised:
        answers.checked(405, {}, problem("no"), newer="evaluations")

    assert type(raised.value) is errors.RequestRefused


UNNAMED = [
    pytest.param(problem("Not found.", "not_found"), id="in words that any 404 has"),
    pytest.param(b"<html>", id="of a proxy"),
]


@pytest.mark.parametrize("answer", UNNAMED)
def test_404_that_does_not_say_what_is_missing_may_be_the_address(answer):
    """Until the address is known to exist it is not believed to be about the project or an entry."""
    with pytest.raises(errors.EndpointMissing):
        answers.checked(404, {}, answer, entry="export 7", address_known=False)


def test_checked_message_is_short_and_has_the_detail():
    """The server's own words are told, never a whole body."""
    with pytest.raises(errors.RequestRefused, match="unparsable") as raised:
        answers.checked(400, {}, problem("unparsable " + "x" * 5_000))

    assert len(str(raised.value)) < 300


RETRY_AFTER = [
    pytest.param({"retry-after": "37"}, 37.0, id="seconds"),
    pytest.param({"retry-after": " 0 "}, 0.0, id="zero"),
    pytest.param({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": DATE}, 60.0, id="date"),
    pytest.param({"retry-after": "Wed, 21 Oct 2026 07:26:00 GMT", "date": DATE}, 0.0, id="date gone by"),
    pytest.param({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, id="date without the server's clock"),
    pytest.param({"retry-after": "soon"}, None, id="words"),
    pytest.param({"retry-after": "²"}, None, id="a digit that is no number"),
    pytest.param({}, None, id="absent"),
]


@pytest.mark.parametrize(("headers", "expected"), RETRY_AFTER)
def test_retry_after_reads_seconds_and_dates(headers, expected):
    """Both forms of the header count; what cannot be read counts as absent."""
    assert answers.retry_after_s(headers) == expected


@pytest.mark.parametrize(("text", "expected"), [("37", 37.0), ("", 1.0), ("0", 1.0)])
def test_throttled_answer_always_names_a_wait(text, expected):
    """A 429 never makes the caller ask again at once."""
    with pytest.raises(errors.LimitsExhausted) as raised:
        answers.checked(429, {"retry-after": text}, b"")

    assert raised.value.retry_after_s == expected


LETTERS = [
    '{"n": 123456789012345678901234567890}',
    '{"z": -0.0, "e": 1E400, "f": 1.10}',
    '{"a": 1, "a": 2}',
    '{"nul": "a\\u0000b", "pair": "\\ud83e\\udd94", "slash": "\\/"}',
    '{"b": {"d": 1, "c": 2}, "a": []}',
    '{ "spaced" :\t[ 1 ,2 ] }',
    '{"é": "\U0001f994"}',
    "{}",
]
NEIGHBOURS = [
    pytest.param([], LETTERS, id="good page"),
    pytest.param([row(id="bad")], LETTERS, id="beside a bad row"),
    pytest.param([], [HUGE], id="huge number"),
    pytest.param([row(id="bad")], [HUGE], id="huge number beside a bad row"),
]


@pytest.mark.parametrize(("bad", "texts"), NEIGHBOURS)
def test_page_keeps_properties_to_the_letter(bad, texts):
    """Digits, signs, key order, duplicate keys, escapes and blanks stay as received, whatever the neighbours are."""
    page = decode.page(body(*bad, *map(row, texts)))

    assert page.rows["properties"].to_pylist() == texts
    assert page.received == len(bad) + len(texts)


TIMES = [
    pytest.param("2026-01-31T12:00:00.500000+00:00", AT, id="microseconds"),
    pytest.param("2026-01-31T12:00:00.5Z", AT, id="one digit, Z"),
    pytest.param("2026-01-31T12:00:00+00:00", AT.replace(microsecond=0), id="no fraction"),
    pytest.param("2026-01-31T17:45:00.500000+05:45", AT, id="east of UTC"),
    pytest.param("2026-01-31T01:00:00.500000-11:00", AT, id="west of UTC"),
    pytest.param("1969-12-31T23:59:59.999999Z", datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), id="before 1970"),
    pytest.param("0001-01-01T00:00:00Z", datetime.min.replace(tzinfo=UTC), id="the first"),
    pytest.param("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC), id="the last"),
]


@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_page_reads_timestamps_as_utc(text, expected):
    """Every zone and every length of fraction up to microseconds gives the same instant."""
    assert decode.page(body(row(timestamp=text))).rows["timestamp"].to_pylist() == [expected]


def test_page_takes_a_missing_elements_chain_as_empty():
    """Servers that do not send the column lose no row for it."""
    assert decode.page(body(row(elements_chain=None))).rows["elements_chain"].to_pylist() == [""]


BAD = [
    pytest.param(row(id="x" + UUID), "uuid", id="bad uuid"),
    pytest.param(row(id=UUID.upper()), "uuid", id="uuid not canonical"),
    pytest.param(row("[1]"), "properties", id="properties an array"),
    pytest.param(row("null"), "properties", id="properties null"),
    pytest.param(row(event=None), "event", id="missing key"),
    pytest.param(row(distinct_id=7), "distinct_id", id="wrong type"),
    pytest.param(row(timestamp="2026-01-31T12:00:00"), "2026-01-31T12:00:00", id="naive timestamp"),
    pytest.param(row(timestamp="2026-01-31T12:00:00.123456789Z"), "123456789", id="nanoseconds"),
    pytest.param(row('{"a": nan}'), "malformed", id="a word that no JSON writer has"),
    pytest.param(row('{"a": 1.Infinity}'), "malformed", id="a word inside a number"),
    pytest.param(row("{Infinity: 1}"), "malformed", id="a word for a name"),
    pytest.param(row('{"a": Infinity Infinity}'), "malformed", id="two words for a value"),
    pytest.param(row("NaN"), "properties", id="properties a word"),
    pytest.param(row(event=0).replace(": 0", ": Infinity"), "event", id="a word for a name of the event"),
    pytest.param(row('{"a": "\\ud800, half"}'), "malformed", id="half a surrogate pair"),
    pytest.param("17", "object", id="a number for a row"),
    pytest.param("[1, 2]", "object", id="an array for a row"),
    pytest.param(row(DEEP), "deep", id="deep nesting"),
    pytest.param(row(timestamp="0001-01-01T00:00:00+01:00"), "years 1 to 9999", id="year 0"),
    pytest.param(row(timestamp="9999-12-31T23:59:59.999999-01:00"), "years 1 to 9999", id="year 10000"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_page_rejects_a_row_that_cannot_be_typed(bad, reason):
    """The row is kept as text with a reason, and its neighbours on both sides stay rows."""
    page = decode.page(body(bad, row(event="a"), bad, row(event="b")))

    assert page.rows["event"].to_pylist() == ["a", "b"]
    assert page.rejects["text"].to_pylist() == [bad, bad]
    assert all(reason in told for told in page.rejects["reason"].to_pylist())


def test_one_row_with_a_number_for_a_uuid_is_a_reject():
    """A server that numbers all its events is refused; one such row keeps no other from being landed."""
    bad = row(id=7)
    page = decode.page(body(bad, row(event="a")))

    assert (page.rows["event"].to_pylist(), page.rejects["text"].to_pylist()) == (["a"], [bad])
    with pytest.raises(errors.UnusableAnswer, match="numbers its events"):
        decode.page(body(bad, row(id=8)))


WORDS = [
    '{"f":Infinity,"g":-0.0,"h":1e+21}',
    '{"a": -Infinity, "b": [NaN, {"c":NaN}], "d": "a \\" NaN, \\\\"}',
    '{"NaN":"Infinity", "n": 123456789012345678901234567890, "i":Infinity}',
]


@pytest.mark.parametrize("text", WORDS)
def test_page_keeps_numbers_that_json_has_no_word_for(text):
    """`Infinity`, `-Infinity` and `NaN`, which Python's JSON has and old servers send, land to the letter."""
    page = decode.page(body(row(event="a"), row(text, person={"x": 0}).replace('{"x": 0}', '{"x": NaN}'), row("[1]")))

    assert page.rows["properties"].to_pylist() == ["{}", text]
    assert page.rejects.num_rows == 1


@pytest.mark.parametrize("text", WORDS)
def test_numbers_that_json_has_no_word_for_are_texts_in_documents(text):
    """What is printed is JSON: each word stands in quotes, texts and everything else stay to the letter."""
    quoted = scan.quoted_words(text)

    expected = json.loads(text, parse_constant=str, parse_int=str, parse_float=str)
    assert json.loads(quoted, parse_constant=pytest.fail, parse_int=str, parse_float=str) == expected


NO_TEXT = [
    b"\xff",
    b"\x80",
    b"\xc3",
    b"\xc0\x80",
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
]


@pytest.mark.parametrize("found", NO_TEXT)
def test_page_rejects_a_row_that_is_not_utf8(found):
    """Bytes that are no text, as Python understands it, are shown escaped; nothing is replaced silently."""
    page = decode.page(body(row(), row('{"a": "?"}')).replace(b"?", found))

    assert page.rows.num_rows == 1
    assert page.rejects["reason"].to_pylist() == ["not UTF-8"]
    assert '{"a": "' + found.decode("utf-8", "backslashreplace") + '"}' in page.rejects["text"][0].as_py()


LATER = (AT + timedelta(seconds=9)).isoformat()
PLACES = [
    pytest.param([row(id="x", timestamp=LATER), row()], AT + timedelta(seconds=9), id="its own time"),
    pytest.param(
        [row(), row(timestamp=LATER), row(timestamp="?"), row()], AT + timedelta(seconds=9), id="the row before"
    ),
    pytest.param([row(timestamp="?"), row()], AT, id="the first row, where none is before"),
    pytest.param([row(timestamp="?")], None, id="no row has a time"),
]


@pytest.mark.parametrize(("rows", "expected"), PLACES)
def test_reject_has_a_place_in_time(rows, expected):
    """A reject belongs to a window by its own time, else by its neighbour in the sorted page."""
    assert decode.page(body(*rows)).rejects["at"].to_pylist() == [expected]


CUT = [b"", b"<html>busy</html>", body(row())[:-4], body(row()) + b"x", b"[]", b"{}", b'{"results": null}', b"\xff"]


@pytest.mark.parametrize("answer", CUT)
def test_page_without_its_whole_document_is_cut(answer):
    """HTML, a torn body or another document is never a page, not even an empty one."""
    with pytest.raises(errors.BodyCut):
        decode.page(answer)


GOOD_ROWS = st.sampled_from([*map(row, LETTERS), row(event="other"), row(timestamp=LATER)])
BAD_ROWS = st.sampled_from([case.values[0] for case in BAD if not case.marks])


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.one_of(GOOD_ROWS, BAD_ROWS), max_size=12), st.sampled_from(["", " \n", "\t"]))
def test_no_row_of_any_page_vanishes(rows, blank):
    """Whatever a page holds, every row sent is received: as a row, or as a reject with its text, in order."""
    bad = [text for text in rows if text in {case.values[0] for case in BAD}]

    page = decode.page(body(*(blank + text + blank for text in rows)))

    assert page.received == len(rows)
    assert page.rejects["text"].to_pylist() == bad


NEXT = [
    pytest.param("null", (False, None), id="none"),
    pytest.param('"https://other/?after=2026-01-31T13%3A00%3A00.5%2B01%3A00"', (True, AT), id="its time"),
    pytest.param('"https://other/?after=2026-01-31T12:00:00"', (True, None), id="naive time"),
    pytest.param('"https://[other/?after=1"', (True, None), id="no address"),
]


@pytest.mark.parametrize("neighbours", [[], [row(id="bad")]], ids=["good page", "beside a bad row"])
@pytest.mark.parametrize(("address", "expected"), NEXT)
def test_page_reads_only_the_time_of_next(address, expected, neighbours):
    """`next` says that more follow and from when; an address that cannot be read still says that more follow."""
    page = decode.page(body(row(), *neighbours, next_address=address))

    assert (page.more, page.cursor) == expected


def test_query_rows_are_values():
    """Rows of a fresh, whole answer come back as tuples."""
    assert decode.query_rows(b'{"results": [[1, "a", null, 1.5]], "hasMore": false}') == ((1, "a", None, 1.5),)


UNUSABLE = [
    pytest.param(b'{"results": [[1]], "is_cached": true}', errors.UnusableAnswer, id="cached"),
    pytest.param(b'{"results": [[1]], "hasMore": true}', errors.UnusableAnswer, id="cut off"),
    pytest.param(b'{"results": [{"n": 1}]}', errors.BodyCut, id="wrong shape"),
    pytest.param(b'{"columns": []}', errors.BodyCut, id="no results"),
    pytest.param(b"<html>", errors.BodyCut, id="no JSON"),
]


@pytest.mark.parametrize(("answer", "error"), UNUSABLE)
def test_query_answer_that_proves_nothing_is_an_error(answer, error):
    """A count out of a cache or of a part is worse than none."""
    with pytest.raises(error):
        decode.query_rows(answer)


@pytest.mark.parametrize(
    "text", ["7200", "9" * 400, "Sat, 01 Jan 2090 00:00:00 GMT"], ids=["two hours", "more than a number", "a date"]
)
def test_retry_after_is_an_hour_at_most(text):
    """No answer can make a run wait for a day, or name a time that no clock has."""
    assert answers.retry_after_s({"retry-after": text, "date": "Mon, 30 Nov 2026 00:00:00 GMT"}) == 3600
