"""Destinations by their addresses (contract.md §2): duckdb:PATH, s3://bucket/prefix, file:DIR."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import getproxies

from pydantic import SecretStr

from flows.runs import aws
from flows.runs.memory import MIB, shares
from flows.runs.network import Network, read_certificates
from flows.settings.load import environment
from flows.settings.model import Settings
from flows.settings.parse import SettingsError
from sinks.destination import Destination
from sinks.duckdb_file.sink import DuckDBSink

if TYPE_CHECKING:  # a DuckDB file needs none of the libraries of a lake, which are 20 MB of memory
    from sinks.lake.sink import LakeSink
    from sinks.objects.s3 import S3Objects

EXPECTED = "expected duckdb:PATH, s3://bucket/prefix or file:DIR, such as duckdb:posthog.duckdb"


def destination_of(
    settings: Settings, address: str | None = None, *, on_wait: Callable[[str | None], None] = lambda holder: None
) -> Destination:
    """The sink at *address*, or at the one of the settings. Raises SettingsError for what is no destination.

    *on_wait* hears of a process that holds the destination, and None when it does so no more.
    """
    address = settings.destination.address if address is None else address
    scheme, _, rest = address.partition(":")
    if scheme == "duckdb":
        path = _duckdb_path(address, rest)
        return DuckDBSink(
            path,
            lock_timeout_s=settings.duckdb.lock_timeout.total_seconds(),
            on_wait=on_wait,
            storage_version=settings.duckdb.storage_version,
            memory_limit=f"{shares(settings.run.memory).database // MIB}MiB",
        )
    if scheme in ("file", "s3"):
        from sinks.lake.sink import LakeSink
        from sinks.objects.local import LocalObjects

        objects = LocalObjects(_directory(address, rest), address) if scheme == "file" else _bucket(settings, address)
        return LakeSink(objects)
    raise _unknown(address)


def _unknown(address: str) -> SettingsError:
    """What is no destination, and which one it may have meant."""
    scheme, colon, rest = address.partition(":")
    meant = (
        {"duckdb": f"duckdb:{rest.removeprefix('//')}", "s3": f"s3://{rest.lstrip('/')}"}.get(scheme) if rest else None
    )
    if not colon and address:
        file = Path(address).suffix in (".duckdb", ".db") or Path(address).is_file()
        meant = f"{'duckdb' if file else 'file'}:{address}"
    hint = f"did you mean {meant}? {EXPECTED}" if meant else EXPECTED
    return SettingsError(f"unknown destination {address!r}", hint=hint)


def network() -> Network:
    """The ways out of this machine."""
    return Network(environment({}), getproxies())


def check_output(settings: Settings, output: Path) -> None:
    """Raises SettingsError if writing *output* would destroy the destination: its file, or the file's write-ahead log."""
    scheme, _, rest = settings.destination.address.partition(":")
    if scheme != "duckdb":
        return
    path = Path(rest)
    if any(_same_file(output, one) for one in (path, path.with_name(path.name + ".wal"))):
        raise SettingsError(f"{output} is the destination itself: nothing was written", hint="name another file")


