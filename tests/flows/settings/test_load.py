"""Where each setting comes from."""

from __future__ import annotations

import pytest

from extractors.lists.exports import NewExport
from flows.settings.load import ENVIRONMENT, load, shown
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


CONTEXTS = {
    "a table": ("{v = 1.10, w = 1_0.50, x = +2.50, y = 1e400}", '"v": 1.10, "w": 10.50, "x": 2.50, "y": 1e400'),
    "whole numbers": (f"{{v = {'12' * 30}, w = -7, x = 0x1F}}", f'"v": {"12" * 30}, "w": -7, "x": 31'),
    "in lists": ('{v = [1.10, {w = 2.50}], x = true, y = "é"}', '"v": [1.10, {"w": 2.50}], "x": true, "y": "\\u00e9"'),
    "a text": ("""'{"v":1.10,"w":1E5,"x":-0,"y":1e400,"z":7}'""", '"v": 1.10, "w": 1E5, "x": -0, "y": 1e400, "z": 7'),
    "a text of many digits": (f"'{{\"v\":{'7' * 5000}}}'", f'"v": {"7" * 5000}'),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_numbers_of_a_snapshot_s_context_keep_their_digits(name, tmp_path):
    """From the file to the order at PostHog, in a table and in a text."""
    written, expected = CONTEXTS[name]
    (tmp_path / "hedgerow.toml").write_text(f"[[exports.snapshot]]\nname = 'a'\ncontext = {written}\n")
    (snapshot,) = load(directory=tmp_path).settings.exports.snapshot
    order = NewExport("text/csv", context=snapshot.context)

    assert snapshot.context == f"{{{expected}}}"
    assert f'"export_context": {{{expected}, "hedgerow": "m"}}' in order.body("m").decode()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{v = nan}", "nan is no number of JSON"),
        ("{v = [-inf]}", "-inf is no number of JSON"),
        ("{v = 2026-01-01}", "2026-01-01 stands in it without quotes"),
        ("{v = {w = 07:32:00}}", "without quotes"),
        ("""'{"v": NaN}'""", "NaN is no number of JSON"),
        ("""'{"v": 1, "w": {"a": 1, "b": 2, "a": 3}}'""", "the name 'a' stands twice"),
        (f"'{'[' * 100_000}'", "nested too deeply"),
        (f"'{'[' * 700}{']' * 700}'", "nested too deeply"),
        ("'[1]'", "no JSON object"),
        (f"{{v = {'7' * 5000}}}", "cannot read hedgerow.toml"),
        (f"{{v = {'[' * 5000}}}", "cannot read hedgerow.toml"),
    ],
)
def test_context_that_is_no_json_is_refused(written, said, tmp_path):
    """Before anything is asked, and in words; nothing of it is left out or taken for something else."""
    (tmp_path / "hedgerow.toml").write_text(f"[[exports.snapshot]]\nname = 'a'\ncontext = {written}\n")

    with pytest.raises(SettingsError, match=said):
        load(directory=tmp_path)


@pytest.mark.parametrize(
    "written", ["requests_per_hour = 1.5", "host = 1.10", "state_dir = 1.10", "in_flight = '1.10'"]
)
def test_a_number_with_a_point_is_no_other_setting(written, tmp_path, monkeypatch):
    """None has one: it is refused as before, digits and all."""
    monkeypatch.delenv("POSTHOG_HOST", raising=False)
    monkeypatch.delenv("HEDGEROW_STATE_DIR", raising=False)
    (tmp_path / "hedgerow.toml").write_text(f"[source]\n{written}\n")
    name = written.partition(" ")[0]

    if name == "state_dir":
        assert str(load(directory=tmp_path).settings.source.state_dir) == "1.10"
    else:
        with pytest.raises(SettingsError, match=rf"{name}.*hedgerow\.toml"):
            load(directory=tmp_path)


WRITTEN = "# für uns\nHEDGEROW_DESTINATION=duckdb:a.duckdb\n"
TOML = "# für uns\n[destination]\naddress = 'duckdb:a.duckdb'\n"


