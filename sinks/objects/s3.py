"""An S3 bucket as a store of objects."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import S3Store

from sinks import errors
from sinks.objects.base import Found, Objects

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

RETRY: RetryConfig = {"max_retries": 8, "retry_timeout": timedelta(seconds=90)}
ONCE: RetryConfig = {"max_retries": 0}
ALWAYS: S3Config = {"conditional_put": "etag", "skip_signature": False, "unsigned_payload": False}
"""What a lake rests on: variables that the client reads may not change it."""
ALSO_READ = "AWS_CHECKSUM_ALGORITHM, AWS_SERVER_SIDE_ENCRYPTION, AWS_COPY_IF_NOT_EXISTS"
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach S3. *endpoint*: None for AWS; *virtual_host*: the bucket in the host name instead of the path.

    *roots*: certificates (PEM) to trust beside the machine's. *proxy*: what names the one which the client goes through;
    it reads proxies from the environment itself, but where *around* has a proxy and whom it is not for.
    """

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    endpoint: str | None = None
    virtual_host: bool | None = None
    roots: bytes = field(default=b"", repr=False)
    proxy: str = ""
    around: tuple[str, str] | None = field(default=None, repr=False)


class S3Objects(Objects):
    """A bucket, or what lies below *prefix* in it; nothing is asked yet."""

    def __init__(self, bucket: str, prefix: str, options: S3Options) -> None:
        config: S3Config = {"disable_bulk_delete": True}  # not every store has it (facts/stack.md §3)
        client: ClientConfig = {"connect_timeout": timedelta(seconds=10), "timeout": timedelta(seconds=300)}
        if options.access_key_id:
            config["access_key_id"] = options.access_key_id
        if options.secret_access_key:
            config["secret_access_key"] = options.secret_access_key
        if options.session_token:
            config["session_token"] = options.session_token
        if options.region:
            config["region"] = options.region
        virtual = options.endpoint is None if options.virtual_host is None else options.virtual_host
        config["virtual_hosted_style_request"] = virtual
        if options.endpoint:
            parts = urlsplit(options.endpoint)
            # obstore takes the bucket's own host as the endpoint of virtual-host addresses.
            config["endpoint"] = f"{parts.scheme}://{bucket}.{parts.netloc}" if virtual else options.endpoint
            config["aws_endpoint_url_s3"] = config["endpoint"]  # the client reads it too, and would prefer it
            client["allow_http"] = parts.scheme == "http"
        if options.roots:
            client["root_certificate"] = options.roots
        if options.around:
            client["proxy_url"], client["proxy_excludes"] = options.around
        config |= ALWAYS
        store = S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=RETRY)
        once = S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=ONCE)
        super().__init__(store, f"s3://{bucket}/{prefix}".rstrip("/"))
        self._once = once
        self.bucket, self.prefix, self.options = bucket, prefix, options

    def among(self, places: Collection[str]) -> Iterator[Found]:
        """As Objects.among, by one listing: below a prefix of its own little else lies. A whole bucket may hold anything."""
        if not self.prefix:
            yield from super().among(places)
            return
        below = tuple(f"{place}/" for place in places)
        yield from (one for one in self.list() if one.path.startswith(below))

    def _hasty(self) -> Objects:
        return _Hasty(self._once, self)

    def _said(self, text: str) -> errors.SinkError:
        if "InvalidCertificate(" in text:
            hint = "set AWS_CA_BUNDLE or SSL_CERT_FILE to your authority's certificate"
            return self._unusable("the store's certificate is not trusted here", hint)
        said = super()._said(text)
        if self.options.proxy and str(said).endswith(("cannot be reached", "it answered 407")):
            said.hint = f"check {self.options.proxy}, or add the store's host to NO_PROXY"
        return said


class _Hasty(Objects):
    """A store asked without a retry: what gave no answer may give one. Says what *patient* would say."""

    def __init__(self, once: S3Store, patient: S3Objects) -> None:
        super().__init__(once, patient.name)
        self.conditional = patient.conditional
        self._patient = patient

    def _said(self, text: str) -> errors.SinkError:
        said = self._patient._said(text)
        return said if "status code: " in text else errors.DestinationBusy(str(said), hint=said.hint)


@contextmanager
def building() -> Iterator[None]:
    """What the client cannot be made of, which it says with its values and in many lines."""
    try:
        yield
    except (BaseError, ValueError) as exc:
        certificates = "certificate" in str(exc).lower()
        raise errors.DestinationUnusable(
            f"no S3 client can be made: {'it finds no certificates' if certificates else 'a variable cannot be used'}",
            hint="check SSL_CERT_FILE and SSL_CERT_DIR" if certificates else f"check {ALSO_READ} (docs/settings.md)",
        ) from None
