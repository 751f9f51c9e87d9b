"""Breaks of stores of objects."""

from __future__ import annotations

from tests.mutants.breaks.kind import DURABLE, LAKE, OBJECTS, Break

BREAKS = [
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
    Break(
        "what the S3 client cannot be made of is a bug",
        "sinks/objects/s3.py",
        "    except (BaseError, ValueError) as exc:\n        certificates",
        "    except ZeroDivisionError as exc:\n        certificates",
        "tests/flows/settings/test_surroundings.py -k AWS_CHECKSUM_ALGORITHM",
    ),
    Break(
        "a store's certificate that is not trusted is a network's fault",
        "sinks/objects/s3.py",
        '        if "InvalidCertificate(" in text:\n',
        '        if "InvalidCertificate((" in text:\n',
        "tests/flows/settings/test_surroundings.py -k store_is_reached",
    ),
    Break(
        "a proxy in front of the store is not named",
        "sinks/objects/s3.py",
        "        if self.options.proxy and str(said)",
        "        if not self.options.proxy and str(said)",
        "tests/flows/settings/test_surroundings.py -k store_is_reached",
    ),
    Break(
        "another address of the store is preferred by its client",
        "sinks/objects/s3.py",
        '            config["aws_endpoint_url_s3"] = config["endpoint"]',
        '            config["endpoint"] = config["endpoint"]',
        "tests/flows/settings/test_surroundings.py -k address_of_the_settings",
    ),
    Break(
        "a variable switches conditional writes off",
        "sinks/objects/s3.py",
        "        config |= ALWAYS\n",
        "",
        "tests/flows/settings/test_surroundings.py -k CONDITIONAL",
    ),
]
