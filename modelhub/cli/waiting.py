"""What a command waits for before it can begin: shown once that takes more than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelhub.cli.output import can_rewrite_lines

if TYPE_CHECKING:
    from modelhub.hub import Hub

__all__ = ["load_hub", "show_waiting"]


@contextmanager
def show_waiting(activity: str, delay: float = 1.0) -> Iterator[None]:
    """Show *activity*, such as "reading usage.db", on a terminal after *delay* seconds, until the block ends.

    Nothing is shown where standard error is no terminal. The block prints nothing itself.
    """
    if not can_rewrite_lines(sys.stderr):
        yield
        return
    has_line, line = threading.Event(), f"{activity} ..."

    def write_line() -> None:
        has_line.set()
        sys.stderr.write(f"\r{line}")
        sys.stderr.flush()

    timer = threading.Timer(delay, write_line)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if has_line.is_set():
            sys.stderr.write(f"\r{' ' * len(line)}\r")
            sys.stderr.flush()


def load_hub(file: Path | None, profile: str | None, **options: Any) -> Hub:
    """Return `Hub.from_yaml(file, profile=profile, **options)`, which may run commands that print secrets."""
    from modelhub.hub import Hub

    with show_waiting("loading the file"):
        return Hub.from_yaml(file, profile=profile, **options)