def _same_file(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def same(one: Destination, other: Destination) -> bool:
    """Whether two destinations are one, however their addresses are written."""
    here, there = (sink.path if isinstance(sink, DuckDBSink) else sink.home for sink in (one, other))
    if here is None or there is None:
        return here is there and one.name == other.name
    return _same_file(here, there)


def lake_of(settings: Settings) -> LakeSink:
    """The settings' destination, which has to be a lake. Raises SettingsError."""
    from sinks.lake.sink import LakeSink

    sink = destination_of(settings)
    if not isinstance(sink, LakeSink):
        raise SettingsError(
            f"{settings.destination.address} is no lake", hint="expected --destination s3://bucket/prefix or file:DIR"
        )
    return sink


def _duckdb_path(address: str, rest: str) -> Path:
    if not rest or rest.startswith("//"):
        raise _unknown(address)
    path = Path(rest)
    if rest == ":memory:" or path.is_dir():
        raise SettingsError(
            f"destination {address!r} is {'a directory' if path.is_dir() else 'gone when the run ends'}",
            hint="expected duckdb: and the path of a file, such as duckdb:posthog.duckdb",
        )
    _check_parent(path)
    return path


def _directory(address: str, rest: str) -> Path:
    path = Path(rest.removeprefix("//"))
    if not rest.strip("/") or (rest.startswith("//") and not rest.startswith("///")):
        meant = rest.strip("/") or "lake"
        raise SettingsError(
            f"destination {address!r} names no directory", hint=f"expected file:DIR, such as file:{meant}"
        )
    if re.search(r"[*?\[]", str(path.absolute())):
        raise SettingsError(
            f"destination {address!r} cannot be read by a glob: {path.absolute()}",
            hint="expected a name without * ? and [, and so for each directory above it",
        )
    for place in (path.absolute(), path.resolve()):
        _check_folders(address, place.parts)
    if path.exists() and not path.is_dir():
        raise SettingsError(f"destination {address!r} is a file", hint="expected file: and the path of a directory")
    if path.is_symlink() and not path.exists():
        raise SettingsError(f"destination {address!r} is a link to nothing", hint=f"make {path.readlink()}")
    _check_parent(path)
    return path


def _check_folders(address: str, folders: Iterable[str]) -> None:
    """Whoever reads Parquet by a glob takes a folder date=2020-01-01 for the column `date`, of every row below it."""
    from sinks.lake.statements import COLUMNS

    for folder in folders:
        name, equals, _ = folder.partition("=")
        if equals and name.lower() in COLUMNS:
            raise SettingsError(
                f"destination {address!r} lies below {folder!r}: every query over the lake would take that for its column "
                f"{name.lower()}",
                hint="choose a place below no folder of that kind",
            )


def _check_parent(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise SettingsError(
            f"no such directory: {path.absolute().parent}", hint="make it, or choose another destination"
        )


def _bucket(settings: Settings, address: str) -> S3Objects:
    from sinks.objects.s3 import BUCKET, S3Objects, S3Options, building

    rest = address.removeprefix("s3:")
    if not rest.startswith("//"):
        raise _unknown(address)
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if not re.fullmatch(BUCKET, bucket) or ".." in bucket:
        raise SettingsError(
            f"destination {address!r} names no bucket" if not bucket else f"{bucket!r} is no name of a bucket",
            hint="expected s3://bucket/prefix; bucket: 3 to 63 small letters, digits, dots and hyphens",
        )
    if re.search(r"[\x00-\x1f\x7f?#*\\]|//|(^|/)\.\.?(/|$)", prefix):
        raise SettingsError(
            f"destination {address!r}: the prefix cannot be used",
            hint="expected names between single slashes, without ? # * \\ and control characters",
        )
    _check_folders(address, prefix.split("/"))
    target = settings.destination
    _check_keys(target.access_key_id, target.secret_access_key)
    variables = environment({})
    given = (target.access_key_id is not None, target.session_token is not None)
    aws.check(variables, region=target.region, keys=given[0], token=given[1])
    _check_scratch()
    store, ways = target.endpoint or f"https://s3.{target.region or 'us-east-1'}.amazonaws.com", network()
    options = S3Options(
        access_key_id=_secret(target.access_key_id),
        secret_access_key=_secret(target.secret_access_key),
        session_token=_secret(target.session_token),
        region=target.region,
        endpoint=target.endpoint,
        virtual_host=None if target.addressing == "auto" else target.addressing == "virtual",
        roots=read_certificates("AWS_CA_BUNDLE", variables.get("AWS_CA_BUNDLE")),
        proxy=ways.proxy_for(store),
        around=ways.around(store),
    )
    with building():
        return S3Objects(bucket, prefix.strip("/"), options)


def _check_scratch() -> None:
    """A lake in S3 keeps rows on this machine while they are read."""
    try:
        tempfile.gettempdir()
    except OSError as exc:
        raise SettingsError(
            "there is no directory for temporary files that can be written",
            hint="set TMPDIR to one that can be written",
        ) from exc


def _check_keys(key_id: SecretStr | None, secret: SecretStr | None) -> None:
    if (key_id is None) != (secret is None):
        names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        given, missing = names if key_id is not None else reversed(names)
        raise SettingsError(
            f"{missing} is not set, and {given} is", hint="set both, or neither where this machine has a role"
        )


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None
