"""How a simulated server behaves: one switch per difference between servers (facts/posthog-api.md §1, §5, §8).

Servers differ by the values of frozen fields, never by a version number that other files would have to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal
from zoneinfo import ZoneInfo

from extractors.simulator.functions import OF_2023, OF_2026, Function


@dataclass(frozen=True, slots=True)
class Profile:
    """Switches of a server. None: the limit does not exist there. Defaults are PostHog Cloud's of late 2026.

    Pages: *page_cap* clamps `limit`, whose default is *default_limit*, for CSV *csv_limit*; *zero_limit* and
    *negative_limit* say what 0 and less do; *probing* is the search for a short window in newest-first order (§0.1).
    *offset_inside_page*: `offset` skips within the limit + 1 rows that were fetched, and `next` goes on from the page
    and not from its rest. *offset_wait_s*: what any offset costs.

    Bounds: *lower_bound_hours* is the default range; *lower_bound_retried* asks again without it when the page was not
    full. *bounds_zone*: an offset in `after` and `before` is converted, or dropped and the wall clock taken as UTC.
    *dates*: "lenient" takes what is no date as relative or as now, "iso" answers it with 500. *before_capped*: the
    default upper bound also caps a given one.

    Rows: *integer_rows* has a number as id, no elements_chain and `Z` as zone. *person_always* fills `person` unasked.
    *wrong_zone_labels*: rows show the project's wall clock labelled as UTC, the cursor in `next` stays right (§1.7).
    *days_overflow*: a bound of the list outside 1970-01-01 to 2149-06-06 leaves events out. *beyond_double*: a number
    that no double holds is shown to the letter, as the bare word `Infinity`, or as null with a key `name::inf` beside it.

    Values: *values_bare* answers a list without an envelope and an empty one without a key;
    *values_event_required* refuses questions without `event_name`.

    Query: where *query_allowed* is false, /query answers *query_refused_with*; *query_envelope* adds what newer servers
    tell beside the rows (`hasMore`, `is_cached`), *query_timed* what some of 2023 do (`timings`, `modifiers`, …) and
    the limit of an EventsQuery. *functions*: HogQL's list. *events_query_cap*: most rows of an EventsQuery; one that is
    asked for as many or more says `hasMore: false` whatever follows. *query_milliseconds*: shown datetimes are cut to
    them. *constants_before_1970_wrong*: the engine subtracts the fraction of such a constant instead of adding it.
    *hogql_filter_allowed*: HogQL inside `properties`.

    Exports: *exports_listed*: they have a list. *exports_stored*: contents lie in an object store, or the database.
    *export_not_ready* and *export_failed*: status of a content that is not there; *export_early_look_expires*: looking
    for it then ends the asset's time. *export_expiry_given*: a sent `expires_after` counts. *export_days*: how long an
    asset is kept, None is by its format. *export_names_dated*: file names end in the time. *export_exception_shown*:
    assets tell why they failed.

    Evaluations: *evaluations* exist; *evaluations_newer*: with status, target, directory, no compiled conditions.

    Lists: *lists* that it has, None for all; *twins*: HogQL has their tables, in `system`.

    Addresses: *prefixes* under /api/ that exist. *any_project*: an unknown project id answers as the first project.
    *warns* sends X-PostHog-Warn, *challenges* sends WWW-Authenticate with a 401. *key_shown*: a key can look at itself.
    """

    page_cap: int = 1000
    default_limit: int = 100
    csv_limit: int = 1000
    zero_limit: Literal["default", "empty", "fault"] = "default"
    negative_limit: Literal["default", "fault"] = "default"
    probing: bool = True
    max_offset: int | None = 50_000
    offset_inside_page: bool = False
    offset_wait_s: float = 1.0
    lower_bound_hours: int | None = 24
    lower_bound_retried: bool = False
    max_range_days: int | None = 366
    bounds_zone: Literal["converted", "dropped"] = "converted"
    dates: Literal["lenient", "iso"] = "lenient"
    before_capped: bool = False
    per_minute: int | None = 240
    per_hour: int | None = 1200
    values_per_minute: int | None = 60
    values_per_hour: int | None = 300
    query_per_minute: int | None = 240
    query_per_hour: int | None = 2400
    rest_per_minute: int | None = 480
    rest_per_hour: int | None = 4800
    in_flight: int | None = 2
    integer_rows: bool = False
    person_always: bool = False
    wrong_zone_labels: bool = False
    days_overflow: bool = False
    beyond_double: Literal["kept", "word", "null"] = "kept"
    values_bare: bool = False
    values_event_required: bool = True
    query_allowed: bool = True
    query_refused_with: Literal[403, 404, 500] = 403
    query_envelope: bool = True
    query_timed: bool = False
    query_milliseconds: bool = False
    functions: frozenset[Function] = OF_2026
    events_query_cap: int = 50_000
    constants_before_1970_wrong: bool = False
    hogql_filter_allowed: bool = True
    exports_listed: bool = True
    exports_stored: bool = True
    export_not_ready: Literal[404, 409, 425] = 425
    export_failed: Literal[400, 404] = 400
    export_early_look_expires: bool = False
    export_expiry_given: bool = False
    export_days: int | None = None
    export_names_dated: bool = True
    export_exception_shown: bool = True
    evaluations: bool = True
    evaluations_newer: bool = True
    lists: frozenset[str] | None = None
    twins: bool = True
    prefixes: tuple[str, ...] = ("environments", "projects")
    any_project: bool = False
    warns: bool = True
    challenges: bool = True
    key_shown: bool = True
    project_timezone: str = "America/New_York"

    def __post_init__(self) -> None:
        if self.page_cap < 1 or self.default_limit < 1:
            raise ValueError("a page holds at least one row")
        if not self.prefixes:
            raise ValueError("a server has at least one address prefix")
        ZoneInfo(self.project_timezone)


CLOUD = Profile()
"""PostHog Cloud of late 2026."""

SELF_HOSTED = Profile(
    page_cap=50_000,
    lower_bound_hours=None,
    max_range_days=None,
    max_offset=None,
    offset_wait_s=0.0,
    per_minute=None,
    per_hour=None,
    values_per_minute=None,
    values_per_hour=None,
    query_per_minute=None,
    query_per_hour=None,
    rest_per_minute=None,
    rest_per_hour=None,
    in_flight=None,
    warns=False,
)
"""Self-hosted before the cap of May 2026, as installed: no rate limits, no lower bound, no longest range (§1.2)."""

TIMEZONE_FAULT = replace(SELF_HOSTED, wrong_zone_labels=True, project_timezone="Asia/Kolkata")
"""Self-hosted builds of mid-2026 that label the project's wall clock as UTC (§1.7)."""

