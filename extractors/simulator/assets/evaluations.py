"""Evaluations: list, look, create, change, soft delete, with the quirks of facts/posthog-api.md §4."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from starlette.responses import Response

from extractors.simulator import responses
from extractors.simulator.assets import paging
from extractors.simulator.errors import BadField
from extractors.simulator.profiles import Profile

WRITABLE = (
    "name",
    "description",
    "directory_id",
    "enabled",
    "evaluation_type",
    "evaluation_config",
    "output_type",
    "output_config",
    "conditions",
    "target",
    "target_config",
    "model_configuration",
    "deleted",
)
NEWER = (
    "directory_id",
    "status",
    "status_reason",
    "status_reason_detail",
    "target",
    "target_config",
    "user_access_level",
)
TYPES = ("llm_judge", "hog", "sentiment")
OWNER = {"id": 1, "uuid": "0190d3c8-0000-0000-0000-000000000001", "first_name": "Ann", "email": "ann@example.com"}
ORDERS = ("created_at", "updated_at", "name")


@dataclass(slots=True)
class EvaluationStore:
    """The evaluations of a project; *rows* as they are stored, deleted ones too."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, created_at: datetime, **more: Any) -> dict[str, Any]:
        """A new evaluation, by default an enabled judge with a prompt. Ids follow from the number of rows."""
        with self._lock:
            row = _row(f"00000000-0000-4000-8000-{len(self.rows) + 1:012}", name, created_at, more)
            self.rows.append(row)
            return row

    def seen(self) -> list[dict[str, Any]]:
        """Newest first, then by id; deleted ones are hidden."""
        with self._lock:
            visible = [row for row in self.rows if not row["deleted"]]
        by_id = sorted(visible, key=lambda row: str(row["id"]))
        return sorted(by_id, key=lambda row: str(row["created_at"]), reverse=True)

    def find(self, text: str, *, deleted_too: bool) -> dict[str, Any] | None:
        try:
            name = str(uuid.UUID(text))
        except ValueError:
            return None
        with self._lock:
            found = next((row for row in self.rows if row["id"] == name), None)
        return found if found and (deleted_too or not found["deleted"]) else None


def seeded(now: datetime) -> EvaluationStore:
    """A judge, one that is off, one of each newer type, and a deleted one."""
    store = EvaluationStore()
    store.add("Helpful", now - timedelta(days=3))
    store.add("Polite", now - timedelta(days=3), enabled=False, conditions=[])
    hog = {"source": "return true", "bytecode": ["_H", 1]}
    store.add("Short", now - timedelta(days=2), evaluation_type="hog", evaluation_config=hog, model_configuration=None)
    sentiment = {"source": "user_messages"}
    store.add(
        "Mood",
        now - timedelta(days=1),
        evaluation_type="sentiment",
        evaluation_config=sentiment,
        output_type="sentiment",
        model_configuration=None,
    )
    store.add("Retired", now - timedelta(days=9), deleted=True, enabled=False)
    return store


def answer(store: EvaluationStore, method: str, text: str | None, asked: paging.Asked, profile: Profile) -> Response:
    """One request. DELETE is a 405 with an empty body, unlike every other error."""
    if text is None:
        return _created(store, asked, profile) if method == "POST" else _listed(store, asked, profile)
    if method == "DELETE":
        return Response(b"", 405, {"Allow": "GET, PUT, PATCH, HEAD, OPTIONS"})
    row = store.find(text, deleted_too=method in ("PATCH", "PUT"))
    if row is None:
        newer = f"No evaluation '{text}' in this project. List the project's evaluations to look one up by name."
        return responses.not_found(newer if profile.evaluations_newer else "Not found.")
    if method in ("PATCH", "PUT"):
        _change(row, paging.given(asked.body), asked.now)
    return responses.json_answer(shown(row, profile))


