"""Real S3 servers on loopback, started by the tests: moto, and localbucket as a second implementation (facts/stack.md §3)."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import httpx
from botocore.config import Config

from sinks.lake.sink import LakeSink
from sinks.objects.local import LocalObjects
from sinks.objects.s3 import S3Objects, S3Options

KEYS = ("AKIATEST", "secret-of-the-test")
REGION = "eu-central-1"
DEADLINE_S = 30.0


@contextmanager
def server(kind: str, directory: Path) -> Iterator[str]:
    """A running server of *kind* with an empty memory; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    scripts = Path(sys.executable).parent
    commands = {
        "moto": [scripts / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
        "localbucket": [scripts / "localbucket", str(directory / "buckets"), "--port", str(port)],
    }
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        list(map(str, commands[kind])), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while True:
                try:
                    httpx.get(address, timeout=5)
                    break
                except httpx.TransportError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise
                    time.sleep(0.05)
            yield address
        finally:
            process.kill()


def options(address: str) -> S3Options:
    return S3Options(*KEYS, region=REGION, endpoint=address)


def environment(address: str) -> dict[str, str]:
    """What a process of its own needs to reach the server at *address*."""
    return {
        "AWS_ACCESS_KEY_ID": KEYS[0],
        "AWS_SECRET_ACCESS_KEY": KEYS[1],
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": address,
    }


def client(address: str):
    """boto3's client: another hand than ours to make buckets and look at objects."""
    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )


def new_bucket(address: str) -> str:
    name = f"lake-{uuid.uuid4().hex[:12]}"
    client(address).create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


def s3_lake(address: str, *, bucket: str | None = None, prefix: str = "post hog/events") -> LakeSink:
    """A lake in *bucket*, or in a new one."""
    return LakeSink(S3Objects(bucket or new_bucket(address), prefix, options(address)))


def local_lake(directory: Path) -> LakeSink:
    return LakeSink(LocalObjects(directory, f"file:{directory}"))
