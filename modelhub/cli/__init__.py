"""The command line: one module or package for each command, imported when it is needed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelhub.cli.application import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the `modelhub` command."""
    try:
        from modelhub.cli.application import app
        from modelhub.cli.output import replace_unencodable

        replace_unencodable()
        app(prog_name="modelhub")
    except KeyboardInterrupt:
        sys.exit(130)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module 'modelhub.cli' has no attribute {name!r}")
    from modelhub.cli.application import app

    return app
