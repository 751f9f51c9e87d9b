"""The generator of breaks: what it makes of a text, which lines it takes, and that what is excused still stands."""

from __future__ import annotations

import pytest

from tests.mutants.copy import ROOT, Copy
from tests.mutants.generated import EXCUSED, Mutant, excused, lines_of, mutants, survives


@pytest.mark.parametrize(
    ("source", "kind", "becomes"),
    [
        ("x = a < b", "comparison", "x = a <= b"),
        ("x = a <= b < c", "comparison", "x = a < b < c"),
        ("x = a <= b < c", "comparison", "x = a <= b <= c"),
        ("x = a is not b", "comparison", "x = a is b"),
        ("x = a not in b", "comparison", "x = a in b"),
        ("x = 'a' == 'ö' == b", "comparison", "x = 'a' == 'ö' != b"),
        ("x = a + 1", "boundary", "x = a - 1"),
        ("x = a + 1", "boundary", "x = a + 2"),
        ("x = True", "value", "x = False"),
        ("x = a and b", "condition", "x = (a)"),
        ("x = a and b", "condition", "x = (b)"),
        ("x = not a", "condition", "x = bool(a)"),
        ("if a: b()", "condition", "if (not (a)): b()"),
        ("x = b if a else c", "condition", "x = b if (not (a)) else c"),
        ("def f():\n  return a", "returned value", "def f():\n  return None"),
        ("def f():\n  raise A", "error", "def f():\n  pass"),
        ("try: a()\nexcept E: b()", "error", "try: a()\nexcept E: raise"),
        ("a.fsync()", "call", "pass"),
    ],
)
def test_break_of_a_text(source, kind, becomes):
    """Each kind once, beside others of the same text."""
    assert (kind, becomes) in {(one.kind, one.text(source.encode())) for one in mutants(source.encode())}


@pytest.mark.parametrize(
    "source",
    ['"""Words < 1."""', "def f(a: int = b) -> int | None: ...", 'x = f"{a + 1}"', "x: A | B = c", "x = 'a' + b"],
)
def test_words_and_types_are_left_alone(source):
    """Texts, annotations and messages make no break."""
    assert mutants(source.encode()) == []


def test_lines_of_a_diff():
    """New lines by file, of Python alone; removed ones have no place."""
    diff = ["+++ b/flows/a.py", "@@ -1 +1,2 @@ def f():", "+x", "@@ -9,2 +10,0 @@", "+++ b/README.md", "@@ -1 +1 @@"]

    assert lines_of([*diff, "+++ b/sinks/b.py", "@@ -3 +4 @@"]) == {"flows/a.py": {1, 2}, "sinks/b.py": {4}}


def test_place_of_a_break_is_its_line():
    """Lines count from 1, letters beyond ASCII move nothing."""
    source = 'a = "ö"\nb = c < d\n'.encode()
    (one,) = (mutant for mutant in mutants(source) if mutant.kind == "comparison")

    assert (one.line, one.change(source)) == (2, ("b = c < d", "b = c <= d"))


def test_excused_breaks_find_their_places():
    """Their lines stand in their files still, and can become what is excused."""
    for one in EXCUSED:
        whole = (ROOT / one.file).read_bytes()
        assert (one.line, one.becomes) in {mutant.change(whole) for mutant in mutants(whole)}, one
        assert excused(one.file, (one.line, one.becomes))


@pytest.mark.long
def test_break_that_is_seen_and_one_that_is_not(tmp_path):
    """In a real file with its real tests: a turned comparison dies, a remark lives."""
    copy, file = Copy.into(tmp_path), "extractors/reading/pace.py"
    whole = (ROOT / file).read_bytes()
    nothing = Mutant("call", 1, 0, 0, b"# a remark\n")

    assert survives(copy, file, nothing)
    assert not survives(copy, file, next(one for one in mutants(whole) if one.kind == "comparison"))
