"""What the lake needs of a store, on each kind of store, and what stores say when something is wrong."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path

import pytest

from sinks import durable, errors
from sinks.objects import base, s3
from sinks.objects.base import Changed, Exists, Missing, Objects
from sinks.objects.local import LocalObjects
from sinks.objects.s3 import S3Objects, S3Options
from tests import stores
from tests.relay import Relay, Request, refused, relay


@pytest.fixture(params=["local", "moto", "localbucket"])
def store(request, tmp_path) -> Objects:
    if request.param == "local":
        return LocalObjects(tmp_path / "lake", "file:lake")
    address = request.getfixturevalue(request.param)
    return S3Objects(stores.new_bucket(address), "pre fix/ü=1", stores.options(address))


@pytest.fixture
def between(moto):
    """A relay in front of moto, and a store behind it that gives up soon."""
    with relay(moto) as made:
        yield made


def behind(made: Relay, moto: str) -> S3Objects:
    return S3Objects(stores.new_bucket(moto), "p", stores.options(made.address))


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Retries as in earnest, but quickly."""
    backoff = {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20)}
    monkeypatch.setattr(s3, "RETRY", {"max_retries": 4, "retry_timeout": timedelta(seconds=10), "backoff": backoff})


def test_what_is_put_comes_back(store):
    """Bytes, version, length and name, by every way of reading."""
    etag = store.put("a/b=1/x.parquet", b"0123456789")
    (found,) = store.list("a")

    assert store.get("a/b=1/x.parquet") == (b"0123456789", etag)
    assert (found.path, found.etag, found.size) == ("a/b=1/x.parquet", etag, 10)
    assert store.head("a/b=1/x.parquet") == found
    assert store.tail(found.path, size=10, length=3) == b"789"
    assert store.tail(found.path, size=10, length=99) == b"0123456789"
    assert [one.path for one in store.list()] == [found.path]


def test_what_is_not_there(store):
    """Missing objects, prefixes and roots are no errors of the store."""
    assert store.head("x") is None
    assert list(store.list("x")) == []
    with pytest.raises(Missing):
        store.get("x")
    store.delete("x")


def test_directory_that_is_not_there_yet_is_no_other(tmp_path):
    """Nothing of the machine is read or removed in its stead, whatever its path from the root."""
    other = tmp_path / "other"
    other.write_bytes(b"mine")
    store, path = LocalObjects(tmp_path / "lake", "lake"), str(other).lstrip("/")
    store.delete(path)

    assert other.read_bytes() == b"mine"
    for read in (lambda: store.get(path), lambda: store.part(path, 0, 2), lambda: store.open(path)):
        with pytest.raises(Missing):
            read()


def test_the_first_to_create_wins(store):
    """`create` refuses a name that is taken; the first content stays."""
    store.put("x", b"1", create=True)
    with pytest.raises(Exists):
        store.put("x", b"2", create=True)

    assert store.get("x")[0] == b"1"


def test_match_refuses_another_version(store):
    """With *match* only the version that was read is replaced; a store without If-Match is looked at before."""
    store.check()
    first = store.put("x", b"1")
    second = store.put("x", b"2", match=first)
    with pytest.raises(Changed):
        store.put("x", b"3", match=first)
    store.delete("x")
    with pytest.raises(Changed):
        store.put("x", b"4", match=second)

    assert first != second
    assert store.head("x") is None


def test_check_learns_what_a_store_honours(moto, localbucket, tmp_path):
    """moto and a directory refuse a stale PUT by themselves, localbucket does not (facts/stack.md §3)."""
    made = [S3Objects(stores.new_bucket(address), "", stores.options(address)) for address in (moto, localbucket)] + [
        LocalObjects(tmp_path / "lake", "file:lake")
    ]
    for one in made:
        one.check()

    assert [one.conditional for one in made] == [True, False, True]
    assert [list(one.list()) for one in made[:2]] == [[], []]


def test_a_store_that_ignores_if_none_match_is_refused(between, moto):
    """Two writers could lose each other's rows there."""
    between.ignored = frozenset({"if-none-match"})
    with pytest.raises(errors.DestinationUnusable, match="If-None-Match"):
        behind(between, moto).check()


CONDITIONS = [
    pytest.param(501, "NotImplemented", id="not implemented"),
    pytest.param(400, "InvalidArgument", id="no such header"),
    pytest.param(405, "MethodNotAllowed", id="not allowed"),
    pytest.param(403, "AccessDenied", id="denied"),
    pytest.param(412, "PreconditionFailed", id="every name is taken"),
]


