"""`hedgerow events …`: looks at events at the source; lands nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.event import Format, differences_of, event_rows, one_form, raw, show, suggested
from flows.cli.options import HELP, INCOMPLETE, Commands, Destination, Json, OneProject, Quiet, Since, Until, Verbose
from flows.settings.parse import SettingsError, instant

if TYPE_CHECKING:
    import pyarrow as pa

    from extractors.filters import Filters
    from extractors.reading.events import EventsReader
    from extractors.reading.rows import Passage
    from extractors.request import Request
    from extractors.window import Range
    from flows.cli.asking import Asking

app = typer.Typer(
    help="Look at events at the source, land nothing.",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings=HELP,
)
SELECTED = 100  # rows of a page with --select, unless --limit says how many
WHERE_IGNORED = "--where: this server ignores it, so nothing is listed; --properties takes HogQL filters"
SELECT_IGNORED = "--select: this server ignores it, ordinary rows are listed"
DEFAULT_SPAN = timedelta(hours=24)  # PostHog's own without `after` (facts/posthog-api.md §1.2)


AsFormat = Annotated[Format | None, typer.Option("--format", help="json (as without it), or csv as PostHog makes it.")]
Properties = Annotated[str | None, typer.Option("--properties", help="Filters as JSON, or @FILE.")]


# Longer than others: its parameters are the command's options, with their help.
@app.command("list")
def list_events(
    since: Since = None,
    until: Until = None,
    event: Annotated[str | None, typer.Option("--event", help="Name of the events.")] = None,
    distinct_id: Annotated[str | None, typer.Option("--distinct-id", help="Distinct id of the events.")] = None,
    person_id: Annotated[str | None, typer.Option("--person-id", help="Uuid of the person.")] = None,
    properties: Properties = None,
    select: Annotated[str | None, typer.Option("--select", help="HogQL expressions, a JSON array.")] = None,
    where: Annotated[str | None, typer.Option("--where", help="HogQL conditions, a JSON array.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the oldest first.")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="One page as PostHog gives it.")] = None,
    format_: AsFormat = None,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Print the events that pass filters, none left out. Oldest first; with --offset or as CSV one page of PostHog's."""
    from extractors.filters import EventFilter
    from extractors.lists import lookups
    from extractors.reading.events import EventsReader
    from flows.cli.asking import asking

    csv = one_form(json_output, format_) is Format.CSV
    filters = _filters(event, distinct_id, person_id, properties, select=select, where=where)
    with asking(project, destination, quiet=quiet) as at:
        reader = EventsReader(at.client, at.project_id, events=EventFilter(), filters=filters)
        wanted = _range(at, reader, since, until)
        rng = reader.reachable(wanted)
        problems = _left_out(wanted, rng)
        by_page = csv or offset is not None
        if filters.select or filters.where or by_page:
            rng, more = _since_1970(reader, rng)
            problems += more
        if rng is None:
            raise SettingsError("; ".join(problems), hint="see docs/lookups.md")
        if filters.properties or filters.person_id is not None or filters.select or filters.where:
            lookups.tried(at.client, at.project_id, filters)
        ask = partial(lookups.page_request, at.project_id, rng, filters, offset=offset)
        if filters.where and lookups.ignores_where(at.client, at.project_id, rng, filters):
            _end(_nothing([*problems, WHERE_IGNORED], csv=csv))
        if filters.select:
            chosen = lookups.selected(at.client, ask(limit=limit or SELECTED, csv=False))
            if chosen:
                at.note(f"--select: one page of at most {limit or SELECTED} rows as PostHog gives it; more may follow")
                raw(at.client.send(ask(limit=limit or SELECTED, csv=True)).body if csv else _with(chosen, problems))
                _end(problems)
                return
            problems += [SELECT_IGNORED] if chosen is None else []
        if by_page:
            problems = _page(at, ask(limit=limit, csv=csv), csv=csv, problems=problems)
        else:
            problems = _stream(lookups.passages(reader, rng), limit, problems)
    _end(problems)


def _nothing(problems: list[str], *, csv: bool) -> list[str]:
    """A list without rows: none are better than those that a filter should have kept away."""
    return problems if csv else _stream((), None, problems)


def _with(answer: bytes, problems: list[str]) -> bytes:
    """PostHog's JSON object to the letter, with *problems* in it."""
    told = json.dumps(problems, ensure_ascii=False).encode()
    return answer.rstrip().removesuffix(b"}") + b',"problems":' + told + b"}"


