"""What the exit status says."""

from __future__ import annotations

import enum

__all__ = ["EPILOG", "Exit"]


class Exit(enum.IntEnum):
    """Every exit status there is."""

    OK = 0
    FAILED = 1
    """The call failed, or what it gave could not be written; `drill`: a fault was not survived."""
    USAGE = 2
    """The command line is wrong."""
    CONFIG = 3
    """The file is missing or broken, or has no entry of that name."""
    NOT_CONFIGURED = 4
    """`check --strict`: the file is right, but a key or an SDK is missing."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE_CLOSED = 141
    """Whoever read the output has gone away, as after `| head -1`."""


EPILOG = """\b
Exit status:
    0  all is well
    1  the call failed; drill: a fault was not survived
    2  the command line is wrong
    3  the file is missing or broken, or has no entry of that name
    4  check --strict: a model is not configured
  130  interrupted
  141  the reader of the output has gone away"""
