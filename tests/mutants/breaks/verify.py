"""Breaks of what a verification says and mends, and of a copy beside other runs."""

from __future__ import annotations

from tests.mutants.breaks.kind import COPY, TRUTH, Break

BREAKS = [
    Break(
        "an event renamed by hand is called missing",
        "transforms/differences.py",
        '    for keys in (_SAME_ROW, _IDENTITY, ("uuid",)):\n',
        "    for keys in (_SAME_ROW, _IDENTITY):\n",
        "tests/transforms/test_differences.py",
    ),
    Break(
        "an equal row beside a made one is called differing",
        "transforms/differences.py",
        '_SAME_ROW = (*_IDENTITY, "timestamp", "hash")\n',
        "_SAME_ROW = _IDENTITY\n",
        "tests/transforms/test_differences.py",
    ),
    Break(
        "a dispute of earlier called a change of now",
        "flows/landing/audit.py",
        "    return _differs(replace(entry, facts=replace(entry.facts, disputed=None, held=None)), said, early)\n",
        "    return _differs(entry, said, early)\n",
        f"{TRUTH} -k dispute_of_earlier",
    ),
    Break(
        "rows that were mended are told as strays",
        "flows/landing/audit.py",
        "    held = sink.audit(project_id, STREAM, rng.start, rng.end) if repair else found.held  #",
        "    held = found.held | (sink.audit(project_id, STREAM, rng.start, rng.end) if repair else {})  #",
        f"{TRUTH} -k mends_objects",
    ),
    Break(
        "a damaged window is a foreign file to the next run",
        "sinks/lake/stream.py",
        "        self._cache.write(self.files)  #",
        "        self._cache.write({path: file for path, file in self.files.items() if file.rows >= 0})  #",
        f"{TRUTH} -k mends_objects",
    ),
    Break(
        "events that differ end without a count",
        "flows/report/differences.py",
        '        yield f"    and {len(uuids) - SHOWN:,} more: see --json"\n',
        "        return\n",
        f"{TRUTH} -k one_in_a_line",
    ),
    Break(
        "a copy looks once",
        "flows/landing/copy.py",
        "        if not moved:\n            break\n",
        "        if moved is not None:\n            break\n",
        f"{COPY} -k looked_at_again",
    ),
    Break(
        "a copy calls damaged what was landed meanwhile",
        "flows/landing/copy.py",
        "    return doubtful - same | {*done.moved_on}\n",
        "    return {*done.moved_on}\n",
        f"{COPY} -k looked_at_again",
    ),
    Break(
        "open window differs for what is new",
        "flows/landing/audit.py",
        "    if entry.state is State.OPEN and entry.agreed is None:\n",
        "    if False:\n",
        "tests/flows/landing/test_open_windows.py -k newer_than_its_reading",
    ),
]