def _filters(
    event: str | None,
    distinct_id: str | None,
    person_id: str | None,
    properties: str | None,
    *,
    select: str | None,
    where: str | None,
) -> Filters:
    from extractors.filters import Filters
    from flows.cli.asking import names_of, text_of

    try:
        return Filters(
            event,
            distinct_id,
            person_id,
            text_of(properties) if properties else "",
            names_of("--select", select),
            names_of("--where", where),
        )
    except (ValueError, RecursionError) as exc:
        raise SettingsError(f"--properties is no JSON of filters: {exc}", hint="see docs/lookups.md") from exc


def _range(at: Asking, reader: EventsReader, since: str | None, until: str | None) -> Range:
    """The range to look at; without *since* the last 24 hours, as at PostHog."""
    from extractors.window import Range, iso
    from flows.runs import wiring

    now = wiring.now()
    end = instant(until, now=now) if until else now
    if since is None:
        at.note(f"no --since: the 24 hours before {iso(end)}")
        start = end - DEFAULT_SPAN
    elif since.strip() == "earliest":
        start = min(reader.earliest() or end, end) - timedelta(microseconds=1)
    else:
        start = instant(since, now=now)
    if start >= end:
        raise SettingsError(f"--since {since} is not before --until {until or 'now'}")
    return Range(start, end)


def _left_out(wanted: Range, rng: Range | None) -> list[str]:
    """What of the range this server cannot be asked for, in words."""
    from extractors.window import iso

    if rng == wanted:
        return []
    told = "events so far away cannot be asked for on this server; not listed: "
    if rng is None:
        return [f"{told}{wanted}"]
    parts = ((wanted.start, rng.start), (rng.end, wanted.end))
    return [f"{told}{iso(start)} .. {iso(end)}" for start, end in parts if start < end]


def _since_1970(reader: EventsReader, rng: Range | None) -> tuple[Range | None, list[str]]:
    """The range for one page as PostHog gives it, which has no bound before 1970, and what it leaves out."""
    from extractors.window import EPOCH, Range
    from flows.report.words import counted

    if rng is None or rng.start >= EPOCH:
        return rng, []
    missed = reader.before_1970(rng).rows.num_rows
    told = f"{counted(missed, 'event')} before 1970: no page of PostHog's can be asked for there; listed without --offset, "
    problems = [f"{told}--select, --where and --format csv"] if missed or rng.end <= EPOCH else []
    return (Range(EPOCH, rng.end) if rng.end > EPOCH else None), problems


def _stream(passages: Iterable[Passage], limit: int | None, problems: list[str]) -> list[str]:
    """Write one document with the rows as they come; *problems* and what is wrong with them. Cut short it is no JSON."""
    from extractors.window import iso
    from flows.report import documents

    written = unread = 0
    documents.begin()
    sys.stdout.write('{"results":[')
    for passage in passages:
        rows = passage.rows if limit is None else passage.rows.slice(0, limit - written)
        for text in _texts(rows):
            sys.stdout.write((",\n" if written else "\n") + text)
            written += 1
        unread += passage.rejects.num_rows
        problems += [f"{iso(moment)}: more events than could be told apart" for moment in passage.unproven]
        problems += [f"{iso(moment)}: PostHog cannot serve an event of this microsecond" for moment in passage.unread]
        if limit is not None and written >= limit:
            break
    if unread:
        problems.append(f"{unread} rows cannot be read as events and are left out")
    sys.stdout.write(f'\n],"problems":{json.dumps(problems, ensure_ascii=False)}}}\n')
    return problems


def _texts(rows: pa.Table) -> Iterator[str]:
    """Each row as JSON; the properties to the letter, but for numbers that JSON has no word for: those become texts."""
    named = {
        "id": "uuid",
        "distinct_id": "distinct_id",
        "properties": "properties",
        "event": "event",
        "timestamp": "timestamp",
        "elements_chain": "elements_chain",
    }
    for values in zip(*(rows[column].to_pylist() for column in named.values()), strict=True):
        yield "{" + ",".join(f'"{name}":{_text(name, one)}' for name, one in zip(named, values, strict=True)) + "}"


def _text(name: str, value: Any) -> str:
    from extractors.http import scan

    if name == "properties":
        return scan.quoted_words(value)
    return json.dumps(value if isinstance(value, str) else value.isoformat(), ensure_ascii=False)


