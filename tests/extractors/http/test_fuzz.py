"""No bytes make the decoder lose a row or raise what is not one of our errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.extractors.http.fuzz_decode import CORPUS, check

ROW = (
    b'{"id":"00000000-0000-4000-8000-000000000001","distinct_id":"d","properties":{"a":[1,-0.0,"x"]},"event":"e",'
    b'"timestamp":"2026-01-31T00:00:00.000001+00:00","person":null,"elements":[],"elements_chain":""}'
)
PAGE = b'{"next":"https://a/?after=2026-01-31T00%%3A00%%3A00","results":[%s,%s]}' % (ROW, ROW.replace(b"0001", b"0002"))
PARTS = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\xff", b"\x00", b"NaN", b"1e999", b"-", b"\\ud800", b"null"]


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_past_failure_stays_mended(file):
    """Every input that once broke the decoder."""
    check(file.read_bytes())


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(PAGE)), st.integers(0, 30), st.sampled_from(PARTS)), max_size=4))
def test_damaged_page_is_counted_or_refused(edits):
    """Pieces of a page replaced by what breaks JSON, UTF-8 or numbers."""
    body = PAGE
    for at, length, part in edits:
        body = body[:at] + part + body[at + length :]

    check(body)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_counted_or_refused(body):
    """Not even close to JSON."""
    check(body)


@pytest.mark.long
def test_fuzzed_bytes_are_counted_or_refused(tmp_path):
    """Coverage-guided, from the corpus and a page on: a bounded budget with a fixed seed."""
    pytest.importorskip("atheris")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "page").write_bytes(PAGE)
    for file in CORPUS.iterdir():
        (tmp_path / "corpus" / file.name).write_bytes(file.read_bytes())
    command = [sys.executable, "-m", "tests.extractors.http.fuzz_decode", "-runs=200000", "-seed=1", "-max_len=4096"]
    # The peak of memory, which libFuzzer bounds, is inherited by what a process starts: a shell between has a small one.
    between = ("sh", "-c", '"$@"; exit $?', "sh")
    done = subprocess.run(
        [*between, *command, f"-artifact_prefix={tmp_path}/", str(tmp_path / "corpus")],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert int(re.findall(r"cov: (\d+)", done.stderr)[-1]) > 100, "nothing was instrumented"
