"""How this machine reaches others, as its environment says: proxies, whom they are not for, and which certificates count.

httpx reads these variables too, but ends with errors of its own for half of their usual forms, and one that is wrong for
an address that is never asked ends everything. So they are read here, for each address when it is asked (docs/settings.md).
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from extractors.http.exchange import Way
from flows.settings.parse import SettingsError, host_name

PORTS = {"http": 80, "https": 443}
LINK_LOCAL = ("169.254.0.0/16", "fd00:ec2::/32")  # where AWS tells a machine of its role
_WRITTEN = "expected http://host:port; in a user or password / is written %2F, # %23 and @ %40"
_UNREAD = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # of other programs


@dataclass(frozen=True)
class Network:
    """The ways out of a machine with these environment *variables*.

    *system*: proxies by scheme that its own settings name, where the variables name none.
    """

    variables: Mapping[str, str] = field(repr=False)
    system: Mapping[str, str] = field(default_factory=dict, repr=False)

    def way(self, address: str) -> Way:
        """How *address* is reached. Raises SettingsError for a variable that cannot be used and is needed for it."""
        by, proxy = self._proxy(address)
        unproven = self._unproven()
        if not proxy:
            return Way(trust=self.trust, unproven=unproven)
        url, login = _proxy_address(by, proxy)
        return Way(url, login, by, self.trust, unproven)

    def proxy_for(self, address: str) -> str:
        """What names the proxy for *address*; empty where it is reached directly. Raises SettingsError as way() does."""
        return self.way(address).by

    def around(self, address: str) -> tuple[str, str] | None:
        """For a client that reads these variables in its own way: a proxy and whom it is not for, *address* included.

        None where that client comes to *address* as way() does. Addresses that a machine has for itself need no proxy.
        """
        by, value = self._named(urlsplit(address).scheme)
        if not value or self._proxy(address)[0]:
            return None
        try:
            url, login = _proxy_address(by, value)
        except SettingsError:
            return None
        user = "".join(f"{quote(part, safe='')}{end}" for part, end in zip(login or (), ":@", strict=False))
        excludes = ",".join((self._first("no_proxy")[1], urlsplit(address).hostname or "", *LINK_LOCAL))
        return url.replace("://", f"://{user}", 1), excludes

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """Whose certificates count: those of SSL_CERT_FILE and SSL_CERT_DIR, else certifi's. Raises SettingsError."""
        import certifi

        file, directory = (self.variables.get(name) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
        if directory and not any(Path(one).is_dir() for one in directory.split(":")):
            raise SettingsError(f"SSL_CERT_DIR: {directory} is no directory", hint=_remedy("SSL_CERT_DIR"))
        read_certificates("SSL_CERT_FILE", file)
        try:
            return ssl.create_default_context(cafile=file or (None if directory else certifi.where()), capath=directory)
        except OSError as exc:  # the certificates are there, so it is the log of session keys, which ssl opens here
            raise SettingsError(
                f"cannot write what SSLKEYLOGFILE names: {exc.strerror}",
                hint="unset SSLKEYLOGFILE, or name a file that can be written",
            ) from exc

    def _proxy(self, address: str) -> tuple[str, str]:
        """The variable and its value; empty texts for none."""
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
        by, value = self._named(parts.scheme)
        if not value or bypassed(self._first("no_proxy")[1], scheme=parts.scheme, host=host, port=port):
            return "", ""
        return by, value

    def _named(self, scheme: str) -> tuple[str, str]:
        """The variable that names a proxy for *scheme*, whomever it is not for, and its value."""
        by, value = self._first(f"{scheme}_proxy", "all_proxy")
        if not value and not any(name.lower().endswith("_proxy") for name in self.variables):
            return "this machine's network settings", self.system.get(scheme, "")
        return by, value

    def _first(self, *names: str) -> tuple[str, str]:
        """The first variable that says something; of a name in both cases the lower one counts, also where it is empty."""
        for name in names:
            for one in (name, name.upper()):
                # A web server that starts programs makes this variable out of whatever header a client sends.
                if one in self.variables and not (one == "HTTP_PROXY" and "REQUEST_METHOD" in self.variables):
                    if value := self.variables[one].strip():
                        return one, value
                    break
        return "", ""

    def _unproven(self) -> str:
        """The remedy where a server's certificate is not trusted."""
        given = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if self.variables.get(name)]
        if given:
            return f"the certificates of {' and '.join(given)} do not vouch for the server: add your authority's there"
        others = [name for name in _UNREAD if self.variables.get(name)]
        if others:
            return f"the server's certificate is not trusted here: set SSL_CERT_FILE to what {others[0]} names"
        return Way().unproven


