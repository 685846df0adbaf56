"""The command line: one file a command. Nothing is imported before a command needs it."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the `modelhub` command."""
    try:
        from modelhub.cli._app import app
        from modelhub.cli._output import be_lenient

        be_lenient()
        app(prog_name="modelhub")
    except KeyboardInterrupt:
        sys.exit(130)
