"""Servers for the surroundings of a machine: one that answers like PostHog, with and without TLS, a proxy, and a store."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SECRET = "hunter2"
LOGIN = f"me:p%40{SECRET}"
EXPECTED = "Basic " + base64.b64encode(f"me:p@{SECRET}".encode()).decode()
EMPTY = b'{"next":null,"results":[]}'


class Quiet(BaseHTTPRequestHandler):
    status, body = 200, EMPTY

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


class Store(Quiet):
    """A store that knows nobody."""

    status, body = 403, b"<Error><Code>AccessDenied</Code></Error>"

    do_PUT = Quiet.do_GET  # noqa: N815


class Proxy(Quiet):
    """A proxy that wants a password. What goes by http it answers itself, by https it makes a tunnel."""

    def do_GET(self) -> None:
        if self._known():
            super().do_GET()

    def do_CONNECT(self) -> None:
        if not self._known():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(200)
            self.end_headers()
            near = self.connection
            while True:
                for one in select.select([near, far], [], [])[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    (far if one is near else near).sendall(data)

    def _known(self) -> bool:
        known = self.headers.get("Proxy-Authorization") == EXPECTED
        if not known:
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
        return known


@dataclass(frozen=True)
class Servers:
    """*places*: addresses and files by name."""

    places: dict[str, str]


@contextmanager
def serving(directory: Path) -> Iterator[Servers]:
    """All of them on loopback; certificates lie in *directory*."""
    cert, other = certificate(directory, "cert"), certificate(directory, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, directory / "cert.key")
    made = {name: ThreadingHTTPServer(("127.0.0.1", 0), kind) for name, kind in KINDS.items()}
    for name in SAFE:
        made[name].socket = context.wrap_socket(made[name].socket, server_side=True)
    for server in made.values():
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    ports = {name: server.server_address[1] for name, server in made.items()}
    places = {name: f"{'https' if name in SAFE else 'http'}://127.0.0.1:{port}" for name, port in ports.items()}
    places |= {"stranger": places["proxy"], "proxy": f"http://{LOGIN}@127.0.0.1:{ports['proxy']}"}
    places |= {"port": str(ports["http"]), "store_port": str(ports["store"]), "cert": str(cert), "other": str(other)}
    try:
        yield Servers(places)
    finally:
        for server in made.values():
            server.shutdown()
            server.server_close()


KINDS = {"http": Quiet, "https": Quiet, "proxy": Proxy, "store": Store, "tls_store": Store}
SAFE = ("https", "tls_store")


def certificate(directory: Path, name: str) -> Path:
    """A certificate of 127.0.0.1 that vouches for itself, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{name}.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (directory / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return file
