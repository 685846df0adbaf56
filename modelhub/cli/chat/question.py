"""What is asked: the words of the command line, piped input and pictures."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

from modelhub.cli.report import fail_usage

__all__ = ["make_message", "read_question"]


def make_message(text: str, images: list[Path]) -> dict[str, Any]:
    """Return a user message of *text* and of the pictures in the files *images*.

    Exits with a usage error if one of them is missing.
    """
    if not images:
        return {"role": "user", "content": text}
    for path in images:
        if not path.is_file():
            fail_usage(f"{path} is not a file", "--image")
    parts = [{"type": "image", "source": {"type": "path", "path": str(path)}} for path in images]
    return {"role": "user", "content": [{"type": "text", "text": text}, *parts]}


def read_question(prompt: str | None) -> str:
    """Return the prompt and the piped input, separated by a blank line. Exits with a usage error without either."""
    piped = None
    if sys.stdin is not None and not sys.stdin.isatty() and (prompt is None or _is_meant_for_us()):
        try:
            piped = sys.stdin.buffer.read().decode("utf-8-sig").strip("\r\n")
        except UnicodeDecodeError:
            fail_usage("the piped input is not UTF-8 text", "PROMPT")
    parts = [part for part in (prompt, piped) if part is not None and part.strip()]
    if not parts:
        fail_usage("there is no message: write it after the name, or pipe it in", "PROMPT")
    return "\n\n".join(parts)


def _is_meant_for_us() -> bool:
    """Return whether standard input is a pipe, or a file that nobody has read from.

    A file that was read before is the input of a loop in a shell (`while read line; do ...; done < lines`), which would
    lose its other lines. Devices, such as /dev/null, and sockets are what a scheduler leaves a program.
    """
    try:
        descriptor = sys.stdin.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):
        return True  # not a real file: a program has put something in its place
    if stat.S_ISREG(mode):
        return os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    return stat.S_ISFIFO(mode)
