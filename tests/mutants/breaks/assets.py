"""Breaks of exports and evaluations."""

from __future__ import annotations

from tests.mutants.breaks.kind import ASKING, DURABLE, EXIT, ORDER, Break

BREAKS = [
    Break(
        "order not looked for",
        "flows/assets/ordering.py",
        "        if mark is not None:\n",
        "        if False:\n",
        f"{ASKING} -k killed_order",
    ),
    Break(
        "order noted for ever",
        "flows/assets/ordering.py",
        "        path.unlink()\n        return made\n",
        "        return made\n",
        f"{ASKING} -k two_orders",
    ),
    Break(
        "a list older than its table",
        "flows/assets/history.py",
        "        old = sink.table(stream.table)\n        reading = history.read(client, project_id, resource)\n",
        "        reading = history.read(client, project_id, resource)\n        old = sink.table(stream.table)\n",
        f"{ORDER} -k 'older_reading and table'",
    ),
    Break(
        "history by the local clock",
        "flows/assets/history.py",
        "client.served_at or now(),",
        "now(),",
        f"{ORDER} -k clocks_of_machines",
    ),
    Break(
        "missing evaluations not named",
        "flows/assets/history.py",
        "    if found.missing:\n",
        "    if not found.current:\n",
        f"{ORDER} -k empty_list_deletes",
    ),
    Break(
        "a table of two runs fails one",
        "flows/assets/tables.py",
        "        replaced(self._sink, name, lambda old: table, views=views)\n",
        '        self._sink.replace(name, table, version="", views=views)\n',
        f"{ORDER} -k 'same_content and export_1_1'",
    ),
    Break(
        "a snapshot of a dead run is any export",
        "flows/assets/exports.py",
        "            ordered.append((one, name))\n",
        "            table.take(client, one)\n",
        f"{ORDER} -k 'run_was_killed and file'",
    ),
    Break(
        "a snapshot committed before its rows",
        "flows/assets/tables.py",
        "            # A snapshot's table grows before",
        "            kept = export_rows.with_content(row, path='', sha256='', size=2, rows=2, possibly_cut=False)\n"
        "            self._pending.append(kept)\n"
        "            self.commit()\n"
        "            # A snapshot's table grows before",
        f"{ORDER} -k 'run_was_killed and file'",
    ),
    Break(
        "a table of its own for a snapshot's export",
        "flows/assets/tables.py",
        "        if snapshot is None and table is not None:\n",
        "        if table is not None:\n",
        f"{ORDER} -k was_not_ready",
    ),
    Break(
        "any mark names a table",
        "flows/assets/tables.py",
        "        if snapshot not in self._growing:\n",
        "        if snapshot in ('', *()):\n",
        f"{ORDER} -k only_snapshots_of_the_settings",
    ),
    Break(
        "orders of two snapshots are one",
        "flows/assets/ordering.py",
        "        name = [self.snapshot] if self.snapshot else []\n",
        "        name: list[str] = []\n",
        f"{ORDER} -k snapshots_of_one_thing",
    ),
    Break(
        "another run's order ends this one",
        "flows/assets/snapshots.py",
        "    except files.Busy:\n",
        "    except ZeroDivisionError:\n",
        f"{ORDER} -k another_run_orders",
    ),
    Break(
        "a full disk is a bug",
        "flows/assets/tables.py",
        "    except OSError as exc:\n        remedy",
        "    except ZeroDivisionError as exc:\n        remedy",
        f"{ORDER} -k full_disk",
    ),
    Break(
        "no place for orders is a bug",
        "flows/assets/ordering.py",
        "    except OSError as exc:\n        raise SettingsError(\n",
        "    except ZeroDivisionError as exc:\n        raise SettingsError(\n",
        f"{ORDER} -k place_for_orders",
    ),
    Break(
        "the history hides what ended an assets run",
        "flows/assets/streams.py",
        "            with suppress(SinkError) if error else nullcontext():\n",
        "            with nullcontext():\n",
        f"{ORDER} -k history_does_not_hide",
    ),
    Break(
        "order noted under a name that does not last",
        "flows/assets/ordering.py",
        "        files.sync_directory(notes.directory)  # where the file is new, its name too\n",
        "",
        f"{DURABLE} -k noted_durably",
    ),
    Break(
        "order noted in memory",
        "flows/assets/ordering.py",
        "    os.fsync(file.fileno())",
        "    os.fstat(file.fileno())",
        f"{DURABLE} -k noted_durably",
    ),
    Break(
        "an export that may be cut is no problem",
        "flows/assets/tables.py",
        "            if content.possibly_cut:\n",
        "            if False:\n",
        f"{EXIT} -k may_be_cut",
    ),
    Break(
        "evaluations of every project are one's in a destination",
        "flows/assets/history.py",
        "shape=shape, project_id=project_id, accept",
        "shape=shape, project_id=1, accept",
        "tests/flows/assets/test_assets.py -k 'two_projects and file'",
    ),
    Break(
        "one table for an export of two projects",
        "flows/assets/tables.py",
        '        name = f"export_{self._project_id}_{one.id}"\n',
        '        name = f"export_1_{one.id}"\n',
        "tests/flows/assets/test_assets.py -k 'two_projects and file'",
    ),
    Break(
        "one content for an export of two projects",
        "flows/assets/tables.py",
        'self._sink.store_content(f"{self._project_id}/{one.id}-',
        'self._sink.store_content(f"1/{one.id}-',
        "tests/flows/assets/test_assets.py -k 'two_projects and file'",
    ),
    Break(
        "one view for an export of two projects",
        "flows/assets/tables.py",
        "        alone = all(row[",
        "        alone = True or all(row[",
        "tests/flows/assets/test_assets.py -k 'two_projects and not moto'",
    ),
    Break(
        "a snapshot without a table is no problem",
        "flows/assets/tables.py",
        "        elif table is None:\n            self.done.problems.append(",
        "        elif table is None:\n            self.done.notes.append(",
        "tests/flows/assets/test_assets.py -k 'snapshot_that_fails and file'",
    ),
    Break(
        "another mark for the same order",
        "flows/assets/ordering.py",
        "        mark = mark or notes.new_mark()\n",
        "        mark = notes.new_mark()\n",
        f"{DURABLE} -k first_mark",
    ),
]
