"""`hedgerow status --html`: one page that needs nothing but itself. Knows the summary, HTML and SVG, and no files.

Everything out of the data is escaped. Colours have a sign or a word beside them: nobody has to tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from html import escape
from itertools import groupby

from flows.assets.held import Held
from flows.report import words
from flows.report.status import LATENESS, Day, Kind, Summary
from flows.report.words import counted, sized, spoken
from flows.runs.catalog import BY_NAME

WORDS = {
    Kind.VERIFIED: "verified: the source counts what is landed",
    Kind.LANDED: "landed: not compared with the source",
    Kind.OPEN: "open: still filling, or to be landed again",
    Kind.GAP: "gap: never landed",
    Kind.DIFFERS: "differs: see hedgerow verify",
}
SIGNS = {Kind.DIFFERS: "!", Kind.GAP: "×"}
MOST_BARS = 120
CELL, GAP = 19, 2

STYLE = """
:root{color-scheme:light dark;--page:#f7f8f7;--card:#fff;--ink:#1d2320;--soft:#5b665f;--line:#dfe4e0;
--verified:#2f7d4f;--landed:#3b6ea8;--open:#b9770e;--gap:#fff;--gap-ink:#8a3324;--differs:#b3261e;--alarm:#b3261e;--bar:#4d7f63}
@media(prefers-color-scheme:dark){:root{--page:#141816;--card:#1c211e;--ink:#e6ebe7;--soft:#9fada4;--line:#313a34;
--verified:#3f9a66;--landed:#5489c7;--open:#d0902a;--gap:#1c211e;--gap-ink:#e2907f;--differs:#e0564b;--alarm:#f08b82;--bar:#6aa583}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:22px;margin:0}h2{font-size:17px;margin:40px 0 12px}
h3{font-size:14px;margin:0 0 10px;color:var(--soft);font-weight:600}
p{margin:4px 0;color:var(--soft)}code{overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(190px,45%),1fr));gap:12px;margin:16px 0}
.card,.panel{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.panel{margin:12px 0}.card b{display:block;font-size:22px;line-height:1.25;font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:13px}
.alarm b{color:var(--alarm)}
.months{display:flex;flex-wrap:wrap;gap:14px 18px}.months figure{margin:0}.months figcaption{font-size:12px;color:var(--soft)}
svg{display:block}svg text{font:10px system-ui,sans-serif;fill:#fff;text-anchor:middle}
.verified{fill:var(--verified)}.landed{fill:var(--landed)}.open{fill:var(--open)}.differs{fill:var(--differs)}
.gap{fill:var(--gap);stroke:var(--gap-ink);stroke-dasharray:2 2}text.gap{fill:var(--gap-ink);stroke:none}
.bars rect{fill:var(--bar)}svg.chart{width:100%;height:120px;border:solid var(--line);border-width:1px 0}
.axis{display:flex;justify-content:space-between;font-size:12px;color:var(--soft)}
.axis.each span{flex:1;text-align:center}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:12px 0 0;list-style:none;font-size:13px;color:var(--soft)}
.legend li{display:flex;gap:7px;align-items:center}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}th,td:first-child{white-space:nowrap}td.n,th.n{text-align:right}td.error{min-width:180px;overflow-wrap:anywhere}
"""


def page(summaries: Sequence[Summary], *, destination: str, made_at: datetime) -> str:
    """The whole document for *summaries*, in UTC."""
    body = "".join(_stream(one) for one in summaries) or "<p>Nothing is landed yet: run <code>hedgerow sync</code>.</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>hedgerow status</title>'
        f"<style>{STYLE}</style></head><body><main><h1>hedgerow status</h1>"
        f"<p>{escape(destination)} · {made_at:%Y-%m-%d %H:%M} UTC · all times and days are UTC</p>{body}</main></body></html>\n"
    )


def _stream(one: Summary) -> str:
    title = f"<h2>Project {one.project_id} · {escape(one.stream)}</h2>"
    if one.held is not None:
        return f"<section>{title}{_held_cards(one.stream, one.held)}{_runs(one)}</section>"
    if not one.windows:
        return f"<section>{title}<p>Nothing is landed yet: run <code>hedgerow sync</code>.</p>{_runs(one)}</section>"
    return (
        f"<section>{title}{_cards(one)}"
        f'<div class="panel"><h3>Coverage by day</h3><div class="months">{"".join(_months(one.days))}</div>{_legend()}</div>'
        f'<div class="panel"><h3>{_rows_title(one)}</h3>{_rows_chart(one.days)}</div>'
        f'<div class="panel"><h3>Late events, by how late they came at least</h3>{_lateness_chart(one)}</div>'
        f"{_runs(one)}</section>"
    )


def _cards(one: Summary) -> str:
    differing = sum(day.kind is Kind.DIFFERS for day in one.days)
    first, last = one.segments[0].start, one.segments[-1].end
    cards = [
        (f"{one.rows:,}", f"rows in {counted(one.windows, 'window')}", False),
        (f"{_percent(one.share(Kind.VERIFIED))}", "of the time verified", False),
        (spoken(one.freshness) if one.freshness is not None else "–", "behind the source", False),
        (f"{len(one.gaps):,}", "gaps", bool(one.gaps)),
        (f"{differing:,}", "days that differ", bool(differing)),
        (
            f"{one.late + one.deleted + one.changed:,}",
            f"since landed: {one.late:,} late, {one.deleted:,} deleted, {one.changed:,} changed",
            False,
        ),
        (
            f"{one.quarantined + one.suppressed:,}",
            f"left out: {one.quarantined:,} in quarantine, {one.suppressed:,} suppressed",
            bool(one.quarantined),
        ),
    ]
    for used in one.budget:
        cards.append(
            (f"{max(0, used.per_hour - used.last_hour):,}", f"{escape(used.bucket)} requests left this hour", False)
        )
    return f"<p>{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}</p>{_drawn(cards)}"


def _held_cards(stream: str, held: Held) -> str:
    """What is held of a stream beside events."""
    cards = [
        (f"{held.rows:,}", f"rows of {counted(held.current + held.deleted, BY_NAME[stream].singular)}", False),
        (f"{held.missing:,}", "missing", bool(held.missing)),
        (f"{held.deleted:,}", "deleted", False),
    ]
    if held.contents:
        cards.append((f"{held.contents:,}", f"contents of {sized(held.bytes)}, {counted(held.tables, 'table')}", False))
    return f"<p>Last read {words.day(held.read_at)}, last changed {words.day(held.changed_at)}</p>{_drawn(cards)}"


def _drawn(cards: Sequence[tuple[str, str, bool]]) -> str:
    """Cards: a figure, what it is, and whether it is an alarm."""
    shown = "".join(
        f'<div class="card{" alarm" if alarm else ""}"><b>{text}</b><span>{word}</span></div>'
        for text, word, alarm in cards
    )
    return f"<div class='cards'>{shown}</div>"


def _percent(share: float) -> str:
    """Never rounded up to everything."""
    return "100 %" if share == 1 else f"{min(share * 100, 99.9):.1f} %"


def _months(days: Sequence[Day]) -> Iterator[str]:
    """A small calendar for every month, weeks from Monday."""
    step = CELL + GAP
    for (year, month), members in groupby(days, key=lambda day: (day.date.year, day.date.month)):
        first, drawn, weeks = date(year, month, 1), [], set()
        for day in members:
            column, week = day.date.weekday(), (day.date.day + first.weekday() - 1) // 7
            weeks.add(week)
            x, y = column * step + 1, (week - min(weeks)) * step + 1
            sign = SIGNS.get(day.kind, str(day.date.day))
            hint = f"{day.date}: {day.kind}, {counted(day.rows, 'row')} in {counted(day.windows, 'window')}"
            drawn.append(
                f'<g><title>{hint}</title><rect class="{day.kind}" x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="4"/>'
                f'<text class="{"gap" if day.kind is Kind.GAP else ""}" x="{x + CELL / 2}" y="{y + 13}">{sign}</text></g>'
            )
        name = f"{first:%B %Y}"
        yield (
            f'<figure><figcaption>{name}</figcaption><svg role="img" aria-label="Coverage of {name}" '
            f'width="{7 * step}" height="{len(weeks) * step}">{"".join(drawn)}</svg></figure>'
        )


def _legend() -> str:
    items = "".join(
        f'<li><svg width="18" height="18" aria-hidden="true"><rect class="{kind}" x="1" y="1" width="16" height="16" rx="4"/>'
        f'<text class="{"gap" if kind is Kind.GAP else ""}" x="9" y="13">{SIGNS.get(kind, "")}</text></svg>{words}</li>'
        for kind, words in WORDS.items()
    )
    return f'<ul class="legend">{items}</ul>'


def _rows_title(one: Summary) -> str:
    return "Rows per day" if len(one.days) <= MOST_BARS else f"Rows per {_days_a_bar(one.days)} days"


def _days_a_bar(days: Sequence[Day]) -> int:
    return -(-len(days) // MOST_BARS)


def _rows_chart(days: Sequence[Day]) -> str:
    size = _days_a_bar(days)
    parts = [days[at : at + size] for at in range(0, len(days), size)]
    bars = [
        (sum(day.rows for day in part), f"{part[0].date}" + (f" to {part[-1].date}" if size > 1 else ""))
        for part in parts
    ]
    marks = dict.fromkeys(f"{days[at].date}" for at in (0, (len(days) - 1) // 2, -1))
    return _bars(bars, unit="rows", name="Rows over time") + _axis(list(marks))


def _lateness_chart(one: Summary) -> str:
    if not one.late:
        return "<p>None was found so far.</p>"
    names = [name for name, _ in LATENESS]
    chart = _bars(list(zip(one.lateness, names, strict=True)), unit="events", name="Late events")
    latest = f"<p>The latest came at least {spoken(one.latest)} after its time.</p>"
    return chart + _axis(names, each=True) + latest


def _bars(bars: Sequence[tuple[int, str]], *, unit: str, name: str) -> str:
    """An upright bar for each (height, what it is), as wide as there is room; the greatest height is named."""
    width, height = 720, 120
    most = max((count for count, _ in bars), default=0)
    part = width / max(1, len(bars))
    drawn = []
    for number, (count, what) in enumerate(bars):
        tall = max(1.5, height * count / most) if count else 0.0
        drawn.append(
            f'<g class="bars"><title>{escape(what)}: {count:,} {unit}</title><rect x="{number * part + part * 0.1:.1f}" '
            f'y="{height - tall:.1f}" width="{part * 0.8:.1f}" height="{tall:.1f}"/></g>'
        )
    return (
        f'{_axis([f"{most:,} {unit}"])}<svg class="chart" role="img" aria-label="{escape(name)}" '
        f'viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(drawn)}</svg>'
    )


def _axis(labels: Sequence[str], *, each: bool = False) -> str:
    """Labels in one line: at both ends, or one under *each* bar."""
    spans = "".join(f"<span>{escape(label)}</span>" for label in labels)
    return f'<div class="axis{" each" if each else ""}">{spans}</div>'


def _runs(one: Summary) -> str:
    if not one.runs:
        return ""
    rows = "".join(
        f"<tr><td>{run.started_at:%Y-%m-%d %H:%M}</td>"
        f"<td>{escape(run.command)}</td><td>{escape(run.stream)}</td><td>{escape(run.outcome)}</td>"
        f'<td class="n">{run.rows:,}</td><td class="n">{run.windows:,}</td><td class="n">{run.requests:,}</td>'
        f'<td class="n">{spoken(run.finished_at - run.started_at)}</td><td class="error">{escape(run.error)}</td></tr>'
        for run in one.runs
    )
    numbers = "".join(f'<th class="n" scope="col">{name}</th>' for name in ("rows", "windows", "requests", "took"))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("started", "command", "stream", "outcome"))
    return (
        f'<div class="panel"><h3>Last runs</h3><div class="scroll" tabindex="0"><table><thead><tr>{head}{numbers}'
        f'<th scope="col">what was said</th></tr></thead><tbody>{rows}</tbody></table></div></div>'
    )
