"""`hedgerow sql`: a query on the destination, printed for people or programs."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AnyProject, Destination, Json, QuietResult, Verbose, settings_of
from flows.settings.parse import SettingsError

if TYPE_CHECKING:  # DuckDB takes its time to import, and --help does without
    from duckdb import DuckDBPyConnection


def sql(
    query: Annotated[
        str,
        typer.Argument(
            help="SQL for DuckDB, @FILE, or - for standard input; the tables are events and those of docs/streams.md."
        ),
    ],
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
    json_lines: Annotated[bool, typer.Option("--jsonl", help="JSON Lines on stdout: an object for each row.")] = False,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write a Parquet file.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Rows of the table to show.  [default: 40 on a terminal, all elsewhere]"),
    ] = None,
    destination: Destination = None,
    project: AnyProject = None,
    json_output: Json = False,
    quiet: QuietResult = False,
    verbose: Verbose = False,
) -> None:
    """Run a query on the destination and print it. The file is opened for reading only."""
    from flows.report import files, terminal
    from flows.report.words import counted
    from flows.runs import wiring
    from flows.runs.destinations import check_output

    for_programs = _for_programs(csv, json_output, json_lines, parquet, limit)
    settings = settings_of(destination, project).settings
    if parquet is not None:
        check_output(settings, parquet)
    with (
        terminal.waits(quiet=quiet, verbose=verbose) as listener,
        wiring.sink_of(settings, listener).results(_given(query), alone=for_programs) as results,
    ):
        if parquet is None:
            for result in results:
                _write(result, csv=csv, json_lines=json_lines, json_output=json_output, limit=limit, quiet=quiet)
            return
        # DuckDB warns that the rows are copied once more.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            table = next(results).to_arrow_table()
        rows_written = files.write_parquet(table, parquet)
        if not quiet:
            terminal.note(f"{counted(rows_written, 'row')} written to {parquet}")


def _write(
    result: DuckDBPyConnection,
    *,
    csv: bool,
    json_lines: bool,
    json_output: bool,
    limit: int | None,
    quiet: bool,
) -> None:
    """The rows of *result* on stdout, as they come."""
    from flows.report import files, rows, terminal
    from flows.report.words import counted

    columns, found = rows.Columns.of(result.description or []), rows.batches(result.fetchmany)
    if csv:
        files.write_csv(columns.names, found)
    elif json_lines:
        rows.write_json_lines(columns, found)
    elif json_output:
        rows.write_json(columns, found)
    elif (count := rows.show(columns, found, limit=limit)) is not None and not quiet:
        terminal.note(f"of {counted(count, 'row')}; --limit N shows more, --csv and --jsonl give all")


def _for_programs(csv: bool, json_output: bool, json_lines: bool, parquet: Path | None, limit: int | None) -> bool:
    """Whether the output is no table. Raises SettingsError for several forms of it, and for a limit of one for programs."""
    forms = sum((csv, json_output, json_lines, parquet is not None))
    if forms > 1:
        raise SettingsError("more than one form of output", hint="choose one of --csv, --json, --jsonl and --parquet")
    if forms and limit is not None:
        raise SettingsError("--limit is for the table", hint="put LIMIT into the query")
    return forms > 0


def _given(query: str) -> str:
    """The text of *query*: itself, of @FILE, or of standard input for -. Raises SettingsError."""
    from flows.cli.asking import text_of

    if query == "-":
        return _text(sys.stdin.buffer.read(), "standard input")
    if query.lower().endswith(".sql") and Path(query).is_file():
        raise SettingsError(f"{query} is a file", hint=f"hedgerow sql @{query} runs what is in it")
    return _text(os.fsencode(query), "the query") if not query.startswith("@") else text_of(query)


def _text(given: bytes, where: str) -> str:
    """The SQL that came from *where*, whatever encoding the machine's locale has. Raises SettingsError."""
    try:
        return given.decode()
    except UnicodeDecodeError as exc:
        raise SettingsError(f"cannot read {where}: not UTF-8", hint="SQL is text in UTF-8") from exc