@pytest.mark.parametrize(("status", "code"), CONDITIONS)
def test_a_store_that_refuses_if_none_match_is_refused_at_its_first_answer(status, code, between, moto):
    """As one that ignores it: the same PUT without the condition tells that it is the condition; nothing is left."""
    between.answer = lambda request: refused(status, code) if "if-none-match" in request.headers else None
    store = behind(between, moto)
    with pytest.raises(errors.DestinationUnusable, match="If-None-Match") as caught:
        store.check()

    assert "docs/lake.md" in caught.value.hint
    assert sum("if-none-match" in request.headers for request in between.seen) == 1
    assert list(store.list()) == []


def test_a_store_that_refuses_if_match_is_used_with_a_look_before(between, moto):
    """At its first answer, too."""
    between.answer = lambda request: refused(501, "NotImplemented") if "if-match" in request.headers else None
    store = behind(between, moto)
    store.check()

    assert not store.conditional
    assert sum("if-match" in request.headers for request in between.seen) == 1


@pytest.mark.parametrize("header", ["if-none-match", "if-match"])
@pytest.mark.parametrize("fault", [(503, "SlowDown"), (0, "")], ids=["slow down", "no answer"])
def test_a_fault_that_passes_is_no_store_without_conditions(fault, header, between, moto):
    """It is tried again, as anything else."""
    left = [(0, b"") if not fault[0] else refused(*fault)] * 2
    between.answer = lambda request: left.pop() if left and header in request.headers else None
    store = behind(between, moto)
    store.check()

    assert store.conditional
    assert not left


def test_a_first_object_whose_answer_was_lost_is_our_own(between, moto):
    """The second try meets the first one's object: the store is as good as any."""
    between.lost = lambda request: request.method == "PUT" and len(between.seen) == 1
    store = behind(between, moto)
    store.check()

    assert store.conditional


def test_no_keys_at_all_is_called_that(monkeypatch):
    """The machine is asked for a role's keys, and has none: no policy is at fault."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with relay("http://127.0.0.1:9") as machine:
        machine.answer = lambda request: (403, b"denied")
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", machine.address)
        store = S3Objects("bucket", "p", S3Options(region="eu-central-1", endpoint="http://127.0.0.1:9"))
        with pytest.raises(errors.DestinationUnusable, match="no AWS credentials") as caught:
            store.get("x")

    assert "set AWS_ACCESS_KEY_ID" in caught.value.hint


def test_a_store_without_if_match_is_found_out(between, moto):
    """It is used all the same: objects are looked at before they are replaced."""
    between.ignored = frozenset({"if-match"})
    store = behind(between, moto)
    store.check()

    assert not store.conditional


@pytest.mark.parametrize(
    ("local", "single"), [(True, base.SINGLE_BYTES), (False, base.SINGLE_BYTES), (True, 2**20)], ids=str
)
def test_large_objects_go_up_in_parts(local, single, store, tmp_path, monkeypatch):
    """From memory or from a file; conditions are looked at before."""
    monkeypatch.setattr(base, "MULTIPART_BYTES", 2**20)
    monkeypatch.setattr(base, "SINGLE_BYTES", single)
    monkeypatch.setattr(base, "PART_BYTES", 5 * 2**20)
    data = os.urandom(12 * 2**20)
    source: bytes | Path = data
    if local:
        source = tmp_path / "large"
        source.write_bytes(data)
    store.put("x", source, create=True)

    assert store.get("x")[0] == data
    with pytest.raises(Exists):
        store.put("x", source, create=True)
    with pytest.raises(Changed):
        store.put("x", source, match='"other"')
    with store.open("x") as file:
        file.seek(10 * 2**20)
        assert bytes(file.read(100)) == data[10 * 2**20 : 10 * 2**20 + 100]


SAID = {
    "ExpiredToken": (400, "have expired", "renew"),
    "InvalidAccessKeyId": (403, "credentials are refused", "AWS_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": (403, "credentials are refused", "AWS_SECRET_ACCESS_KEY"),
    "AccessDenied": (403, "access is denied", "List, Get, Put and Delete"),
    "AuthorizationHeaderMalformed": (400, "another region", "AWS_REGION"),
    "PermanentRedirect": (301, "another region", "AWS_REGION"),
    "NoSuchBucket": (404, "no such bucket", "make it"),
    "SlowDown": (503, "does not keep up", "run again"),
    "InternalError": (500, "does not keep up", "run again"),
}


@pytest.mark.parametrize("code", SAID)
@pytest.mark.parametrize("call", ["put", "get", "list"])
def test_what_a_store_says_is_told_with_a_mend(code, call, between, moto):
    """In one sentence each, and never what stood in the answer: it may hold what was signed."""
    status, what, mend = SAID[code]
    store = behind(between, moto)
    between.answer = lambda request: refused(status, code)
    calls = {"put": lambda: store.put("x", b"1"), "get": lambda: store.get("x"), "list": lambda: list(store.list())}
    with pytest.raises(errors.SinkError, match=what) as caught:
        calls[call]()

    assert mend in caught.value.hint
    assert "secret-of-the-test" not in str(caught.value) + caught.value.hint
    assert "\n" not in str(caught.value)


UNSAID = [
    pytest.param(400, b"signed with secret-of-the-test", "it answered 400", id="plain text"),
    pytest.param(418, b"<html>connect: secret-of-the-test</html>", "it answered 418", id="HTML of a proxy"),
    pytest.param(
        400, b"<Error><Code>A.B</Code>secret-of-the-test</Error>", "it answered 400", id="another kind of code"
    ),
    pytest.param(409, b'{"signed": "secret-of-the-test"}', None, id="JSON"),
    pytest.param(200, b"secret-of-the-test", "invalid list response", id="200 and no list"),
]


@pytest.mark.parametrize(("status", "said", "shown"), UNSAID)
def test_an_answer_without_a_code_is_not_shown(status, said, shown, between, moto):
    """Neither in the message nor in a traceback: it may hold what was signed."""
    store = behind(between, moto)
    between.answer = lambda request: (status, said)
    with pytest.raises(errors.SinkError, match=shown) as caught:
        list(store.list())

    assert "secret-of-the-test" not in "".join(traceback.format_exception(caught.value))


def no_place(request: Request) -> tuple[int, bytes] | None:
    return (206, b"2345") if "range" in request.headers else None


@pytest.mark.parametrize("answer", [None, no_place], ids=["200 with the whole", "206 without a place"])
def test_what_is_not_the_part_asked_for_is_an_error(answer, between, moto):
    """A proxy that drops Range, or Content-Range: other bytes are not taken for those of the part."""
    store = behind(between, moto)
    store.put("x", b"0123456789")
    between.ignored = frozenset({"range"})
    between.answer = answer or between.answer
    with pytest.raises(errors.SinkError):
        store.part("x", 2, 6)


def test_a_store_out_of_reach():
    """Nothing listens there."""
    store = S3Objects("bucket", "p", stores.options("http://127.0.0.1:9"))
    with pytest.raises(errors.DestinationUnusable, match="cannot be reached"):
        store.get("x")


def test_a_passing_slowdown_is_waited_for(between, moto):
    """503 three times over, then the answer."""
    store = behind(between, moto)
    left = [refused(503, "SlowDown")] * 3
    between.answer = lambda request: left.pop() if left else None
    store.put("x", b"1")

    assert store.get("x")[0] == b"1"


def test_virtual_host_addresses(moto, monkeypatch):
    """The bucket stands in the host's name, and not in the path."""
    bucket = stores.new_bucket(moto)
    with relay(moto) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("NO_PROXY", "")
        options = S3Options(*stores.KEYS, region=stores.REGION, endpoint="http://s3.test", virtual_host=True)
        store = S3Objects(bucket, "p", options)
        store.put("x", b"1", create=True)

        assert store.get("x")[0] == b"1"
        assert {request.host for request in proxy.seen} == {f"{bucket}.s3.test"}
        assert {request.path for request in proxy.seen} == {"/p/x"}