def bypassed(no_proxy: str, *, scheme: str, host: str, port: int) -> bool:
    """Whether *host* is reached without a proxy, as NO_PROXY says. Pure.

    Entries stand between commas or blanks: a name means itself and all below it, with or without a leading dot; an address
    or a range (10.0.0.0/8, fd00::/8) with or without brackets; `*` everything, and in a name any letters. Each may have a
    scheme before it and a port behind. What is none of these is passed over, as other programs do.
    """
    host = host.lower().partition("%")[0].rstrip(".")
    for entry in re.split(r"[\s,;]+", no_proxy.lower()):
        wanted, _, rest = entry.rpartition("://")
        bracketed = re.fullmatch(r"\[([^\]]*)\](/\d+)?(?::(\d+))?/?", rest)
        if bracketed:
            name, behind = bracketed[1] + (bracketed[2] or ""), bracketed[3] or ""
        else:
            name, _, behind = rest.partition(":") if rest.count(":") == 1 else (rest, "", "")
        if wanted not in ("", "all", scheme) or behind not in ("", str(port)):
            continue
        if _means(name, host):
            return True
    return False


def _means(name: str, host: str) -> bool:
    """Whether an entry of NO_PROXY, without scheme and port, is *host* or holds it."""
    try:
        network = ipaddress.ip_network(re.sub(r"%[^/]*", "", name), strict=False)
    except ValueError:
        if "*" in name:
            return fnmatchcase(host, name)
        name = name.strip("./")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False


def _proxy_address(by: str, value: str) -> tuple[str, tuple[str, str] | None]:
    """A proxy's address without its login, and that. Raises SettingsError that never shows the value."""
    scheme, separated, _ = value.partition("://")
    if separated and scheme.lower() not in PORTS:
        shown = scheme.lower() if re.fullmatch(r"[A-Za-z][\w+.-]{0,15}", scheme) else "that"
        raise SettingsError(
            f"{by} names a proxy that cannot be used: {shown}:// is not spoken here",
            hint=f"set {by} to an http:// proxy, or name the host in NO_PROXY to reach it directly",
        )
    address = value if separated else f"http://{value}"
    host = host_name(address)
    parts = urlsplit(address if host else "")
    if host is None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise SettingsError(f"{by} is no address of a proxy", hint=_WRITTEN)
    named = f"[{host}]" if ":" in host else host
    login = (unquote(parts.username or ""), unquote(parts.password or ""))
    return f"{parts.scheme}://{named}" + (f":{parts.port}" if parts.port else ""), login if any(login) else None


def read_certificates(by: str, file: str | None) -> bytes:
    """The certificates of *file*, which the variable *by* names. Raises SettingsError."""
    if not file:
        return b""
    try:
        content = Path(file).read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise SettingsError(f"{by}: {file} holds no certificate", hint=_remedy(by)) from None
    except OSError as exc:
        raise SettingsError(f"{by}: cannot read {file}: {exc.strerror}", hint=_remedy(by)) from exc
    return content


def _remedy(by: str) -> str:
    expected = "a directory of certificates" if by == "SSL_CERT_DIR" else "a file of certificates (PEM)"
    return f"unset {by}, or set it to {expected}"
