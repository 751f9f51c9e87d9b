"""Servers that several tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import stores


@pytest.fixture(scope="session")
def moto(tmp_path_factory) -> Iterator[str]:
    """Address of an S3 server that honours every condition."""
    with stores.server("moto", tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.fixture(scope="session")
def localbucket(tmp_path_factory) -> Iterator[str]:
    """Address of an S3 server that ignores If-Match."""
    with stores.server("localbucket", tmp_path_factory.mktemp("localbucket")) as address:
        yield address
