"""Whose key it is and what it may see: projects, organization, user and the key itself, which clients ask first.

Fields are those of PostHog of late 2026, on every profile; older servers have fewer. One user, one organization, to
which every project belongs. Addresses: docs/simulator.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from extractors.simulator import responses
from extractors.simulator.assets import paging
from extractors.simulator.profiles import Profile

SCOPES: Mapping[str, str] = {
    "projects": "project:read",
    "project": "project:read",
    "organizations": "organization:read",
    "organization": "organization:read",
    "user": "user:read",
    "key": "",
}
"""Endpoint, in the words of Simulator.count → the scope that it needs; a key may always look at itself."""

MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
CURRENT = "@current"


def endpoint(parts: Sequence[str], profile: Profile) -> str | None:
    """Which of SCOPES the address `/a/b/…` leads to, if any, on a server of that profile."""
    match tuple(parts):
        case ("api", prefix) if prefix in profile.prefixes:
            return "projects"
        case ("api", prefix, _) if prefix in profile.prefixes:
            return "project"
        case ("api", "organizations"):
            return "organizations"
        case ("api", "organizations", _):
            return "organization"
        case ("api", "organizations", _, "projects"):
            return "projects"
        case ("api", "users", "@me"):
            return "user"
        case ("api", "personal_api_keys", name) if name == CURRENT and profile.key_shown:
            return "key"
    return None


@dataclass(frozen=True, slots=True)
class Account:
    """The key's owner. *projects*: the numbers of the organization's, the first of which is the current one."""

    projects: tuple[int, ...]
    key: str
    scopes: frozenset[str]
    timezone: str

    def answer(self, name: str, parts: Sequence[str], asked: paging.Asked) -> Response:
        """The answer of endpoint *name*, one of SCOPES."""
        if parts[1] == "organizations" and len(parts) > 2 and parts[2] not in (CURRENT, _identity("organization")):
            return responses.not_found("Organization not found.")
        if name == "projects":
            return paging.page([self._project(number) for number in self.projects], asked)
        if name == "project":
            number = self._number(parts[2])
            found = number is not None
            return responses.json_answer(self._project(number)) if found else responses.not_found("Not found.")
        if name == "organizations":
            return paging.page([_organization()], asked)
        if name == "organization":
            return responses.json_answer(self._whole_organization())
        return responses.json_answer(self._user() if name == "user" else self._key())

    def _number(self, text: str) -> int | None:
        if text == CURRENT:
            return next(iter(self.projects), None)
        return int(text) if text.isdecimal() and int(text) in self.projects else None

    def _project(self, number: int | None) -> dict[str, Any]:
        return {
            "id": number,
            "uuid": _identity(f"project {number}"),
            "organization": _identity("organization"),
            "project_id": number,
            "api_token": f"phc_simulator_{number}",
            "name": f"Project {number}",
            "completed_snippet_onboarding": True,
            "has_completed_onboarding_for": {},
            "ingested_event": True,
            "is_demo": False,
            "timezone": self.timezone,
            "access_control": False,
        }

    def _whole_organization(self) -> dict[str, Any]:
        projects = [self._project(number) for number in self.projects]
        return _organization() | {
            "created_at": paging.stamp(MADE_AT),
            "updated_at": paging.stamp(MADE_AT),
            "teams": projects,
            "projects": [{name: one[name] for name in ("id", "name")} for one in projects],
            "member_count": 1,
        }

    def _user(self) -> dict[str, Any]:
        return {
            "id": 1,
            "uuid": _identity("user"),
            "distinct_id": "simulator-user",
            "first_name": "Sim",
            "last_name": "Ulator",
            "email": "user@simulator.invalid",
            "is_email_verified": True,
            "is_staff": False,
            "date_joined": paging.stamp(MADE_AT),
            "team": self._project(self.projects[0]) if self.projects else None,
            "organization": self._whole_organization(),
            "organizations": [_organization()],
        }

    def _key(self) -> dict[str, Any]:
        return {
            "id": "simulator",
            "label": "simulator",
            "value": None,
            "mask_value": f"{self.key[:4]}...{self.key[-4:]}",
            "created_at": paging.stamp(MADE_AT),
            "last_used_at": None,
            "user_id": 1,
            "scopes": sorted(self.scopes),
            "scoped_teams": [],
            "scoped_organizations": [],
        }


def _organization() -> dict[str, Any]:
    return {
        "id": _identity("organization"),
        "name": "Simulator",
        "slug": "simulator",
        "logo_media_id": None,
        "membership_level": 15,
        "members_can_use_personal_api_keys": True,
        "is_active": True,
        "is_not_active_reason": None,
        "is_pending_deletion": False,
    }


def _identity(what: str) -> str:
    """A uuid of the thing, the same in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://simulator.invalid/{what}"))
