"""Run the command of a reference `${cmd:...}`: without a shell, for a limited time, and without showing its output."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from modelhub.config.secrets import redact_text

__all__ = ["COMMAND_TIMEOUT", "CommandResult", "make_runner", "pretend_to_run"]

COMMAND_TIMEOUT = 10.0
"""How many seconds a command may take, if the file says nothing else."""
_INHERITED = ("PATH", "HOME", "USERPROFILE", "SYSTEMROOT")
"""Variables that a command gets in any case: without them few commands run."""


class CommandResult(NamedTuple):
    """What a command printed, stripped; or None, and in words what to do about it."""

    value: str | None
    instruction: str = ""


def _run_command(command: str, environ: Mapping[str, str], folder: Path, timeout: float) -> CommandResult:
    """Run *command*, split as a shell does but not by one, in *folder* with the variables of *environ*."""
    shown = redact_text(command)
    variables = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        words = shlex.split(command)
        ended = subprocess.run(  # noqa: S603 - the file is as trusted as the application
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=folder,
            env={**variables, **environ},
            timeout=timeout,
            check=False,
        )
        output = ended.stdout.decode("utf-8").strip()
    except subprocess.TimeoutExpired:
        return CommandResult(None, f"make the command `{shown}` end within {timeout:g} s")
    except (OSError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None)
        return CommandResult(None, f"make the command `{shown}` run{f' ({reason.lower()})' if reason else ''}")
    if ended.returncode != 0:
        return CommandResult(None, f"make the command `{shown}` succeed (its exit status is {ended.returncode})")
    return CommandResult(output or None, f"make the command `{shown}` print something")


def make_runner(environ: Mapping[str, str], timeout: float) -> Callable[[str, Path], CommandResult]:
    """Return what runs each command once, however often it is asked for."""

    @cache
    def run(command: str, folder: Path) -> CommandResult:
        return _run_command(command, environ, folder, timeout)

    return run


def pretend_to_run(command: str, folder: Path) -> CommandResult:  # noqa: ARG001 - as a runner is called
    """Return a value that stands for what a command would print, where none is run."""
    return CommandResult("from-a-command")
