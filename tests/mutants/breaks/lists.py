"""Breaks of look-ups, lists and contents."""

from __future__ import annotations

from tests.mutants.breaks.kind import CONTENTS, LOOKUPS, Break

BREAKS = [
    Break(
        "row doubled by the edge of a passage",
        "extractors/lists/lookups.py",
        "            fresh.append(key not in seen)\n",
        "            fresh.append(True)\n",
        f"{LOOKUPS} -k filtered_events",
    ),
    Break(
        "pages need not meet",
        "extractors/lists/lookups.py",
        '        if offset and (not found.rows or found.rows[0]["id"] not in seen):\n',
        "        if False:\n",
        f"{LOOKUPS} -k added_and_removed",
    ),
    Break(
        "list not walked again",
        "extractors/lists/lookups.py",
        "        if count is None or len(seen) >= count:\n",
        "        if True:\n",
        f"{LOOKUPS} -k never_shows_all",
    ),
    Break(
        "filters' own 500 halved for minutes",
        "extractors/lists/lookups.py",
        "policy=TRIAL_PAGE)",
        "policy=WHOLE)",
        f"{LOOKUPS} -k bare_500",
    ),
    Break(
        "name of the server taken",
        "extractors/lists/contents.py",
        "    return f\"{stem or f'export-{one.id}'}.{extension}\"",
        "    return one.filename",
        f"{CONTENTS} -k plain_one",
    ),
    Break(
        "rest of another content",
        "extractors/lists/contents.py",
        '"If-Range": self.etag}',
        '"X": self.etag}',
        f"{CONTENTS} -k changes_between",
    ),
    Break(
        "part taken for the whole",
        "extractors/lists/contents.py",
        "        if self.total is not None and self.size != self.total:\n",
        "        if False:\n",
        f"{CONTENTS} -k arrives_whole",
    ),
    Break(
        "cap of rows not told",
        "extractors/lists/contents.py",
        "rows in ROW_CAPS)",
        "False)",
        f"{CONTENTS} -k a_cap",
    ),
    Break(
        "whole row sent",
        "extractors/lists/evaluations.py",
        " if name not in row or row[name] != value}",
        "}",
        "tests/extractors/lists/test_evaluations.py -k only_what_differs",
    ),
    Break(
        "rest from another offset",
        "extractors/lists/contents.py",
        " or int(placed[1]) != self.size:",
        ":",
        f"{CONTENTS} -k not_joined",
    ),
    Break(
        "rest that does not say where it lies",
        "extractors/lists/contents.py",
        '        placed = _RANGE.match(content.headers.get("content-range", ""))\n',
        '        placed = _RANGE.match(content.headers.get("content-range") or f"bytes {self.size}-0/{self.total}")\n',
        f"{CONTENTS} -k not_joined",
    ),
    Break(
        "rest of a content with another ETag",
        "extractors/lists/contents.py",
        '        if self.size and content.headers.get("etag", self.etag) != self.etag:\n            return None\n',
        "",
        f"{CONTENTS} -k not_joined",
    ),
    Break(
        "rest of a content of another length",
        "extractors/lists/contents.py",
        "        return total if self.total in (None, total) else None\n",
        "        return total\n",
        f"{CONTENTS} -k not_joined",
    ),
    Break(
        "some of the rest taken for all",
        "extractors/lists/contents.py",
        'self.total if placed[2] == "*" else',
        'self.size + int(content.headers["content-length"]) if placed[2] == "*" else',
        f"{CONTENTS} -k not_joined",
    ),
    Break(
        "packed rest joined to plain bytes",
        "extractors/lists/contents.py",
        "content.status != 206 or content.packed or placed",
        "content.status != 206 or placed",
        f"{CONTENTS} -k not_joined",
    ),
    Break(
        "an export that goes on is called failed",
        "extractors/lists/exports.py",
        " or one.exception.startswith(STUCK):",
        ":",
        "tests/extractors/lists/test_exports.py -k made_up",
    ),
    Break(
        "an answer that is no asset taken for a refusal",
        "extractors/lists/exports.py",
        '        raise errors.AnswerLost(f"{exc}: whether the export was made is not known") from exc\n',
        "        raise\n",
        "tests/extractors/lists/test_exports.py -k sent_once",
    ),
]
