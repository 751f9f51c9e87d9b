"""The command line: `hedgerow` starts main."""

from __future__ import annotations


def main() -> None:
    """Runs the program; its modules are imported then, so that whoever needs one of them alone imports no other."""
    from flows.cli import app

    app.main()
