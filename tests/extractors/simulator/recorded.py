"""What three real servers were asked and answered (samples/), and datasets that hold what they held.

1.43 (July 2023), 1.30 (November 2021) and FOSS of December 2023, all self-hosted, with seeded projects; 1.43 was seeded
a second time, with other events, two projects and another zone. Rows that no sample shows but that answers depend on
(those behind a `next`, those that suggestions come from) are stood in for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extractors.simulator.data.dataset import Dataset, Event, Person
from extractors.simulator.profiles import OLD_2021, OLD_2023, SERVER_2023_12, Profile

SAMPLES = Path(__file__).parent / "samples"
Sample = dict[str, Any]

SEEDED_ANEW = (
    *("environments_csv_404", "environments_json_404", "error_no_such_project", "error_other_organization"),
    *("error_person_id_500", "evaluations_404", "exports_list_405", "list_500_nul_in_distinct_id"),
    *("list_after_1969_12_30_loses", "list_after_1969_12_31_last_us", "list_before_2149", "list_before_2150_loses"),
    *("list_copies_after_merge", "list_copies_before_merge", "list_csv_accept_json_406", "list_number_beyond_double"),
    *("query_copies_before_merge", "query_eventsquery_at_the_cap", "query_eventsquery_rows"),
    *("query_todatetime64_refused", "query_todatetime_without_z", "query_todatetime_z"),
)
"""Samples of 1.43 that were recorded after it was seeded a second time."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was recorded, with one seed. *replayed*: paths of the samples that a test has asked for."""

    name: str
    profile: Profile
    project_id: int
    host: str
    at: datetime
    anew: bool = False
    replayed: set[str] = field(default_factory=set, compare=False)

    def samples(self, *prefixes: str, but: tuple[str, ...] = ()) -> list[Sample]:
        """Samples to replay: names start with one of *prefixes* and, with the server's before, end with none of *but*."""
        found = [sample for sample in self._read(*prefixes) if not sample["name"].endswith(but)]
        self.replayed.update(f"{sample['name'].replace(' ', '/')}.json" for sample in found)
        return found

    def _read(self, *prefixes: str) -> list[Sample]:
        paths = sorted({path for prefix in prefixes for path in (SAMPLES / self.name).glob(f"{prefix}*.json")})
        if self.name == "server-1.43":
            paths = [path for path in paths if self.anew == (path.stem in SEEDED_ANEW)]
        return [_unified(json.loads(path.read_text())) | {"name": f"{self.name} {path.stem}"} for path in paths]

    def sample(self, stem: str) -> Sample:
        """The sample of this name."""
        (found,) = (sample for sample in self._read(stem) if sample["name"].endswith(f" {stem}"))
        self.replayed.add(f"{self.name}/{stem}.json")
        return found

    def dataset(self) -> Dataset:
        """Every event that a sample shows, the stand-ins, and the persons that a sample shows."""
        rows = {row["id"]: row for row in self._rows()}
        persons = {
            row["distinct_id"]: Person(
                row["person"]["distinct_ids"][0],
                json.dumps(row["person"]["properties"], ensure_ascii=False),
                row["person"]["is_identified"],
            )
            for row in self._rows()
            if row["person"]
        }
        stand_ins = STAND_INS["server-2023-12" if self.anew else self.name]
        return Dataset([*map(event_of, rows.values()), *stand_ins], persons)

    def _rows(self) -> list[dict[str, Any]]:
        # Copies of one event and rows in a form that is no JSON are served by tests of their own.
        shown = self._read("list_", "retrieve", "error_other_project")
        shown = [sample for sample in shown if not sample["name"].endswith(("_merge", "_beyond_double"))]
        bodies = [sample["response"]["body"] for sample in shown]
        rows = [row for body in bodies for row in body.get("results", [body])]
        return [row for row in rows if "id" in row]


SERVERS = (
    Server("server-1.43", OLD_2023, 2, "http://127.0.0.1:8143", datetime(2026, 11, 23, 15, 40, tzinfo=UTC)),
    Server("server-1.30", OLD_2021, 1, "http://127.0.0.1:8130", datetime(2026, 11, 23, 14, 15, tzinfo=UTC)),
)
LATER = (
    Server("server-1.43", OLD_2023, 1, "http://127.0.0.1:8143", datetime(2026, 11, 25, 15, 30, tzinfo=UTC), anew=True),
    Server("server-2023-12", SERVER_2023_12, 1, "http://127.0.0.1:8144", datetime(2026, 11, 25, 15, 30, tzinfo=UTC)),
)
"""Recorded with both engines seeded alike: project 1 in UTC, project 2 in Berlin, project 3 of another organization."""
BERLIN, FOREIGN = 2, 3


