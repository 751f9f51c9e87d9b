"""The command line: `hedgerow` starts main."""

from __future__ import annotations

import gc


def main() -> None:
    """Runs the program; its modules are imported then, so that whoever needs one of them alone imports no other."""
    # Next to nothing of a run is a circle: Python looks for some after every 700 objects, and a ledger is millions.
    gc.set_threshold(100_000, 50, 100)
    from flows.cli import app

    app.main()
