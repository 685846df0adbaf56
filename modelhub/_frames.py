"""Take tracebacks off errors: their frames hold local variables, keys included, which error reports show."""

from __future__ import annotations

import traceback

__all__ = ["describe_origin", "drop_frames", "linked_errors"]

_MAX_PLACES = 3


def describe_origin(error: BaseException) -> str:
    """Return where *error* was raised, innermost first, for a traceback that will not show it; "" if nobody knows."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    places = [f"{code.co_filename}:{line} in {code.co_name}" for code, line in frames[: -_MAX_PLACES - 1 : -1]]
    return f"raised at {', called by '.join(places)}" if places else ""


def linked_errors(error: BaseException) -> list[BaseException]:
    """Return *error* and everything that it was raised from, was raised while handling, or holds as a group."""
    errors: list[BaseException] = []
    seen: set[int] = set()
    pending = [error]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        errors.append(current)
        pending += [linked for linked in (current.__cause__, current.__context__) if linked is not None]
        if isinstance(current, BaseExceptionGroup):
            pending += current.exceptions
    return errors


def drop_frames(error: BaseException) -> None:
    """Take the tracebacks off *error* and all errors linked to it.

    What is raised again afterwards gets the frames it passes from there on. The frames are not cleared, because an
    exception may be shared by several tasks, of which one may still be in them.
    """
    for linked in linked_errors(error):
        linked.__traceback__ = None
