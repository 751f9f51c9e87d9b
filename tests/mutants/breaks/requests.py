"""Breaks of requests, filters and statements."""

from __future__ import annotations

from tests.mutants.breaks.kind import CONTENTS, DURABLE, FAR, PIPELINE, PROBE, WITNESS, Break

BREAKS = [
    Break(
        "first microsecond",
        "extractors/request.py",
        "instant(rng.start - MICROSECOND)",
        "instant(rng.start)",
        "tests/extractors/test_hogql.py",
    ),
    Break(
        "filter forgotten after reading",
        "extractors/filters.py",
        "                rows = rows.filter(named if keeps else pc.invert(named))\n",
        "                pass\n",
        f"{PIPELINE} -k filter_lands",
    ),
    Break("cache allowed", "extractors/hogql.py", '"refresh": "force_blocking"', '"refresh": "blocking"', PROBE),
    Break("project zone", "extractors/hogql.py", ", 6, 'UTC')\"", ', 6)"', PROBE),
    Break(
        "copies counted", "extractors/hogql.py", 'GROUP BY u, e, di, ts"', 'GROUP BY u, e, di, ts, created_at"', PROBE
    ),
    Break(
        "filter not probed",
        "extractors/hogql.py",
        'return f"{condition} AND ({events.hogql})" if events.hogql else condition\n\n\ndef _micros',
        "return condition\n\n\ndef _micros",
        PROBE,
    ),
    Break(
        "part under its final name",
        "extractors/files.py",
        '    part = path.with_name(f".{path.name}.part")\n',
        "    part = path\n",
        f"{CONTENTS} -k does_not_arrive",
    ),
    Break(
        "split shows what lies behind it",
        "extractors/hogql.py",
        "if(o >= {(split",
        "if(o > {(split",
        f"{PROBE} -k before_the_splits",
    ),
    Break(
        "bound before 1970 sent",
        "extractors/request.py",
        "    if rng.start >= EPOCH:\n        params.append",
        "    if rng.start >= ALL_TIME.start + MICROSECOND:\n        params.append",
        f"{FAR} -k 'no_bound or sixties'",
    ),
    Break(
        "index of days trusted in queries",
        "extractors/hogql.py",
        "    if rng.start >= EPOCH and rng.end <= LAST_BOUND:\n",
        "    if True:\n",
        "tests/extractors/test_hogql.py -k far_away",
    ),
    Break(
        "days counted to a hundred",
        "extractors/hogql.py",
        'f"SELECT intDiv(o, {day}) AS d, modulo(o',
        'f"SELECT modulo(intDiv(o, {day}), 100) AS d, modulo(o',
        f"{WITNESS} -k years",
    ),
    Break(
        "an answer from the cache is asked for",
        "extractors/hogql.py",
        '"refresh": "force_blocking"',
        '"refresh": "blocking"',
        f"{WITNESS} -k late",
    ),
    Break(
        "rows of a window's first microsecond are passed by",
        "extractors/request.py",
        "instant(rng.start - MICROSECOND)",
        "instant(rng.start)",
        f"{WITNESS} -k events_of_its_own",
    ),
    Break(
        "download renamed before it is durable",
        "extractors/files.py",
        "            os.fsync(file.fileno())\n            part.replace(path)\n",
        "            part.replace(path)\n",
        f"{DURABLE} -k 'arrived or downloaded'",
    ),
    Break(
        "download's name not synced",
        "extractors/files.py",
        "    sync_directory(path.parent)\n",
        "",
        f"{DURABLE} -k 'page or table'",
    ),
    Break(
        "part of another process taken for one's own",
        "extractors/files.py",
        "            if _is_at(file, path):\n",
        "            if True:\n",
        f"{DURABLE} -k 'another_writer and arrived'",
    ),
    Break(
        "a window of two dates",
        "extractors/window.py",
        "        if self.end > midnight(self.start.date()) + DAY:",
        "        if False:",
        "tests/extractors/test_window.py",
    ),
    Break(
        "times told without their microseconds",
        "extractors/window.py",
        '    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")\n',
        '    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")\n',
        "tests/extractors/test_window.py -k iso",
    ),
    Break(
        "the end of the last range lies inside it",
        "extractors/hogql.py",
        "if({at} < {last}, 1, 2))",
        "if({at} <= {last}, 1, 2))",
        "tests/extractors/reading/test_probe.py -k lies_behind",
    ),
]
