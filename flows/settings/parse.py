"""Texts of settings as values: durations, instants, hosts, projects. Pure; errors say what was expected."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationInfo

KEY_HELP = "make a personal API key in PostHog (Settings → Personal API keys) with the scope query:read"
EARLIEST = "earliest"  # as a start: the first event that there is
LONGEST = timedelta(days=36_500)
FIRST_YEAR, LAST_YEAR = 1900, 2299  # the bounds of ClickHouse's DateTime64
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class SettingsError(Exception):
    """Something the user gave is wrong or missing (exit status 2)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def near(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The one of *known* that *word* begins as, else the most alike; None where none is."""
    names = list(known)
    begun = [name for name in names if len(word) > 2 and name.startswith(word)]
    return begun[0] if len(begun) == 1 else next(iter(difflib.get_close_matches(word, names, n=1, cutoff=cutoff)), None)


def duration(value: object) -> timedelta:
    """`10m`, `36h`, `7d`, `90s`, or a timedelta. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", str(value))
    if not match:
        raise ValueError(f"{value!r} is no duration: expected a number and a unit, such as 90s, 10m, 36h or 7d")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{value!r} is too long a duration: at most {LONGEST.days}d")
    return timedelta(seconds=seconds)


def size(value: object) -> int:
    """`350MB`, `1GiB`, or a number of bytes. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmg])(i)?b?|b)?\s*", str(value), re.IGNORECASE)
    if isinstance(value, bool) or not match:
        raise ValueError(f"{value!r} is no size: expected a number and a unit, such as 350MB or 1GiB")
    unit, binary = (match[2] or "").lower(), bool(match[3])
    return int(float(match[1]) * (1024 if binary else 1000) ** (" kmg".index(unit) if unit else 0))


def sized(number: int) -> str:
    """*number* of bytes as size() reads it, in the largest unit that keeps it whole: 350MB, 1GiB."""
    units = [(name, 1000**power) for power, name in ((3, "GB"), (2, "MB"))]
    units += [(name, 1024**power) for power, name in ((3, "GiB"), (2, "MiB"))]
    return next((f"{number // one}{name}" for name, one in units if number and not number % one), f"{number}B")


def written(span: timedelta) -> str:
    """*span* as duration() reads it, in the largest unit that keeps it whole: 30d, 36h, 90s."""
    seconds = span.total_seconds()
    unit, length = next(
        ((unit, length) for unit, length in (("d", 86400), ("h", 3600), ("m", 60)) if seconds and not seconds % length),
        ("s", 1),
    )
    return f"{seconds / length:.6f}".rstrip("0").rstrip(".") + unit


def instant(text: str, *, now: datetime) -> datetime:
    """ISO 8601 (no zone = UTC, a bare date = midnight), `7d` or `36h` ago, or `now`. Raises SettingsError."""
    cleaned = text.strip()
    if cleaned == "now":
        return now
    try:
        if re.fullmatch(r"\d+(\.\d+)?[smhdw]", cleaned):
            return now - duration(cleaned)
        at = datetime.fromisoformat(cleaned)
    except (ValueError, OverflowError) as exc:
        # What is no ISO 8601 at all has nothing more to say than that.
        why = "" if str(exc).startswith("Invalid isoformat") else f": {exc}"
        raise SettingsError(
            f"{text!r} is no time{why}",
            hint="give ISO 8601 such as 2026-01-31 or 2026-01-31T06:00Z, or 7d, 36h, now; a start may also be the word "
            "earliest",
        ) from exc
    if not FIRST_YEAR < at.year < LAST_YEAR:
        raise SettingsError(
            f"{text!r} is no time that PostHog can hold", hint=f"expected a year between {FIRST_YEAR} and {LAST_YEAR}"
        )
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def event_names(value: object) -> object:
    return [value] if isinstance(value, str) else value


def project_ids(value: object) -> object:
    """A number, several separated by commas, or a list."""
    parts = value if isinstance(value, list) else str(value).split(",")
    ids = []
    for part in parts:
        text = str(part).strip()
        if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 2**63:
            raise ValueError(f"{text!r} is no project id: expected a number (PostHog: Settings → Project ID)")
        ids.append(int(text))
    return list(dict.fromkeys(ids))


def loopback(host: str) -> bool:
    """Whether *host*, a name or a number, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def host_name(address: str) -> str | None:
    """The host that *address* names, in the letters of DNS; None where it names none, or no port that there is."""
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        usable = parts.port != 0 and re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+(%\w+)?", host)
    except ValueError:  # and UnicodeError, which is one
        return None
    return host if usable else None


def host_address(value: object, given: ValidationInfo) -> object:
    text = str(value).strip().rstrip("/")
    # What stands before an @ may be a password.
    shown = text.rpartition("@")[2] if "@" in text else text
    parts = urlsplit(text if host_name(text) else "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shown!r} is no address: expected https://… such as https://us.posthog.com")
    if parts.hostname.endswith(".i.posthog.com"):
        raise ValueError(
            f"{shown!r} is PostHog's ingestion host: the app is {shown.replace('.i.posthog.com', '.posthog.com')}"
        )
    if parts.path or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{shown!r} has more than a host: expected {parts.scheme}://{parts.hostname}")
    if parts.scheme == "http" and not loopback(parts.hostname) and not given.data.get("allow_http"):
        raise ValueError(
            f"{shown!r} would send the key unencrypted: expected https://, "
            "or HEDGEROW_ALLOW_HTTP=true ([source] allow_http) in a network you trust"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def is_number(address: str) -> bool:
    """Whether *address* names its host by a number, which has no hosts below it."""
    try:
        ipaddress.ip_address(urlsplit(address).hostname or "")
    except ValueError:
        return False
    return True


def endpoint_address(value: object) -> object:
    text = str(value).strip().rstrip("/")
    parts = urlsplit(text if text.isascii() and host_name(text) else "")
    if parts.scheme not in ("http", "https") or parts.username or parts.query or parts.path or parts.fragment:
        raise ValueError("this is no address of an S3 store: expected http(s)://host:port")
    return text


class Digits(float):
    """A number that Python would write otherwise, as it was written: `1.10`, `1e400`."""

    text: str

    def __new__(cls, text: str) -> Digits:
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __repr__(self) -> str:
        return self.text


def decimal(text: str) -> float:
    """A number with a point or an exponent, of JSON or of TOML, which keeps its digits."""
    plain = text.replace("_", "").removeprefix("+")  # signs that JSON has no place for
    value = float(plain)
    return value if repr(value) == plain or not plain[-1].isdigit() else Digits(plain)


def json_value(text: str) -> Any:
    """What a JSON text says that a user gave, its numbers with their digits. Raises ValueError.

    A name that stands twice in one object is an error: whoever reads it takes one of the two, and nobody says which.
    """
    try:
        return json.loads(
            text, parse_float=decimal, parse_int=_whole, parse_constant=_no_json, object_pairs_hook=_object
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_object(value: object) -> object:
    """The text of a JSON object, which *value* is or says as a table of TOML. Raises ValueError."""
    try:
        found = json_value(value) if isinstance(value, str) else value
        text = None if found is None else _json(found)
    except ValueError as exc:
        raise ValueError(f"the context is no JSON: {exc}") from None
    except RecursionError:
        raise ValueError("the context is nested too deeply") from None
    if found is not None and not isinstance(found, dict):
        raise ValueError("the context is no JSON object")
    return text


def _json(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_json(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, float):
        text = repr(value)
        return text if text[-1].isdigit() else _no_json(text)
    if isinstance(value, date | time):  # of TOML alone
        raise ValueError(f"{value} stands in it without quotes")
    return json.dumps(value)


def _whole(text: str) -> float:
    try:
        return Digits(text) if text == "-0" else int(text)
    except ValueError:  # of thousands of digits
        return Digits(text)


def _no_json(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return made


def personal_key(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value).strip()
    if text.startswith("phc_"):
        raise ValueError("this is a project token (phc_…), which cannot read; " + KEY_HELP)
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("this is no API key: expected phx_…")
    return text


def aws_text(value: object) -> object:
    """A key of AWS, which goes into a header. The value is in no message."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value).strip()
    if not text or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("this is no key of AWS: expected letters, digits and signs without blanks")
    return text


def user_path(value: object) -> object:
    """A path that may begin with ~, which no shell expands in .env."""
    try:
        return Path(str(value)).expanduser()
    except RuntimeError:
        raise ValueError(f"{value!r}: nobody has that home directory") from None
