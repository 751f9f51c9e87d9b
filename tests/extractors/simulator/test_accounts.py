"""What clients ask first: whose key it is, which projects it sees, what it may (docs/simulator.md)."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from extractors.simulator.data.dataset import Dataset
from extractors.simulator.profiles import OLD_2023
from extractors.simulator.server import serve
from tests.extractors.simulator.asking import FREE, client_of

SCOPES = frozenset({"project:read", "query:read"})


@pytest.fixture(scope="module")
def two() -> Iterator[httpx.Client]:
    """A client of a server with the projects 7 and 8."""
    with serve({7: Dataset(), 8: Dataset()}, profile=FREE) as simulator, client_of(simulator) as client:
        yield client


PLACES = ["/api/projects/", "/api/projects", "/api/environments/", "/api/organizations/@current/projects/"]


@pytest.mark.parametrize("place", PLACES)
def test_projects_are_listed_wherever_clients_look(place, two):
    """Every served project, in PostHog's envelope."""
    answer = two.get(place).json()

    assert [project["id"] for project in answer["results"]] == [7, 8]
    assert (answer["count"], answer["next"], answer["previous"]) == (2, None, None)


def test_projects_are_paged(two):
    """By limit and offset, with `next` leading through all of them."""
    first = two.get("/api/projects/", params={"limit": 1}).json()
    second = two.get(first["next"]).json()

    assert [page["results"][0]["id"] for page in (first, second)] == [7, 8]
    assert second["next"] is None


@pytest.mark.parametrize(("name", "number"), [("7", 7), ("8", 8), ("@current", 7)])
def test_one_project_is_shown(name, number, two):
    """By its number or as the key's current one, with the time zone and the organization that it belongs to."""
    project = two.get(f"/api/projects/{name}/").json()
    organization = two.get("/api/organizations/@current/").json()

    assert (project["id"], project["timezone"]) == (number, FREE.project_timezone)
    assert project["organization"] == organization["id"]


@pytest.mark.parametrize("path", ["/api/projects/9/", "/api/projects/x/", "/api/organizations/x/projects/"])
def test_what_is_not_there_is_404(path, two):
    """An unknown project or organization is not found."""
    assert two.get(path).status_code == 404


def test_user_has_organization_and_current_project(two):
    """`@me` is the key's owner, which tells clients where they are."""
    user = two.get("/api/users/@me/").json()

    assert (user["team"]["id"], user["organization"]["id"]) == (7, user["team"]["organization"])
    assert [one["id"] for one in user["organizations"]] == [user["organization"]["id"]]


def test_key_tells_its_scopes_and_not_itself():
    """A key may always look at itself; other places need their scope, and one that is missing is named."""
    with serve(Dataset(), profile=FREE, scopes=SCOPES) as simulator, client_of(simulator) as client:
        key = client.get("/api/personal_api_keys/@current/")
        user = client.get("/api/users/@me/")
        projects = client.get("/api/projects/")

    assert key.json()["scopes"] == sorted(SCOPES)
    assert simulator.key not in key.text
    assert (user.status_code, projects.status_code) == (403, 200)
    assert "user:read" in user.json()["detail"]


def test_every_place_needs_the_key(two):
    """Without it 401, as everywhere."""
    paths = [*PLACES, "/api/projects/7/", "/api/users/@me/", "/api/personal_api_keys/@current/", "/api/organizations/"]

    assert {two.get(path, headers={"Authorization": ""}).status_code for path in paths} == {401}


def test_server_of_2023_lists_projects_and_shows_no_key():
    """Keys had no scopes then, and one prefix was there."""
    paths = ["/api/projects/", "/api/users/@me/", "/api/environments/", "/api/personal_api_keys/@current/"]
    with serve(Dataset(), profile=OLD_2023) as simulator, client_of(simulator) as client:
        assert [client.get(path).status_code for path in paths] == [200, 200, 404, 404]
