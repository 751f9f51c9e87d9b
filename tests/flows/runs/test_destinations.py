"""Addresses that cannot be a destination, refused before anything is asked of it or made."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.runs.destinations import destination_of
from flows.settings.model import Settings
from flows.settings.parse import SettingsError

OVERRIDING = (
    *("date=2020-01-01", "DATE=2020-01-01", "date=", "project_id=9", "Project_ID=9", "event=x", "_loaded_at=2020"),
    *("timestamp=1", "uuid=a=b"),
)
HARMLESS = ("env=prod", "date", "=date", "x=date=2020", "my_date=2020", "posthog")


def destination(address: str, **given: str) -> object:
    return destination_of(Settings.model_validate({"destination": given | {"address": address}}))


@pytest.mark.parametrize("folder", OVERRIDING)
def test_a_lake_below_a_folder_that_overrides_a_column_is_refused(folder, tmp_path, monkeypatch):
    """Every row would have its value there, for DuckDB, polars and others: as the lake itself, above it, by a link, on S3."""
    (tmp_path / folder).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / folder)
    addresses = [
        *(f"file:{tmp_path / folder}", f"file:{tmp_path / folder / 'lake'}", f"file:{tmp_path / 'link' / 'lake'}"),
        *(f"s3://bucket/{folder}", f"s3://bucket/{folder}/posthog", f"s3://bucket/a/{folder}/"),
    ]
    for address in addresses:
        with pytest.raises(SettingsError, match=f"below '{folder}'.*column {folder.partition('=')[0].lower()}"):
            destination(address)
    monkeypatch.chdir(tmp_path / folder)
    with pytest.raises(SettingsError, match="lies below"):
        destination("file:lake")

    assert list((tmp_path / folder).iterdir()) == []


@pytest.mark.parametrize("folder", HARMLESS)
def test_a_lake_below_any_other_folder_is_one(folder, tmp_path):
    """A folder env=prod adds a column to a plain glob, and changes none."""
    (tmp_path / folder).mkdir()
    destination(f"file:{tmp_path / folder / 'lake'}")
    destination(f"s3://bucket/{folder}/posthog")


@pytest.mark.parametrize("name", ["a[1]", "what?", "all*"])
def test_a_lake_below_a_pattern_is_refused(name, tmp_path, monkeypatch):
    """Also where the working directory, not the address, has the name that no glob can say."""
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(SettingsError, match="cannot be read by a glob"):
        destination("file:lake")
    assert list(Path.cwd().iterdir()) == []


def test_a_lake_that_is_a_link_to_nothing_is_refused(tmp_path):
    """Nothing can be made through it, and what lies above it can be written, which says nothing."""
    (tmp_path / "lake").symlink_to(tmp_path / "gone")
    with pytest.raises(SettingsError, match="is a link to nothing"):
        destination(f"file:{tmp_path / 'lake'}")


def test_half_a_pair_of_keys_is_named():
    """It was a bug of hedgerow's to the reader, of the S3 client's making."""
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY is not set, and AWS_ACCESS_KEY_ID is"):
        destination("s3://bucket/p", access_key_id="AKIA")
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID is not set, and AWS_SECRET_ACCESS_KEY is"):
        destination("s3://bucket/p", secret_access_key="x")