def _unified(sample: Sample) -> Sample:
    """*sample* with `url` in its request and its answer under `response`: some tell them in other words."""
    request = sample["request"]
    answer = sample.get("response") or {name: sample[name] for name in ("status", "headers", "body")}
    return sample | {"request": request | {"url": request.get("url") or request["path"]}, "response": answer}


def event_of(row: dict[str, Any]) -> Event:
    """The event behind a recorded row; rows with numbers get a uuid that ends in it, and a chain from their elements."""
    number = row["id"]
    return Event(
        number if isinstance(number, str) else f"00000000-0000-4000-8000-{number:012x}",
        row["event"],
        row["distinct_id"],
        datetime.fromisoformat(row["timestamp"]).astimezone(UTC),
        json.dumps(row["properties"], ensure_ascii=False),
        row.get("elements_chain", _chain(row["elements"])),
    )


def _chain(elements: list[dict[str, Any]]) -> str:
    texts = []
    for element in elements:
        named = {"text": element["text"], "href": element["href"], "attr_id": element["attr_id"]}
        named |= {"nth-child": element["nth_child"], "nth-of-type": element["nth_of_type"]} | element["attributes"]
        values = "".join(f'{name}="{value}"' for name, value in sorted(named.items()) if value is not None)
        texts.append(".".join([element["tag_name"], *(element["attr_class"] or [])]) + (f":{values}" if values else ""))
    return ";".join(texts)


def _stand_in(number: int, name: str, timestamp: str, properties: str = "{}") -> Event:
    moment = datetime.fromisoformat(timestamp + "+00:00")
    return Event(f"ffffffff-0000-4000-8000-{number:012}", name, "unseen", moment, properties)


# 1.43 listed these names although their events were old; the five common names it left out.
OLD_NAMES = (
    *("odd", "signed up", "bulk", "dup", "dup2", "dup3", "in context", "personless", "survey shown", "with groups"),
    *("$ai_feedback", "$ai_generation", "$create_alias", "$exception", "$feature_flag_called", "$groupidentify"),
    *("$rageclick", "$set", "$set_once", "$web_vitals", "$pageview", "$pageleave", "$identify", "$screen"),
)
STAND_INS: dict[str, tuple[Event, ...]] = {
    "server-2023-12": (
        _stand_in(1, "behind `next`", "2026-11-25T13:59:59"),
        replace(_stand_in(2, "poisoned", "2026-10-25T03:17:05.123456"), distinct_id="holds\0NUL"),
    ),
    "server-1.43": (
        _stand_in(1, "$autocapture", "2026-11-23T15:38:54.730999"),
        _stand_in(2, "purchase", "2026-11-23T15:38:54.776999"),
        _stand_in(3, "tied", "2026-11-06T15:21:36.123456"),
        _stand_in(4, "future", "2026-11-24T15:21:37.222766"),
        _stand_in(5, "near_future", "2026-11-23T16:21:37"),
        _stand_in(6, "recent", "2026-11-23T14:24:06", '{"$browser":"Firefox","flag":false,"nested":{"a": [1, 2]}}'),
        _stand_in(7, "recent", "2026-11-23T14:24:05", '{"$browser":"Chrome","flag":true}'),
        _stand_in(8, "odd", "2026-11-15T23:59:59", '{"$browser":"Safari","flag":"old","nested":{"old": true}}'),
        *(_stand_in(100 + number, name, "2026-10-14T15:00:00") for number, name in enumerate(OLD_NAMES)),
    ),
    "server-1.30": (
        _stand_in(1, "$autocapture", "2026-11-08T15:12:15"),
        _stand_in(2, "purchase", "2026-11-03T21:01:20"),
        _stand_in(3, "tied", "2026-11-06T15:12:14.123456"),
        _stand_in(4, "future", "2026-11-24T14:12:14"),
        _stand_in(5, "near_future", "2026-11-23T15:12:14"),
        _stand_in(6, "recent", "2026-11-23T14:13:18"),
        *(_stand_in(100 + number, name, "2026-10-14T15:00:00") for number, name in enumerate(OLD_NAMES[-4:])),
    ),
}