def test_path_addresses(between, moto):
    """The default for an endpoint of one's own."""
    store = behind(between, moto)
    store.put("x", b"1")

    assert between.seen[0].path == f"/{store.bucket}/p/x"


def test_a_killed_put_leaves_no_object(tmp_path):
    """What was written aside is seen by no listing, and removed in time."""
    store = LocalObjects(tmp_path, "file:x")
    store.put("a/x.parquet", b"1")
    aside = tmp_path / base.SCRATCH / "left"
    aside.write_bytes(b"half")
    lock = tmp_path / base.SCRATCH / "lock"  # a neighbour may hold it, however old it is
    lock.touch()
    for old in (aside, lock):
        os.utime(old, (0, 0))
    store.check()

    assert (aside.exists(), lock.exists()) == (False, True)
    assert [one.path for one in store.list("a")] == ["a/x.parquet"]


def test_a_file_aside_that_is_just_gone_is_no_error(tmp_path, monkeypatch):
    """Another process has renamed or removed it while this one looks for what kills have left."""
    store = LocalObjects(tmp_path, "file:x")
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([self / "gone"]))
    store.check()


@pytest.mark.parametrize("call", [lambda store: store.check(), lambda store: store.put("a/x", b"1")])
def test_a_place_where_nothing_can_be_made_is_named(call, tmp_path, monkeypatch):
    """Some file systems, such as /proc, take no file: it is the destination that is unusable, and no object is missing."""

    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "aside"))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(durable, "make", refuse)
    with pytest.raises(errors.DestinationUnusable, match=r"cannot use file:x: nothing can be made in .*No such file"):
        call(LocalObjects(tmp_path, "file:x"))


def test_secrets_are_in_no_repr():
    """Nor in a traceback's locals that print it."""
    assert "secret" not in repr(S3Options("a", "secret1", "secret2")).replace("secret_access_key", "")
