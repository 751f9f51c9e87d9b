"""Servers that several tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests import planned, stores


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing of what collecting makes is garbage: it is not searched for any, neither meanwhile nor by any test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Libraries look at the end whether anything of theirs was forgotten."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def what_is_planned_comes_about(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test fails if a fault or a hook that it planned was never reached; the mark `chance` allows it."""
    with planned.noted():
        yield
    missed = planned.missed() if "chance" not in request.keywords else []
    assert not missed, f"never reached: {missed}"


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