@pytest.mark.parametrize("name", [".env", "hedgerow.toml"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_file_is_read_as_editors_write_it(name, encoding, end, tmp_path, monkeypatch):
    """With and without a byte order mark, and with Windows' ends of lines; the first line counts, too."""
    monkeypatch.delenv("HEDGEROW_DESTINATION", raising=False)
    for text in (WRITTEN, WRITTEN.partition("\n")[2]) if name == ".env" else (TOML, TOML.partition("\n")[2]):
        (tmp_path / name).write_bytes(text.replace("\n", end).encode(encoding))

        assert load(directory=tmp_path).settings.destination.address == "duckdb:a.duckdb"


@pytest.mark.parametrize("name", [".env", "hedgerow.toml"])
@pytest.mark.parametrize(
    ("encoding", "more"), [("latin-1", ""), ("utf-16-le", ""), ("utf-16-be", ""), ("utf-16-le", "A")]
)
def test_file_of_another_encoding_is_named(name, encoding, more, tmp_path):
    """With its line, and nothing of its text: it may hold a secret. Also where each of its bytes is a letter, or zero."""
    text = 'A = 1\n[destination]\naddress = "duckdb:a.duckdb"\n' if more else "A=1\n" + WRITTEN
    (tmp_path / name).write_bytes(text.encode(encoding))

    with pytest.raises(SettingsError, match=f"cannot read {name}: (line 2 is no UTF-8|it is no text)") as raised:
        load(directory=tmp_path)
    assert "duckdb" not in str(raised.value) + raised.value.hint


def test_directory_in_the_place_of_dotenv_is_named(tmp_path):
    """Docker makes one where it is told to mount a file that is not there."""
    (tmp_path / ".env").mkdir()

    with pytest.raises(SettingsError, match=r"cannot read .env: Is a directory"):
        load(directory=tmp_path)


@pytest.mark.parametrize(
    "line",
    ["export HEDGEROW_DESTINATION=duckdb:a.duckdb", "HEDGEROW_DESTINATION = 'duckdb:a.duckdb' # here", "A=1\rB: 2"],
)
def test_dotenv_is_read_as_a_shell_reads_it(line, tmp_path, monkeypatch):
    """export, quotes, comments; what is no line of hedgerow's stands there in peace."""
    monkeypatch.delenv("HEDGEROW_DESTINATION", raising=False)
    (tmp_path / ".env").write_bytes(f"{line}\n".encode())

    expected = "duckdb:a.duckdb" if "HEDGEROW" in line else "duckdb:posthog.duckdb"
    assert load(directory=tmp_path).settings.destination.address == expected


@pytest.mark.parametrize("line", ["HEDGEROW_DESTINATION: duckdb:hunter2", "export POSTHOG_PROJECT_ID", "AWS_REGION"])
def test_line_of_dotenv_that_sets_nothing_is_named(line, tmp_path):
    """It was meant for hedgerow, and would be passed over."""
    (tmp_path / ".env").write_text(f"A=1\n{line}\n")

    with pytest.raises(SettingsError, match=r"cannot read [A-Z_]+ in \.env, line 2") as raised:
        load(directory=tmp_path)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "better", "other"),
    [
        ("region", "AWS_REGION", "AWS_DEFAULT_REGION"),
        ("endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        ("endpoint", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    ],
)
def test_names_of_one_setting_have_an_order(key, better, other, tmp_path, monkeypatch):
    """As in AWS's own programs; an empty one is none."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(other, "http://other")
    monkeypatch.setenv(better, "")
    assert getattr(load(directory=tmp_path).settings.destination, key) == "http://other"

    monkeypatch.setenv(better, "http://better")
    assert getattr(load(directory=tmp_path).settings.destination, key) == "http://better"

    for name in (other, better) if key == "endpoint" else ():
        monkeypatch.setenv(better, "")
        monkeypatch.setenv(name, "nonsense")
        with pytest.raises(SettingsError, match=f"^{name} "):
            load(directory=tmp_path)


def test_state_directory_may_begin_with_a_tilde(tmp_path, monkeypatch):
    """No shell expands it in .env."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HEDGEROW_STATE_DIR", "~/state")

    assert load(directory=tmp_path).settings.source.state_dir == tmp_path / "state"
