"""What of the AWS environment counts for a lake in S3, beside the settings.

The S3 client knows keys, a web identity, a container's credentials and the machine's role. It reads no profiles, and what
it cannot use it passes over: then it asks a machine that has no role, and access is denied. So that is said here first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flows.settings.parse import SettingsError

PROFILES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE")
_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def check(variables: Mapping[str, str], *, region: str | None, keys: bool, token: bool) -> None:
    """Whether S3 can be asked with what is set. *region*, *keys*, *token*: of the settings. Raises SettingsError.

    Where there are no keys, others are tried in the order in which the client takes them (docs/settings.md).
    """
    if region is not None and not re.fullmatch(r"[\w-]+", region, re.ASCII):
        raise SettingsError(
            f"{region!r} is no region",
            hint="set AWS_REGION (or AWS_DEFAULT_REGION, or [destination] region) to one such as eu-central-1",
        )
    if keys:
        return
    if token:
        raise SettingsError("AWS_SESSION_TOKEN is set, and AWS_ACCESS_KEY_ID is not", hint=f"{_KEYS} that belong to it")
    if file := variables.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        _check_web_identity(file, role=variables.get("AWS_ROLE_ARN"))
    elif given := _first(variables, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        if not variables[given].startswith("/"):
            raise SettingsError(f"{given} is no path", hint=f"unset {given} and {_KEYS}")
    elif given := _first(variables, "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        if urlsplit(variables[given]).scheme not in ("http", "https"):
            raise SettingsError(f"{given} is no address", hint=f"unset {given} and {_KEYS}")
    elif given := _first(variables, *PROFILES):
        raise SettingsError(
            f"{given} is set, and hedgerow reads no profiles of AWS",
            hint=f"{_KEYS}: aws configure export-credentials --format env prints those of a profile",
        )
    elif variables.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise SettingsError(
            "there are no AWS credentials, and AWS_EC2_METADATA_DISABLED forbids to ask for a role",
            hint=f"{_KEYS}, or unset AWS_EC2_METADATA_DISABLED on a machine with a role",
        )


def _first(variables: Mapping[str, str], *names: str) -> str | None:
    return next((name for name in names if variables.get(name)), None)


def _check_web_identity(file: str, *, role: str | None) -> None:
    if not role:
        raise SettingsError(
            "AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not", hint="set both, or neither and keys"
        )
    try:
        Path(file).read_bytes()
    except OSError as exc:
        raise SettingsError(
            f"AWS_WEB_IDENTITY_TOKEN_FILE: cannot read {file}: {exc.strerror}",
            hint=f"correct or unset AWS_WEB_IDENTITY_TOKEN_FILE, and then {_KEYS}",
        ) from exc
