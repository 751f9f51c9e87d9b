"""Tables of a lake as the version before lists with history wrote them, by this program: kept, never made anew."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from extractors.simulator.assets.evaluations import EvaluationStore, seeded
from extractors.simulator.data.dataset import Dataset
from extractors.simulator.profiles import SELF_HOSTED
from extractors.simulator.server import serve
from flows.assets import streams
from flows.settings.load import load

HERE = Path(__file__).parent
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
STEPS = 4


def store() -> EvaluationStore:
    """The evaluations before the first step."""
    return seeded(AT)


def change(judges: EvaluationStore, step: int) -> None:
    """What happens at the source before a later *step*: a change, a deletion, a return and all that is unusual."""
    if step == 1:
        judges.rows[0] |= {"name": "Häufig", "brand_new_key": {"a": [1, None, 12345678901234567890]}}
        judges.rows[1]["deleted"] = True
    elif step == 2:
        judges.rows[1] |= {"deleted": False, "enabled": None, "description": None, "updated_at": "soon"}
        judges.add("Later", AT + timedelta(days=1), conditions=[{"id": "a", "rollout_percentage": 12.5}])
    elif step == 3:
        for row in judges.rows:
            row["deleted"] = True


def synced(
    address: str, directory: Path, *, steps: int = STEPS, before: Callable[[int], object] = lambda step: None
) -> None:
    """Land the evaluations of *steps*, a day apart by the server's clock, in the destination *address*; *before* each."""
    judges, clock = store(), [AT]
    with serve(Dataset(), profile=SELF_HOSTED, evaluations=judges, now=lambda: clock[0]) as simulator:
        flags: dict[str, object] = {
            "source.host": simulator.url,
            "source.key": simulator.key,
            "source.project_id": 1,
            "source.state_dir": directory / "state",
            "destination.address": address,
        }
        for step in range(steps):
            change(judges, step)
            clock[0] = AT + timedelta(days=step)
            before(step)
            streams.sync(load(flags, directory=directory).settings, 1, "evaluations", named=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        for steps, name in ((2, "evaluations_begun.parquet"), (STEPS, "evaluations.parquet")):
            lake = Path(made) / name
            synced(f"file:{lake}", Path(made), steps=steps)
            shutil.copy(lake / "evaluations/evaluations.parquet", HERE / name)
