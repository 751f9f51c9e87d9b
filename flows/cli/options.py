"""What the commands share: exit statuses and flags (contract.md §3)."""

from __future__ import annotations

from typing import Annotated

import typer

DONE, BUG, USAGE, INCOMPLETE, ACCESS, SOURCE, DESTINATION, INTERRUPTED = 0, 1, 2, 3, 10, 11, 12, 130

Destination = Annotated[str | None, typer.Option("--destination", help="duckdb:PATH, s3://bucket/prefix or file:DIR.")]
Project = Annotated[str | None, typer.Option("--project", help="Project id; several, separated by commas.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no summary.")]
QuietResult = Annotated[
    bool, typer.Option("-q", "--quiet", help="No notes; the output is the result and is printed all the same.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more; a traceback for errors.")]
Since = Annotated[str | None, typer.Option(help="Start: ISO 8601 (no zone = UTC), 7d, 36h, or earliest.")]
Until = Annotated[str | None, typer.Option(help="End, not included: ISO 8601, 1h, or now.")]
AcceptDeletions = Annotated[
    bool,
    typer.Option(
        "--accept-deletions",
        help="Remove rows that the source does not show any more, however many (else held, exit 3).",
    ),
]
MaxWait = Annotated[
    str | None,
    typer.Option("--max-wait", help="Longest wait for the source's limits in sum, such as 10m; then exit 11."),
]
RequireProof = Annotated[
    bool,
    typer.Option(
        "--require-proof", help="End with 3 unless the source confirmed by a query what was landed of events."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before writing to PostHog.")]
