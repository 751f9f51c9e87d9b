"""An S3 server of its own process that takes PUT_S for each PUT, as a near bucket does: moto, which is in the lock."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import obstore
from obstore.store import S3Store

from bench.process import ROOT, environment

PUT_S = 0.05
BUCKET, REGION = "bench", "eu-central-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIABENCH", "AWS_SECRET_ACCESS_KEY": "secret-of-the-bench", "AWS_REGION": REGION}


@contextmanager
def running() -> Iterator[str]:
    """The address of a server with an empty bucket."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.store"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            made = f"<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
            httpx.put(f"{address}/{BUCKET}", content=made, timeout=30).raise_for_status()
            yield address
        finally:
            process.kill()


def downloaded(address: str, prefix: str, home: Path) -> None:
    """Every Parquet object under *prefix*, below *home*."""
    store = S3Store(
        BUCKET,
        endpoint=address,
        region=REGION,
        access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )
    for found in obstore.list(store, prefix):
        for one in found:
            if one["path"].endswith(".parquet"):
                file = home / one["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(obstore.get(store, one["path"]).bytes())


def _slow(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            time.sleep(PUT_S)
        return application(environ, start_response)

    return answer


def _serve() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, _slow(DomainDispatcherApplication(create_backend_app)), threaded=True)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve()
