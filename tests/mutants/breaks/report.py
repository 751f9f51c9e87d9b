"""Breaks of what people and scripts see."""

from __future__ import annotations

from tests.mutants.breaks.kind import EXIT, Break

BREAKS = [
    Break(
        "status forgets what was compared before",
        "flows/report/status.py",
        "        compared_at=max((entry.probed.at for entry in compared if entry.probed), default=None),\n",
        "        compared_at=None,\n",
        "tests/flows/landing/test_without_queries.py -k before_the_source_refused",
    ),
    Break(
        "quiet hides a problem",
        "flows/report/results.py",
        '        for problem in report.problems:\n            note(f"incomplete: project {report.project_id}',
        '        for problem in () if quiet else report.problems:\n            note(f"incomplete: project {report.project_id}',
        f"{EXIT} -k ends_with_3",
    ),
    Break(
        "data gives the terminal commands",
        "flows/report/words.py",
        '        if unicodedata.category(sign) in ("Cc", "Cf") and sign not in LAYOUT',
        "        if False",
        "tests/flows/report/test_output.py -k terminal_gets",
    ),
    Break(
        "data becomes HTML",
        "flows/report/status_page.py",
        '<td class="error">{escape(run.error)}</td>',
        '<td class="error">{run.error}</td>',
        "tests/flows/report/test_status.py -k page_needs",
    ),
    Break(
        "nearly all shown as all",
        "flows/report/status_page.py",
        "min(share * 100, 99.9)",
        "share * 100",
        "tests/flows/report/test_status.py -k nearly_all",
    ),
    Break(
        "JSON that is none",
        "flows/report/documents.py",
        "        return value if math.isfinite(value) else None",
        "        return value",
        "tests/flows/report/test_output.py -k every_depth",
    ),
    Break(
        "too heavy counted as compared",
        "flows/report/status.py",
        "    compared = [entry for entry in entries if entry.probed is not None and entry.probed.values != HEAVY]\n",
        "    compared = [entry for entry in entries if entry.probed is not None]\n",
        "tests/flows/report/test_status.py -k too_heavy",
    ),
    Break(
        "a share rounded to everything",
        "flows/report/words.py",
        'f"{min(max(share * 100, 0.1), 99.9):.1f} %"',
        'f"{share * 100:.1f} %"',
        "tests/flows/report/test_status.py -k rounded",
    ),
    Break(
        "a text turns the terminal's direction",
        "flows/report/words.py",
        '        if unicodedata.category(sign) in ("Cc", "Cf") and sign not in LAYOUT\n',
        '        if unicodedata.category(sign) == "Cc" and sign not in LAYOUT\n',
        "tests/flows/report/test_output.py -k no_commands",
    ),
    Break(
        "the latest days are in no bar",
        "flows/report/status_page.py",
        "range(0, len(days), size)]",
        "range(0, len(days) - size + 1, size)]",
        "tests/flows/report/test_status.py -k rows_stand",
    ),
    Break(
        "a formula in a CSV",
        "flows/report/files.py",
        "        writer.writerow([_harmless(name) for name in names])\n",
        "        writer.writerow(names)\n",
        "tests/flows/report/test_output.py -k no_formula",
    ),
    Break(
        "a type that Parquet has not",
        "flows/report/files.py",
        '    unknown = [f"{field.name} ({field.type})" for field in table.schema if not _has_parquet(field)]\n',
        "    unknown: list[str] = []\n",
        "tests/flows/report/test_output.py -k 'type and Parquet'",
    ),
    Break(
        "cells are cut where no terminal limits them",
        "flows/report/terminal.py",
        "WIDE = 1_000_000",
        "WIDE = 80",
        "tests/flows/report/test_output.py -k table_in_a_file",
    ),
    Break(
        "verify as JSON names nothing on stderr",
        "flows/report/results.py",
        "            for problem in findings.of_verification(done):\n                note(",
        "            for problem in ():\n                note(",
        f"{EXIT} -k verify",
    ),
    Break(
        "freshness by this machine's clock alone",
        "flows/report/status.py",
        "    mark = ledger.mark_at(max([now, *(entry.read_at for entry in entries)]))",
        "    mark = ledger.mark_at(now)",
        "tests/flows/report/test_status.py -k clock_is_ahead",
    ),
    Break(
        "a wait is shown once",
        "flows/report/terminal.py",
        "transient=True, refresh_per_second=4)",
        "transient=True, auto_refresh=False)",
        "tests/flows/report/test_waits.py -k seen_until",
    ),
    Break(
        "a wait that is over stays on the terminal",
        "flows/report/terminal.py",
        "        with self._lock:\n            self._ends.cancel()\n            if self._live is not None:",
        "        with self._lock:\n            self._ends.cancel()\n            if self._live is None:",
        "tests/flows/report/test_waits.py -k seen_until",
    ),
    Break(
        "a wait names when it begins",
        "flows/report/terminal.py",
        "datetime.now().astimezone() + timedelta(seconds=wait.seconds):%H",
        "datetime.now().astimezone():%H",
        "tests/flows/report/test_waits.py -k time_of_day",
    ),
]
