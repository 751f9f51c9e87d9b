"""The flows' parameters against the commands' options, and what people read of both in Prefect."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from flows import annotations, backfill, evaluations, events, exports, verify
from flows.cli import app, loading
from flows.runs.catalog import BY_NAME, Mechanism, Stream

ROOT = Path(__file__).parents[3]
DEPLOYMENTS = {
    one["name"]: one for one in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
}
SCREEN = {"json_output", "quiet", "verbose", "detail"}  # what is printed, and where
OF_THE_WORKER = {"destination"}  # settings of the machine, as are the key and the host
NAMED = {"project": "projects", "max_wait": "max_wait_minutes"}  # a list, and a number with its unit, in a form
SPREAD = {"workers", "dask"}  # Prefect's own
RANGED = {"since", "until", "rebuild", "require_proof"}
SYNCS = {
    "events": events.sync_events,
    "exports": exports.sync_exports,
    "evaluations": evaluations.sync_evaluations,
    "annotations": annotations.sync_annotations,
}


def options(command) -> dict[str, bool]:
    """The options of a command that mean something to its work, and whether each must be given."""
    found = inspect.signature(command).parameters
    left_out = SCREEN | OF_THE_WORKER | {"streams"}
    return {NAMED.get(name, name): one.default is one.empty for name, one in found.items() if name not in left_out}


def parameters(flow) -> dict[str, bool]:
    return {name: one.default is one.empty for name, one in inspect.signature(flow.fn).parameters.items()}


def of_stream(stream: Stream) -> dict[str, bool]:
    """The options of `hedgerow sync` that mean something to this stream."""
    # Contents are kept whatever the source still shows.
    none = (set() if stream.ranged else RANGED) | (
        {"accept_deletions"} if stream.mechanism is Mechanism.CONTENTS else set()
    )
    return {name: must for name, must in options(loading.sync).items() if name not in none}


PAIRS = [
    *(pytest.param(flow, of_stream(BY_NAME[name]), set(), id=f"sync {name}") for name, flow in SYNCS.items()),
    pytest.param(backfill.backfill_events, options(loading.backfill), SPREAD, id="backfill"),
    pytest.param(verify.verify_events, options(app.verify), set(), id="verify"),
]


def test_every_stream_is_compared():
    """None of the table is left out here."""
    assert set(SYNCS) == set(BY_NAME)


@pytest.mark.parametrize(("flow", "expected", "own"), PAIRS)
def test_parameters_are_those_of_the_command_line(flow, expected, own):
    """The same names, and required where the command requires them."""
    assert {name: must for name, must in parameters(flow).items() if name not in own} == expected
    assert own <= set(parameters(flow))


def test_a_part_takes_what_its_backfill_was_given():
    """Nothing that a backfill is asked to keep to is lost where it is cut."""
    of_the_whole = {*SPREAD, "projects"}

    assert set(parameters(backfill.backfill_events)) - of_the_whole <= set(parameters(backfill.backfill_part))


def test_a_backfill_without_an_end_goes_up_to_now():
    """As on the command line."""
    default = inspect.signature(loading.backfill).parameters["until"].default

    assert inspect.signature(backfill.backfill_events.fn).parameters["until"].default == default == "now"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_deployment_is_described_for_who_reads_it(name):
    """Sentences of its own: what it does and when it runs, not what its code says to programmers."""
    text = DEPLOYMENTS[name]["description"]

    assert re.match(r"[A-Z][^\n]{30,}", text)
    assert not re.search(r"Args:|docstring|flows/|\bself\b", text)
    if "schedules" in DEPLOYMENTS[name]:
        assert re.search(r"[Ee]very |[Dd]aily", text)
    else:
        assert re.search(r"[Bb]y hand|Quick run", text)


@pytest.mark.parametrize(
    "flow",
    [*SYNCS.values(), verify.verify_events, backfill.backfill_events, backfill.backfill_part],
    ids=lambda f: f.name,
)
def test_parameter_is_described_in_sentences(flow):
    """What the form shows: a sentence, and what an empty field means where one may be left empty."""
    shown = parameter_schema(flow).model_dump()["properties"]
    empty = {name for name, one in inspect.signature(flow.fn).parameters.items() if one.default in (None, "")}

    assert [name for name, one in shown.items() if not re.fullmatch(r"(?s)[A-Z].*\.", one["description"])] == []
    assert [name for name in sorted(empty) if "Empty: " not in shown[name]["description"]] == []
