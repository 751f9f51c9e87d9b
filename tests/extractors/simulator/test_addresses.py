"""Addresses, keys, limits and single events (facts/posthog-api.md §1.1, §2.1, §5)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import httpx
import pytest

from extractors.simulator.data.dataset import Dataset, Event
from extractors.simulator.http.limits import RateLimits
from extractors.simulator.profiles import CLOUD
from extractors.simulator.server import serve
from tests.extractors.simulator.asking import FREE, LIST, NOW, SERVER_ERROR, ago, client_of, event, numbers, served

KEYS = [
    pytest.param("", "not_authenticated", "Authentication credentials were not provided.", id="none"),
    pytest.param(
        "Bearer phx_wrong",
        "authentication_failed",
        "Personal API key found in request Authorization header is invalid.",
        id="wrong",
    ),
]


@pytest.mark.parametrize(("header", "code", "detail"), KEYS)
def test_without_the_key_everything_is_401(header, code, detail, shared):
    """A missing and a wrong key are told apart, both as 401 with a challenge."""
    answer = shared.get(LIST, headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.json() == {"type": "authentication_error", "code": code, "detail": detail, "attr": None}
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("path", ["/api/projects/2/events/", "/api/projects/x/events/"])
def test_another_project_is_404(path, shared):
    """A project that is not there, or no number, is a 404 that says so."""
    answer = shared.get(path)

    assert answer.status_code == 404
    assert answer.json() == {
        "type": "invalid_request",
        "code": "not_found",
        "detail": "Project not found.",
        "attr": None,
    }


def test_both_prefixes_answer_with_or_without_a_slash():
    """`environments` and `projects` are the same list; the slash at the end is optional."""
    paths = [f"/api/{prefix}/1/events{slash}" for prefix in ("environments", "projects") for slash in ("", "/")]

    with served(event(1, ago(hours=1))) as client:
        assert [numbers(client.get(path)) for path in paths] == [[1]] * 4


@pytest.mark.parametrize("prefixes", [("projects",), ("environments",)])
def test_server_with_one_prefix_has_no_other(prefixes):
    """What is not under the server's own prefix does not exist, whatever the key."""
    with served(event(1, ago(hours=1)), profile=replace(FREE, prefixes=prefixes)) as client:
        answers = {name: client.get(f"/api/{name}/1/events/") for name in ("projects", "environments")}

    assert numbers(answers.pop(prefixes[0])) == [1]
    (other,) = answers.values()
    assert (other.status_code, other.json()["detail"]) == (404, "Endpoint not found.")


def test_current_is_the_first_project_of_the_key():
    """`@current` stands for the first project, also in `next`."""
    datasets = {7: Dataset([event(1, ago(hours=1)), event(2, ago(hours=2))]), 3: Dataset([event(3, ago(hours=1))])}

    with serve(datasets, profile=FREE, now=lambda: NOW) as simulator, client_of(simulator) as client:
        answer = client.get("/api/projects/@current/events/", params={"limit": 1})
        following = client.get(answer.json()["next"])

    assert numbers(answer) == [1]
    assert "/api/projects/@current/events/?" in answer.json()["next"]
    assert numbers(following) == [2]


def test_wrong_method_is_405(shared):
    """The list only answers GET."""
    answer = shared.post(LIST)

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_rate_limit_tells_when_to_come_again_and_forgets_refused_requests(monkeypatch):
    """Over the limit is 429 with the seconds until the oldest counted request leaves; refused ones never count."""
    clock = [1000.0]
    monkeypatch.setattr("extractors.simulator.http.app.RateLimits", partial(RateLimits, clock=lambda: clock[0]))
    seen = []

    with served(profile=replace(CLOUD, per_minute=2)) as client:
        for at in (0.0, 10.0, 22.5, 59.0, 60.0, 61.0, 70.0):
            clock[0] = 1000.0 + at
            answer = client.get(LIST)
            seen.append((answer.status_code, answer.headers.get("Retry-After")))
            if at == 22.5:
                body = answer.json()
        values_bucket = client.get(f"{LIST}values", params={"key": "n", "event_name": "seen"})

    assert seen == [(200, None), (200, None), (429, "38"), (429, "1"), (200, None), (429, "9"), (200, None)]
    detail = "Request was throttled. Expected available in 38 seconds."
    assert body == {"type": "throttled_error", "code": "throttled", "detail": detail, "attr": None}
    assert values_bucket.status_code == 200


class Gated(Dataset):
    """Answers nothing until the gate opens; tells how many requests wait at it."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.gate = threading.Semaphore(0), threading.Event()

    def between(self, after: int | None, before: int | None) -> tuple[Event, ...]:
        self.entered.release()
        assert self.gate.wait(10)
        return super().between(after, before)


def test_third_list_request_at_once_is_a_500():
    """Two list requests may run at once in a project; a third fails, and after them all is well."""
    dataset = Gated()
    with serve(dataset, profile=FREE, now=lambda: NOW) as simulator, ThreadPoolExecutor(2) as pool:
        get = partial(httpx.get, simulator.url + LIST, headers={"Authorization": f"Bearer {simulator.key}"})
        running = [pool.submit(get) for _ in range(2)]
        try:
            assert all(dataset.entered.acquire(timeout=10) for _ in running)
            third = get()
        finally:
            dataset.gate.set()
        statuses = [future.result().status_code for future in running]
        later = get()

    assert (third.status_code, third.json()) == (500, SERVER_ERROR)
    assert (statuses, later.status_code) == ([200, 200], 200)


def test_event_by_uuid_is_the_row_of_the_list():
    """The detail answers the same row as the list, whatever the event's age."""
    with served(event(1, ago(hours=1))) as client:
        listed = client.get(LIST).json()["results"][0]
        assert client.get(f"{LIST}{listed['id']}").json() == listed


def test_event_by_uuid_fails_in_two_shapes(shared):
    """What is no UUID is a 400 without `attr`, an unknown UUID a 404."""
    unknown = "00000000-0000-4000-8000-00000000ffff"

    bad, missing = shared.get(f"{LIST}zz"), shared.get(f"{LIST}{unknown}")

    assert (bad.status_code, missing.status_code) == (400, 404)
    assert bad.json() == {"detail": "Invalid UUID", "code": "invalid", "type": "validation_error"}
    detail = f"No events exist for event UUID {unknown}"
    assert missing.json() == {"type": "invalid_request", "code": "not_found", "detail": detail, "attr": None}