def shown(row: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """A row as the server shows it: older ones lack the newer fields and have compiled conditions."""
    if profile.evaluations_newer:
        return dict(row)
    older = {name: value for name, value in row.items() if name not in NEWER}
    older["conditions"] = [condition | {"bytecode": ["_H", 1]} for condition in row["conditions"]]
    return older


def _listed(store: EvaluationStore, asked: paging.Asked, profile: Profile) -> Response:
    rows = store.seen()
    tests: dict[str, Callable[[dict[str, Any], str], bool]] = {
        "search": lambda row, text: text.lower() in f"{row['name']} {row['description']}".lower(),
        "enabled": lambda row, text: row["enabled"] == (text.lower() == "true"),
        "evaluation_type": lambda row, text: row["evaluation_type"] in text.split(","),
        "id__in": lambda row, text: row["id"] in text.split(","),
    }
    for name, test in tests.items():
        wanted = asked.params.get(name)
        if wanted:
            rows = [row for row in rows if test(row, wanted)]
    order = asked.params.get("order_by", "")
    if order.lstrip("-") in ORDERS:
        rows = sorted(rows, key=lambda row: str(row[order.lstrip("-")]), reverse=order.startswith("-"))
    return paging.page([shown(row, profile) for row in rows], asked)


def _created(store: EvaluationStore, asked: paging.Asked, profile: Profile) -> Response:
    given = paging.given(asked.body)
    for name in ("name", "evaluation_type", "output_type"):
        if not given.get(name):
            raise BadField(name, "required", "This field is required.")
    fresh = _row(str(uuid.uuid4()), str(given["name"]), asked.now, {})
    fresh |= {"model_configuration": None}
    _change(fresh, given, asked.now)
    store.rows.append(fresh)
    return responses.json_answer(shown(fresh, profile), status=201)


def _change(row: dict[str, Any], given: Mapping[str, Any], now: datetime) -> None:
    """Take what is writable; read-only and unknown keys are passed over. Raises BadField before anything is changed."""
    changed = row | {name: given[name] for name in WRITABLE if name in given}
    if not isinstance(changed["name"], str) or not changed["name"].strip():
        raise BadField("name", "blank", "This field may not be blank.")
    if len(changed["name"]) > 400:
        raise BadField("name", "max_length", "Ensure this field has no more than 400 characters.")
    changed["evaluation_config"] = _config(changed["evaluation_type"], changed["evaluation_config"])
    if "output_config" in given:
        changed["output_config"] = row["output_config"] | given["output_config"]
    changed["conditions"] = _conditions(changed["conditions"])
    model = changed["model_configuration"]
    if (model is None) != (changed["evaluation_type"] != "llm_judge"):
        raise BadField("model_configuration", "invalid_input", "A judge has a model, other types have none.")
    changed["status"] = "active" if changed["enabled"] else "paused"
    changed["updated_at"] = paging.stamp(now)
    row.update(changed)


def _config(kind: str, config: object) -> dict[str, Any]:
    if kind not in TYPES:
        raise BadField("evaluation_type", "invalid_choice", f'"{kind}" is not a valid choice.')
    if not isinstance(config, dict):
        raise BadField("config", "invalid_input", "Invalid evaluation_config")
    if kind == "llm_judge":
        prompt = config.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise BadField("config", "invalid_input", "Prompt cannot be empty")
        return {"prompt": prompt.strip()}
    if kind == "hog":
        if not config.get("source"):
            raise BadField("config", "invalid_input", "Source cannot be empty")
        return {"source": config["source"], "bytecode": ["_H", 1]}
    if config.get("source") != "user_messages":
        raise BadField("config", "invalid_input", "Invalid source")
    return {"source": "user_messages"}


def _conditions(conditions: object) -> list[dict[str, Any]]:
    if not isinstance(conditions, list) or not all(isinstance(one, dict) and one.get("id") for one in conditions):
        raise BadField("conditions", "invalid_input", "Each condition needs an id.")
    kept = []
    for one in conditions:
        percentage = one.get("rollout_percentage", 100)
        if not isinstance(percentage, int | float) or not 0 <= percentage <= 100:
            raise BadField("conditions", "invalid_input", "rollout_percentage must be between 0 and 100.")
        kept.append({"id": one["id"], "rollout_percentage": percentage, "properties": one.get("properties", [])})
    return kept


def _row(name_id: str, name: str, created_at: datetime, more: Mapping[str, Any]) -> dict[str, Any]:
    at = paging.stamp(created_at)
    row: dict[str, Any] = {
        "id": name_id,
        "name": name,
        "description": "",
        "directory_id": None,
        "enabled": True,
        "status": "active",
        "status_reason": None,
        "status_reason_detail": None,
        "evaluation_type": "llm_judge",
        "evaluation_config": {"prompt": "Is the answer helpful?"},
        "output_type": "boolean",
        "output_config": {"allows_na": False},
        "conditions": [{"id": "all", "rollout_percentage": 100, "properties": []}],
        "target": "generation",
        "target_config": {},
        "model_configuration": {
            "provider": "openai",
            "model": "gpt-5-mini",
            "provider_key_id": None,
            "provider_key_name": None,
        },
        "created_at": at,
        "updated_at": at,
        "created_by": OWNER,
        "deleted": False,
        "user_access_level": "editor",
    }
    row |= more
    row["status"] = "active" if row["enabled"] else "paused"
    return row
