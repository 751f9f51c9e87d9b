"""Breaks of stores of objects."""

from __future__ import annotations

from tests.mutants.breaks.kind import DURABLE, LAKE, OBJECTS, Break

BREAKS = [
    Break(
        "a refused condition is any refusal",
        "sinks/objects/base.py",
        '            self.put(path, b"1")\n            self.delete(path)\n',
        "            raise\n",
        f"{OBJECTS} -k at_its_first_answer",
    ),
    Break(
        "a condition that is not implemented is asked nine times",
        "sinks/objects/base.py",
        r'r"status code: 50[^1]"',
        r'r"status code: 50\d"',
        f"{OBJECTS} -k at_its_first_answer",
    ),
    Break(
        "a first try with every retry",
        "sinks/objects/s3.py",
        "        hasty = _Hasty(self._once, self.name)\n",
        "        hasty = _Hasty(self._store, self.name)\n",
        f"{OBJECTS} -k 'first_answer or look_before'",
    ),
    Break(
        "a first try that never comes again",
        "sinks/objects/s3.py",
        'return said if "status code: " in text else errors.DestinationBusy(str(said), hint=said.hint)',
        "return said",
        f"{OBJECTS} -k fault_that_passes",
    ),
    Break(
        "every name is taken",
        "sinks/objects/base.py",
        "            if self.head(path) is None:\n                raise self._unfit",
        "            if False:\n                raise self._unfit",
        f"{OBJECTS} -k at_its_first_answer",
    ),
    Break(
        "an answer that was lost is a store's fault",
        "sinks/objects/base.py",
        "            if self.head(path) is None:\n                raise self._unfit",
        "            if True:\n                raise self._unfit",
        f"{OBJECTS} -k is_our_own",
    ),
    Break(
        "a machine without a role called a policy's fault",
        "sinks/objects/base.py",
        "        if _MACHINE.search(text):",
        "        if False:",
        f"{OBJECTS} -k no_keys",
    ),
    Break(
        "a look makes a directory",
        "sinks/objects/local.py",
        "tempfile.TemporaryFile(dir=next(one for one in (scratch, *scratch.parents) if one.is_dir())):",
        "tempfile.TemporaryFile(dir=self._scratch() if self._there() else self.root.parent):",
        f"{LAKE} -k 'leaves_nothing or other_files'",
    ),
    Break(
        "file aside that is gone",
        "sinks/objects/local.py",
        "                with suppress(FileNotFoundError):  # another",
        "                with suppress(ZeroDivisionError):  # another",
        f"{OBJECTS} -k just_gone",
    ),
    Break(
        "two create one name",
        "sinks/objects/base.py",
        'data, mode="create", use_multipart=False)',
        "data, use_multipart=False)",
        f"{OBJECTS} {LAKE} -k 'first_to_create or two_writers'",
    ),
    Break(
        "stale version replaced",
        "sinks/objects/base.py",
        "            if match is not None and (found is None or found.etag != match):\n",
        "            if False:\n",
        f"{OBJECTS} -k match_refuses",
    ),
    Break(
        "object renamed before it is durable",
        "sinks/objects/local.py",
        "                os.fsync(file.fileno())\n",
        "",
        f"{DURABLE} -k power_cut",
    ),
    Break(
        "object's name not synced",
        "sinks/objects/local.py",
        "            durable.sync(target.parent)\n",
        "",
        f"{DURABLE} -k power_cut",
    ),
    Break(
        "no lock around an object's replacement",
        "sinks/objects/local.py",
        "                fcntl.flock(lock, fcntl.LOCK_EX)\n",
        "",
        f"{DURABLE} -k 'lock and object'",
    ),
    Break(
        "object looked at before the lock",
        "sinks/objects/local.py",
        "                fcntl.flock(lock, fcntl.LOCK_EX)\n                self._compare(path, create=False, match=match)\n",
        "                self._compare(path, create=False, match=match)\n                fcntl.flock(lock, fcntl.LOCK_EX)\n",
        f"{DURABLE} -k another_writer",
    ),
    Break(
        "answer of a store shown whole",
        "sinks/objects/base.py",
        '        if answered := re.search(r"status code: (\\d{3})", text):\n'
        '            return self._unusable(code or f"it answered {answered[1]}", _CHECK)\n',
        "",
        f"{OBJECTS} -k without_a_code",
    ),
    Break(
        "list of a store shown whole",
        "sinks/objects/base.py",
        '|(?<=response): ", text)',
        '", text)',
        f"{OBJECTS} -k without_a_code",
    ),
    Break(
        "answer of a store in the traceback",
        "sinks/objects/base.py",
        "            raise self._said(str(exc)) from None\n",
        "            raise self._said(str(exc)) from exc\n",
        f"{OBJECTS} -k without_a_code",
    ),
    Break(
        "other bytes taken for the part",
        "sinks/objects/base.py",
        "bytes(obstore.get_range(self._store, path, start=start, end=end))",
        "bytes(obstore.get(self._store, path).bytes())[: end - start]",
        f"{OBJECTS} -k part_asked_for",
    ),
    Break(
        "the lock is tidied away",
        "sinks/objects/local.py",
        '                    if left.name != "lock" and time.time() - left.stat().st_mtime > LEFT_S:',
        "                    if time.time() - left.stat().st_mtime > LEFT_S:",
        "tests/sinks/objects/test_objects.py -k killed_put",
    ),
]
