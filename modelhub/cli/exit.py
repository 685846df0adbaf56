"""The exit statuses."""

from __future__ import annotations

import enum

__all__ = ["EPILOG", "DiffExit", "Exit"]


class Exit(enum.IntEnum):
    """The exit status of a command."""

    OK = 0
    FAILED = 1
    """The call failed, or its output could not be written; `batch`: rows failed; `drill`: a fault was not survived."""
    USAGE = 2
    """The command line is wrong; `batch`: the job cannot begin or go on."""
    CONFIG = 3
    """The file is missing or invalid, or has no entry of that name."""
    NOT_CONFIGURED = 4
    """`check --strict`: the file is valid, but a key or an SDK is missing."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE_CLOSED = 141
    """The reader of the output has closed the pipe, as `| head -1` does."""


class DiffExit(enum.IntEnum):
    """The exit status of `diff`, as that of the program of this name."""

    SAME = 0
    DIFFERENT = 1
    BROKEN = 2


EPILOG = """\b
Exit status:
    0  success
    1  the call failed; batch: rows failed; drill: a fault was not survived; diff: something changes;
       check --calls, fit: a model would refuse a call; init: the file is there already
    2  the command line is wrong; batch: the job cannot begin or go on; diff: a file is missing or invalid
    3  the file is missing or invalid, or has no entry of that name, or no ledger
    4  check --strict: a model is not configured
  130  interrupted
  141  the reader of the output closed the pipe"""
