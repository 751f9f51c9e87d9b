"""Breaks that nobody chose: each comparison, boundary, condition, returned value, error and call of a changed line.

python -m tests.mutants.generated [--since COMMIT] [--count N] [--seed N] [FILE ...] breaks the lines that changed since
COMMIT (all lines of the FILEs, where none is given), *count* of them that the seed chooses, one at a time, and runs the
tests that the file's breaks name (breaks). What they do not see is printed; exit status 1 if EXCUSED does not list it.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.breaks import BREAKS
from tests.mutants.copy import ROOT, Copy

ROOMS = ("flows", "extractors", "transforms", "sinks")


@dataclass(frozen=True, slots=True)
class Excused:
    """A generated break that no test sees, for a *reason*: the *line* of *file* (stripped) becomes *becomes*."""

    file: str
    line: str
    becomes: str
    reason: str


EXCUSED: tuple[Excused, ...] = ()


@dataclass(frozen=True, slots=True)
class Mutant:
    """*kind* of break: the bytes from *start* to *end* of a file become *new*. *line* counts from 1."""

    kind: str
    line: int
    start: int
    end: int
    new: bytes

    def text(self, whole: bytes) -> str:
        """The file with the break."""
        return (whole[: self.start] + self.new + whole[self.end :]).decode()

    def change(self, whole: bytes) -> tuple[str, str]:
        """The first line of the place before and after, stripped."""
        before, after = whole.decode().splitlines(), self.text(whole).splitlines()
        return before[self.line - 1].strip(), after[self.line - 1].strip()


OTHER = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
TURNED = {ast.Add: "-", ast.Sub: "+"}
COMPARISON = re.compile(rb"not\s+in|is\s+not|<=|>=|==|!=|<|>|\bin\b|\bis\b")
SIGN = re.compile(rb"[+-]")


class _Places(ast.NodeVisitor):
    """Collects the mutants of one file; texts, annotations and names of types are left alone."""

    def __init__(self, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def _at(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset

    def _add(self, kind: str, start: int, end: int, new: str) -> None:
        line = self._source.count(b"\n", 0, start) + 1
        self.found.append(Mutant(kind, line, start, end, new.encode()))

    def _whole(self, kind: str, node: ast.expr | ast.stmt, new: str) -> None:
        self._add(kind, *self._at(node), new)

    def _text(self, node: ast.expr) -> str:
        start, end = self._at(node)
        return self._source[start:end].decode()

    def _between(self, kind: str, left: ast.expr, right: ast.expr, sign: re.Pattern[bytes], new: str) -> None:
        start, end = self._at(left)[1], self._at(right)[0]
        found = sign.search(self._source, start, end)
        if found:
            self._add(kind, found.start(), found.end(), new)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, sign, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self._between("comparison", left, right, COMPARISON, OTHER[type(sign)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in TURNED and not isinstance(node.left, ast.Constant | ast.JoinedStr | ast.List):
            self._between("boundary", node.left, node.right, SIGN, TURNED[type(node.op)])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._whole("value", node, str(not node.value))
        elif isinstance(node.value, int):
            self._whole("boundary", node, str(node.value + 1))

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for value in node.values:
            self._whole("condition", node, f"({self._text(value)})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._whole("condition", node, f"bool({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self._whole("condition", node.test, f"(not ({self._text(node.test)}))")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit_If(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._whole("returned value", node, "return None")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._whole("error", node, "pass")

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if not isinstance(node.body[0], ast.Raise):
            self._add("error", self._at(node.body[0])[0], self._at(node.body[-1])[1], "raise")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._whole("call", node, "pass")
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Words for people have tests of their own."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        """An annotation alone."""


def mutants(source: bytes) -> list[Mutant]:
    """All breaks of a file's text that Python can read, in the order of their places."""
    places = _Places(source)
    places.visit(ast.parse(source))
    return sorted((one for one in set(places.found) if _parses(one.text(source))), key=lambda one: (one.start, one.new))


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def changed(since: str) -> dict[str, set[int]]:
    """Lines of the product's files that differ from the commit *since*, by file."""
    command = ["git", "diff", "--unified=0", "--no-color", "--no-ext-diff", since, "--", *ROOMS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return lines_of(done.stdout.splitlines())


def lines_of(diff: Iterable[str]) -> dict[str, set[int]]:
    """The new lines of a diff without context, by Python file."""
    found: dict[str, set[int]] = {}
    file = ""
    for line in diff:
        if line.startswith("+++ "):
            file = line.removeprefix("+++ b/")
        elif line.startswith("@@") and file.endswith(".py"):
            first, _, count = line.split("+", 1)[1].split(" ", 1)[0].partition(",")
            found.setdefault(file, set()).update(range(int(first), int(first) + int(count or 1)))
    return found


def tests_of(file: str) -> list[str]:
    """What the breaks of *file* name as their tests, each once."""
    return list(dict.fromkeys(one.tests for one in BREAKS if one.file == file))


def survives(copy: Copy, file: str, mutant: Mutant) -> bool:
    """Whether all tests of the file are green with it."""
    text = mutant.text((ROOT / file).read_bytes())
    return all(copy.verdict(file, text, tests) for tests in tests_of(file))


def excused(file: str, change: tuple[str, str]) -> bool:
    return any((one.file, one.line, one.becomes) == (file, *change) for one in EXCUSED)


def chosen(lines: dict[str, set[int] | None], *, count: int, seed: int) -> Iterator[tuple[str, Mutant]]:
    """*count* breaks of the lines (None: all) of files that have tests, the seed's choice."""
    places = [
        (file, mutant)
        for file, numbers in sorted(lines.items())
        if tests_of(file)
        for mutant in mutants((ROOT / file).read_bytes())
        if numbers is None or mutant.line in numbers
    ]
    yield from random.Random(seed).sample(places, min(count, len(places)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", default="HEAD~10")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("files", nargs="*", metavar="FILE")
    given = parser.parse_args()
    lines: dict[str, set[int] | None] = dict.fromkeys(given.files) if given.files else {**changed(given.since)}
    for file in sorted(file for file in lines if not tests_of(file)):
        print(f"{file}: no break names tests for it; left out")
    alive = seen = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = Copy.into(Path(directory))
        for file, mutant in chosen(lines, count=given.count, seed=given.seed):
            seen += 1
            if not survives(copy, file, mutant):
                continue
            before, after = change = mutant.change((ROOT / file).read_bytes())
            known = excused(file, change)
            alive += not known
            word = "excused" if known else "survives"
            print(f"{word}: {file}:{mutant.line} ({mutant.kind})\n  - {before}\n  + {after}", flush=True)
    print(f"{seen} breaks, {alive} that no test sees and nobody excused")
    return 1 if alive or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