OLD_2023 = replace(
    SELF_HOSTED,
    page_cap=10_000,
    csv_limit=3_500,
    zero_limit="empty",
    negative_limit="fault",
    probing=False,
    lower_bound_hours=24,
    lower_bound_retried=True,
    bounds_zone="dropped",
    person_always=True,
    days_overflow=True,
    beyond_double="word",
    values_bare=True,
    values_event_required=False,
    query_envelope=False,
    query_milliseconds=True,
    functions=OF_2023,
    events_query_cap=10_000,
    constants_before_1970_wrong=True,
    exports_listed=False,
    exports_stored=False,
    export_not_ready=404,
    export_failed=404,
    export_early_look_expires=True,
    export_expiry_given=True,
    export_days=182,
    export_names_dated=False,
    export_exception_shown=False,
    evaluations=False,
    twins=False,
    prefixes=("projects",),
    challenges=False,
    key_shown=False,
    project_timezone="UTC",
)
"""PostHog 1.43 of July 2023, as a real server was seen (facts/posthog-observed.md, A)."""

SERVER_2023_12 = replace(OLD_2023, beyond_double="null", query_timed=True)
"""PostHog FOSS of December 2023, as a real server was seen."""

OLD_2021 = replace(
    OLD_2023,
    days_overflow=False,
    beyond_double="kept",
    zero_limit="fault",
    offset_inside_page=True,
    bounds_zone="converted",
    dates="iso",
    before_capped=True,
    integer_rows=True,
    query_allowed=False,
    query_refused_with=404,
    hogql_filter_allowed=False,
    any_project=True,
)
"""PostHog 1.30 of November 2021, as a real server was seen (facts/posthog-observed.md, B)."""

PROFILES: Mapping[str, Profile] = {
    "cloud": CLOUD,
    "self_hosted": SELF_HOSTED,
    "timezone_fault": TIMEZONE_FAULT,
    "old_2023": OLD_2023,
    "server_2023_12": SERVER_2023_12,
    "old_2021": OLD_2021,
}
"""Every profile by the name that users give."""
