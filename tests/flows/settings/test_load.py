"""Where each setting comes from."""

from __future__ import annotations

import pytest

from flows.settings.load import load, shown
from flows.settings.parse import SettingsError

LAYERS = ("a Secret block", "hedgerow.toml", ".env", "environment", "flag")


@pytest.mark.parametrize("strongest", LAYERS)
def test_layers_are_stronger_in_their_order(strongest, tmp_path, monkeypatch):
    """Flag, then environment, then .env, then hedgerow.toml, then a block, then the default; the origin is remembered."""
    given = LAYERS[: LAYERS.index(strongest) + 1]
    if "hedgerow.toml" in given:
        (tmp_path / "hedgerow.toml").write_text("[destination]\nregion = 'hedgerow.toml'\n")
    if ".env" in given:
        (tmp_path / ".env").write_text("AWS_REGION=.env\n")
    if "environment" in given:
        monkeypatch.setenv("AWS_REGION", "environment")
    else:
        monkeypatch.delenv("AWS_REGION", raising=False)
    flags = {"destination.region": "flag"} if "flag" in given else {}
    loaded = load(flags, directory=tmp_path, blocks={"destination.region": "a Secret block"})

    assert loaded.settings.destination.region == loaded.origins["destination.region"] == strongest
    assert ("destination.region", strongest, strongest) in shown(loaded)


@pytest.mark.parametrize("name", ["events", "exports", "evaluations", "evaluation_results", "hedgerow", "export_1"])
def test_no_snapshot_takes_the_name_of_a_table_of_ours(name, tmp_path):
    """What it lands would stand in the place of events, assets or evaluations."""
    (tmp_path / "hedgerow.toml").write_text(f"[[exports.snapshot]]\nname = '{name}'\nformat = 'csv'\ninsight = 1\n")

    with pytest.raises(SettingsError, match=name):
        load(directory=tmp_path)
