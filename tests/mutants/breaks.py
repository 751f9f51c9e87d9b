"""Deliberate breaks of the product, one for a promise each, and the tests that must go red."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Break:
    """*old* stands once in *file* and becomes *new*; then *tests* (pytest arguments) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


PIPELINE, SERVERS = "tests/flows/test_pipeline.py", "tests/flows/test_servers.py"
CONFORMANCE, PROOF, VERIFY = (
    "tests/sinks/test_conformance.py",
    "tests/flows/test_proof.py",
    "tests/flows/test_verify.py",
)
DECODE, PACING, PROBE = (
    "tests/extractors/test_decode.py",
    "tests/extractors/test_pacing.py",
    "tests/extractors/test_probe.py",
)
CONTENTS, LOOKUPS, ASKING = (
    "tests/extractors/test_contents.py",
    "tests/extractors/test_lookups.py",
    "tests/flows/test_asking.py",
)
LANDS = f"{PIPELINE} -k simulator_source"

BREAKS = [
    # The reading rule.
    Break(
        "first microsecond",
        "extractors/queries.py",
        "instant(rng.start - MICROSECOND)",
        "instant(rng.start)",
        "tests/extractors/test_queries.py",
    ),
    Break(
        "cursor past the tie",
        "extractors/events.py",
        "                cursor = last\n",
        "                cursor = last + MICROSECOND\n",
        LANDS,
    ),
    Break(
        "clamp taken for the end",
        "extractors/events.py",
        "            halvings = cuts = 0\n",
        "            page = replace(page, more=page.more and page.received == limit)\n            halvings = cuts = 0\n",
        LANDS,
    ),
    Break(
        "tie not split",
        "extractors/events.py",
        "        if not page.more:\n            return Passage(self._passing(page.rows), page.rejects, asked.end)\n        pages",
        "        if True:\n            return Passage(self._passing(page.rows), page.rejects, asked.end)\n        pages",
        LANDS,
    ),
    Break(
        "slice skipped",
        "extractors/ties.py",
        "    todo = _slices(None, None, full, depth=0)\n",
        "    todo = _slices(None, None, full, depth=0)[1:]\n",
        LANDS,
    ),
    Break(
        "finer slice skipped",
        "extractors/ties.py",
        "            todo.extend(finer)\n",
        "            todo.extend(finer[1:])\n",
        f"{PIPELINE} -k any_dataset",
    ),
    Break(
        "unproven not told",
        "extractors/events.py",
        "asked.end, () if proven else (at,))",
        "asked.end, ())",
        f"{PIPELINE} -k without_hogql",
    ),
    Break(
        "row outside taken",
        "extractors/events.py",
        "if low < asked.start or high >= asked.end:",
        "if False:",
        f"{SERVERS} -k outside_the_range",
    ),
    Break(
        "zone not checked",
        "extractors/events.py",
        "            zone.check(page, asked)\n",
        "",
        f"{SERVERS} -k 'trusted and small'",
    ),
    Break(
        "one bad answer in a second",
        "extractors/events.py",
        "            if asked.duration > MIN_SPAN:\n                raise",
        "            raise",
        f"{PIPELINE} -k passing_fault",
    ),
    Break(
        "filter forgotten after reading",
        "extractors/events.py",
        "                rows = rows.filter(named if keeps else pc.invert(named))\n",
        "                pass\n",
        f"{PIPELINE} -k filter_lands",
    ),
    # Decoding and typing.
    Break(
        "UTF-8 not checked",
        "extractors/decode.py",
        '            raw.decode("utf-8")\n            good',
        "            good",
        f"{DECODE} -k utf8",
    ),
    Break(
        "bad row dropped",
        "extractors/decode.py",
        '            rejects.append((_time_of(piece) or before, _reason(exc), raw.decode("utf-8", "backslashreplace")))',
        "            pass",
        DECODE,
    ),
    Break(
        "HTML taken for an empty page",
        "extractors/decode.py",
        "    except (ValueError, KeyError) as exc:\n        raise errors.BodyCut(",
        "    except (ValueError, KeyError) as exc:\n"
        "        return Page(RAW_ROWS.empty_table(), REJECTS.empty_table(), more=False, cursor=None)\n"
        "        raise errors.BodyCut(",
        DECODE,
    ),
    Break(
        "numbers for uuids",
        "extractors/decode.py",
        "if not pc.all(pc.match_substring_regex(uuids, _UUID), min_count=0).as_py():",
        "if False:",
        DECODE,
    ),
    Break(
        "reject lost on its way",
        "flows/loader.py",
        "        if rejects.num_rows:\n            self._rejects.append(rejects)",
        "        if rejects.num_rows:\n            pass",
        f"{SERVERS} -k 'quarantined and middle-nan'",
    ),
    Break(
        "reject twice",
        "flows/loader.py",
        "        return _distinct(held.filter(mine))",
        "        return held.filter(mine)",
        f"{SERVERS} -k 'quarantined and tie-nan'",
    ),
    Break(
        "quarantine is success",
        "flows/loader.py",
        "return not (self.unproven or self.quarantined or",
        "return not (self.unproven or",
        f"{SERVERS} -k 'quarantined and middle-nan'",
    ),
    Break(
        "copies kept",
        "transforms/events.py",
        '        kept = ordered.unique(_IDENTITY, keep="last", maintain_order=True).sort("index")',
        '        kept = ordered.sort("index")',
        "tests/transforms/test_events.py",
    ),
    Break(
        "oldest copy kept",
        "transforms/events.py",
        'unique(_IDENTITY, keep="last"',
        'unique(_IDENTITY, keep="first"',
        "tests/transforms/test_events.py",
    ),
    # Digests.
    Break(
        "distinct id not digested",
        "transforms/digest.py",
        '    n = pl.col("event").str.len_bytes().cast(pl.Int64) + 31 * pl.col("distinct_id").str.len_bytes().cast(pl.Int64)',
        '    n = pl.col("event").str.len_bytes().cast(pl.Int64)',
        "tests/transforms/test_digest.py",
    ),
    Break(
        "lengths not hashed",
        "transforms/digest.py",
        'pl.concat_str(text.str.len_bytes().cast(pl.String), pl.lit(":"), text)',
        "text",
        "tests/transforms/test_digest.py",
    ),
    Break(
        "properties not hashed",
        "transforms/schema.py",
        'if name != "_loaded_at"',
        'if name not in ("_loaded_at", "properties")',
        f"tests/transforms/test_digest.py {CONFORMANCE}",
    ),
    # The destination.
    Break(
        "rows not replaced",
        "sinks/duckdb_file.py",
        "        if known is not None and (known.tally.landed_rows or landing.rewrite):",
        "        if False:",
        f"{CONFORMANCE} -k again_replaces",
    ),
    Break(
        "generation not compared",
        "sinks/duckdb_file.py",
        "    if found != entry.generation:\n",
        "    if False:\n",
        f"{CONFORMANCE} -k stale_writer",
    ),
    Break(
        "mark moves back",
        "sinks/duckdb_file.py",
        "SET mark = greatest(?::TIMESTAMPTZ, coalesce(mark, ?::TIMESTAMPTZ))",
        "SET mark = coalesce(?::TIMESTAMPTZ, ?::TIMESTAMPTZ)",
        f"{CONFORMANCE} -k never_moves_back",
    ),
    Break(
        "filter not compared",
        "sinks/duckdb_file.py",
        "elif row[0] != event_filter and not rebuild:",
        "elif False:",
        f"{CONFORMANCE} -k rebuild",
    ),
    Break(
        "host not compared",
        "sinks/duckdb_file.py",
        "elif known[0] != host:",
        "elif False:",
        f"{CONFORMANCE} -k other_host",
    ),
    Break(
        "newer format taken",
        "sinks/duckdb_file.py",
        "        if found > FORMAT:\n",
        "        if False:\n",
        f"{CONFORMANCE} -k newer",
    ),
    Break(
        "note about another landing",
        "sinks/duckdb_file.py",
        '                    "AND w.generation = n.generation"',
        '                    ""',
        f"{CONFORMANCE} -k older_landing",
    ),
    Break(
        "cut file taken for whole",
        "sinks/duckdb_connection.py",
        "if found < expected and not waiting:",
        "if False:",
        "tests/sinks/test_duckdb_failures.py -k truncated",
    ),
    Break(
        "audit sees rows only",
        "sinks/duckdb_rows.py",
        "SELECT covers.window_start, coalesce(rows, 0), coalesce(digest, '0')",
        "SELECT covers.window_start, coalesce(rows, 0), '0'",
        f"{CONFORMANCE} -k audit",
    ),
    # Planning.
    Break(
        "settle ignored",
        "flows/plan.py",
        "window, need, entry, settled=window.end <= now - settle, step=step",
        "window, need, entry, settled=window.end <= now, step=step",
        "tests/flows/test_plan.py",
    ),
    Break(
        "unfinished windows forgotten",
        "flows/pipeline.py",
        "        found += plan.unfinished(ledger, wanted, now=now, settle=order.settle)\n",
        "",
        f"{PIPELINE} -k earlier_runs",
    ),
    Break(
        "hull not read",
        "flows/plan.py",
        "covers = _owed(entry, settled=settled).hull(need)",
        "covers = need",
        "tests/flows/test_plan.py",
    ),
    Break(
        "moved events not searched",
        "flows/proof.py",
        "            twice = sink.twice(order.project_id, STREAM, ledger.unchecked)",
        "            twice = sink.twice(order.project_id, STREAM, ())",
        "tests/flows/test_moved.py",
    ),
    # Limits and the client.
    Break("request not written down", "extractors/pacing.py", "            section.at.append(now)\n", "", PACING),
    Break(
        "Retry-After not shared",
        "extractors/pacing.py",
        "section.blocked_until = max(section.blocked_until, self._clock() + seconds)",
        "pass",
        PACING,
    ),
    Break(
        "minute too short",
        "extractors/pacing.py",
        "MINUTE_S, HOUR_S = 60.0, 3600.0",
        "MINUTE_S, HOUR_S = 55.0, 3600.0",
        PACING,
    ),
    Break(
        "slot not held",
        "extractors/pacing.py",
        "                held.enter_context(slot)\n",
        "                slot.close()\n",
        PACING,
    ),
    Break(
        "redirect followed",
        "extractors/client.py",
        "follow_redirects=False",
        "follow_redirects=True",
        "tests/extractors/test_client.py",
    ),
    Break(
        "half a gzip body taken",
        "extractors/client.py",
        "        if inflate and not inflate.eof:\n",
        "        if False:\n",
        "tests/extractors/test_client.py",
    ),
    Break(
        "key shown",
        "extractors/client.py",
        "    key: str = field(repr=False)",
        "    key: str",
        "tests/extractors/test_client.py",
    ),
    # The proof.
    Break(
        "limit as short as the windows",
        "extractors/probe.py",
        "limit = len(ordered) + 1",
        "limit = len(ordered)",
        PROBE,
    ),
    Break("full answer taken", "extractors/probe.py", "        if len(rows) >= limit:\n", "        if False:\n", PROBE),
    Break(
        "cached answer taken",
        "extractors/decode.py",
        "    if answer.is_cached:\n",
        "    if False:\n",
        f"{PROBE} {DECODE}",
    ),
    Break("cache allowed", "extractors/queries.py", '"refresh": "force_blocking"', '"refresh": "blocking"', PROBE),
    Break("project zone", "extractors/queries.py", ", 6, 'UTC')\"", ', 6)"', PROBE),
    Break(
        "copies counted", "extractors/queries.py", 'GROUP BY u, e, di, ts"', 'GROUP BY u, e, di, ts, created_at"', PROBE
    ),
    Break(
        "filter not probed",
        "extractors/queries.py",
        'return f"{condition} AND ({events.hogql})" if events.hogql else condition\n\n\ndef _micros',
        "return condition\n\n\ndef _micros",
        PROBE,
    ),
    Break(
        "everything agrees",
        "flows/proof.py",
        "    return said.digest == entry.tally.source_digest and (before is None or said.created == before.created)",
        "    return True",
        f"{PROOF} -k 'found_and_told or stays_different'",
    ),
    Break(
        "created_at ignored",
        "flows/proof.py",
        "entry.tally.source_digest and (before is None or said.created == before.created)",
        "entry.tally.source_digest",
        f"{PROOF} -k 'found_and_told or while_reading'",
    ),
    Break(
        "quarantine never compared",
        "flows/proof.py",
        "        return said.rows == entry.tally.source_rows and (before is None or said == before)",
        "        return True",
        f"{PROOF} -k quarantine",
    ),
    Break(
        "dispute ends by itself",
        "flows/proof.py",
        "                elif last:\n                    notes.append(self._noted(entry, said, State.DISPUTED))\n",
        "                elif last:\n                    notes.append(self._noted(entry, said, State.VERIFIED))\n",
        f"{PROOF} -k stays_different",
    ),
    Break(
        "dispute read for ever",
        "flows/proof.py",
        "    return disputed and baseline(entry) == said",
        "    return False",
        f"{PROOF} -k stays_different",
    ),
    Break(
        "no look-back",
        "flows/pipeline.py",
        "            prover.look_back(None, since=now - order.lookback)\n",
        "",
        f"{PROOF} -k found_and_told",
    ),
    Break(
        "no guard",
        "flows/loader.py",
        "        return not self.accept and total > MAX_REMOVED and total > MAX_REMOVED_SHARE * self.compared",
        "        return False",
        f"{PROOF} -k 'mass_deletion or outage'",
    ),
    Break(
        "re-read ages forgotten",
        "flows/proof.py",
        "        due = plan.due_again(",
        "        due = [] and plan.due_again(",
        f"{PROOF} -k at_its_ages",
    ),
    Break(
        "damage not looked for",
        "flows/audit.py",
        "    damaged = {entry.start for entry in entries if held[entry.start] != _landed(entry)}\n    changed",
        "    damaged = set()\n    changed",
        f"{VERIFY} -k damage_by_hand",
    ),
    Break(
        "strays not told",
        "flows/audit.py",
        "    done.stray_rows = held[None].rows if None in held else 0\n",
        "",
        f"{VERIFY} -k outside_every_window",
    ),
    Break(
        "repair reads everything",
        "flows/audit.py",
        "    wrong = [entry for entry in entries if entry.start in damaged | changed]",
        "    wrong = list(entries)",
        f"{VERIFY} -k damage_by_hand",
    ),
    # Look-ups and writes at PostHog.
    Break(
        "key goes to the store",
        "extractors/client.py",
        '            asked = {"Accept": "*/*", ',
        '            asked = {"Authorization": f"Bearer {self._key}", "Accept": "*/*", ',
        f"{CONTENTS} -k arrives_whole",
    ),
    Break(
        "write sent again",
        "extractors/client.py",
        "        if request.once:\n            return self._send_once(request)\n",
        "",
        "tests/extractors/test_exports.py -k 'sent_once and 500'",
    ),
    Break(
        "store may be unencrypted",
        "extractors/client.py",
        '(parts.scheme == "http" and redirect.url.scheme == "https")',
        "False",
        "tests/extractors/test_client.py -k unencrypted",
    ),
    Break(
        "row doubled by the edge of a passage",
        "extractors/lookups.py",
        "            fresh.append(key not in seen)\n",
        "            fresh.append(True)\n",
        f"{LOOKUPS} -k filtered_events",
    ),
    Break(
        "pages need not meet",
        "extractors/lookups.py",
        '        if offset and (not found.rows or found.rows[0]["id"] not in seen):\n',
        "        if False:\n",
        f"{LOOKUPS} -k added_and_removed",
    ),
    Break(
        "list not walked again",
        "extractors/lookups.py",
        "        if count is None or len(seen) >= count:\n",
        "        if True:\n",
        f"{LOOKUPS} -k never_shows_all",
    ),
    Break(
        "filters' own 500 halved for minutes",
        "extractors/lookups.py",
        "            if wait_s is not None:\n                client.wait(wait_s, exc)\n                continue\n",
        "            raise\n",
        f"{LOOKUPS} -k bare_500",
    ),
    Break(
        "name of the server taken",
        "extractors/contents.py",
        "    return f\"{stem or f'export-{one.id}'}.{extension}\"",
        "    return one.filename",
        f"{CONTENTS} -k plain_one",
    ),
    Break(
        "rest of another content",
        "extractors/contents.py",
        '"If-Range": self.etag}',
        '"X": self.etag}',
        f"{CONTENTS} -k changes_between",
    ),
    Break(
        "part taken for the whole",
        "extractors/contents.py",
        "        if total is not None and self.size != total:\n",
        "        if False:\n",
        f"{CONTENTS} -k arrives_whole",
    ),
    Break(
        "cap of rows not told",
        "extractors/contents.py",
        "rows in ROW_CAPS)",
        "False)",
        f"{CONTENTS} -k a_cap",
    ),
    Break(
        "part under its final name",
        "extractors/files.py",
        '    part = path.with_name(f".{path.name}.part")\n',
        "    part = path\n",
        f"{CONTENTS} -k does_not_arrive",
    ),
    Break(
        "order not looked for",
        "flows/ordering.py",
        "        if mark is not None:\n",
        "        if False:\n",
        f"{ASKING} -k killed_order",
    ),
    Break(
        "order noted for ever",
        "flows/ordering.py",
        "        path.unlink()\n        return made\n",
        "        return made\n",
        f"{ASKING} -k two_orders",
    ),
    Break(
        "write without a yes",
        "flows/asking.py",
        "    if not sys.stdin.isatty():\n",
        "    if False:\n",
        f"{ASKING} -k 'mistake_ends_clearly and asked'",
    ),
    Break(
        "no taken for a yes",
        "flows/asking.py",
        '    if not typer.confirm("Do it?", err=True):\n',
        '    if not typer.confirm("Do it?", err=True) and False:\n',
        f"{ASKING} -k terminal_is_asked",
    ),
    Break(
        "whole row sent",
        "extractors/evaluations.py",
        " if name not in row or row[name] != value}",
        "}",
        "tests/extractors/test_evaluations.py -k only_what_differs",
    ),
    Break(
        "file of the user replaced",
        "flows/cli_exports.py",
        "    if output is None and (path.exists() or path.is_symlink()):\n",
        "    if False:\n",
        f"{ASKING} -k waited_for_and_fetched",
    ),
]
