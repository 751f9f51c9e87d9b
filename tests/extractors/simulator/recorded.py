"""What two real servers were asked and answered (samples/), and datasets that hold what they held.

1.43 (July 2023) and 1.30 (November 2021), both self-hosted, with a seeded project. Rows that no sample shows but that
answers depend on (those behind a `next`, those that suggestions come from) are stood in for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extractors.simulator.dataset import Dataset, Event, Person
from extractors.simulator.profiles import OLD_2021, OLD_2023, Profile

SAMPLES = Path(__file__).parent / "samples"
Sample = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was recorded."""

    name: str
    profile: Profile
    project_id: int
    host: str
    at: datetime

    def samples(self, prefix: str) -> list[Sample]:
        """Samples whose name starts with *prefix*, each with its name."""
        found = sorted((SAMPLES / self.name).glob(f"{prefix}*.json"))
        return [json.loads(path.read_text()) | {"name": f"{self.name} {path.stem}"} for path in found]

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
        return Dataset([*map(event_of, rows.values()), *STAND_INS[self.name]], persons)

    def _rows(self) -> list[dict[str, Any]]:
        bodies = [sample["response"]["body"] for sample in (*self.samples("list_"), *self.samples("retrieve"))]
        bodies += [sample["response"]["body"] for sample in self.samples("error_other_project")]
        rows = [row for body in bodies for row in body.get("results", [body])]
        return [row for row in rows if "id" in row]


SERVERS = (
    Server("server-1.43", OLD_2023, 2, "http://127.0.0.1:8143", datetime(2026, 11, 23, 15, 40, tzinfo=UTC)),
    Server("server-1.30", OLD_2021, 1, "http://127.0.0.1:8130", datetime(2026, 11, 23, 14, 15, tzinfo=UTC)),
)


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