def _page(at: Asking, request: Request, *, csv: bool, problems: list[str]) -> list[str]:
    """One page as PostHog gives it, and what that means; *problems* and what is wrong with it."""
    from extractors.http import decode
    from extractors.lists.contents import CsvRows

    body = at.client.send(request).body
    if csv:
        counted = CsvRows()
        counted.take(body)
        raw(body)
        at.note(
            f"PostHog's own CSV: one page, {counted.rows:,} rows, at most 1,000 on today's servers; more may follow. "
            "Its columns differ from page to page, and types are lost"
        )
        return problems
    page = decode.page(body)
    texts = list(_texts(page.rows))
    if page.rejects.num_rows:
        problems.append(f"{page.rejects.num_rows} rows cannot be read as events and are left out")
    told = json.dumps(problems, ensure_ascii=False)
    sys.stdout.write('{"results":[\n' + ",\n".join(texts) + f'\n],"problems":{told}}}\n')
    more = "more follow" if page.more else "no more follow"
    at.note(
        f"--offset: one page of {len(texts):,} rows, {more}. Events of one moment have no order between pages: "
        "some may come twice and others never; without --offset none is left out"
    )
    return problems


def _end(problems: Sequence[str]) -> None:
    from flows.report import terminal

    for problem in problems:
        terminal.note(f"incomplete: {problem}", style="yellow")
    if problems:
        raise typer.Exit(INCOMPLETE)


@app.command("get")
def get_event(
    uuid: Annotated[str, typer.Argument(help="Uuid of the event.")],
    diff: Annotated[bool, typer.Option("--diff", help="Compare with the landed row.")] = False,
    format_: AsFormat = None,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Print one event, or compare it with what is landed. Exit 3 with --diff if it differs."""
    from extractors.http import scan
    from extractors.lists import lookups
    from flows.cli.asking import asking, uuid_of

    form = one_form(json_output, format_)
    if diff and form is Format.CSV:
        raise SettingsError("--diff is no table", hint="leave out --format csv")
    name = uuid_of(uuid, "events")
    with asking(project, destination, quiet=quiet) as at:
        if not diff:
            show(at, lookups.event_request(at.project_id, name, csv=False), form or Format.JSON, event_rows)
            return
        found = at.client.send(lookups.event_request(at.project_id, name, csv=False)).body
        differences = differences_of(at, name, found)
    if json_output:
        landed = json.dumps(differences, ensure_ascii=False)
        sys.stdout.write(f'{{"event":{scan.quoted_words(found.decode())},"differences":{landed}}}\n')
    else:
        for field, told in differences.items():
            sys.stdout.write(f"{field}: {told}\n")
        if not differences:
            sys.stdout.write("no difference: the landed row equals the event\n")
    if differences:
        raise typer.Exit(INCOMPLETE)


@app.command()
def values(
    key: Annotated[str, typer.Argument(help="Property, or column with --column; custom_event: event names.")],
    event: Annotated[list[str] | None, typer.Option("--event", help="Name of the events; may be repeated.")] = None,
    value: Annotated[str | None, typer.Option("--value", help="Part of the value, in any case.")] = None,
    column: Annotated[bool, typer.Option("--column", help="A column of the events, such as distinct_id.")] = False,
    properties: Annotated[
        str | None, typer.Option("--properties", help="Further filters: a JSON object, property to value.")
    ] = None,
    format_: Annotated[Format | None, typer.Option("--format", help="json or csv.")] = None,
    destination: Destination = None,
    project: OneProject = None,
    json_output: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Suggest values of a property. At most ten, of the last seven days: no inventory."""
    from extractors.lists import lookups
    from flows.cli.asking import asking, json_of
    from flows.report import files, terminal

    form = one_form(json_output, format_)
    more = json_of("--properties", properties) if properties else {}
    if not isinstance(more, dict):
        raise SettingsError("--properties is no JSON object", hint="expected property to value")
    with asking(project, destination, quiet=quiet) as at:
        request = lookups.values_request(
            at.project_id, key, events=event or [], value=value, column=column, properties=more, csv=False
        )
        found = suggested(at, request, of_events=bool(event))
        if not found.values:
            at.note("no values in the last seven days")
        if found.refreshing:
            at.note("PostHog gave older values while it looks again: ask once more for fresh ones")
    if form is Format.JSON:
        document = {"results": [{"name": one} for one in found.values], "refreshing": found.refreshing}
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    elif form is Format.CSV:
        files.write_csv(["name"], [[one] for one in found.values])
    else:
        for one in found.values:
            terminal.say(str(one))
