"""Take tracebacks off errors: their frames hold local variables, keys included, which error reports show.

Where a failure leaves a call, its reader sees his own frames and no library's: the layers, the SDK and the HTTP client
between the call and what failed say nothing to him. `MODELHUB_TRACEBACKS=full` in the environment keeps them.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from modelhub.core.hub_errors import ConfigError

__all__ = [
    "describe_origin",
    "drop_frames",
    "linked_errors",
    "raises_without_frames",
    "trim_traceback",
]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_MAX_PLACES = 3
_LIBRARIES = frozenset(
    {
        *("aiohttp", "anthropic", "anyio", "dashscope", "gevent", "h11", "h2", "httpcore", "httpcore2", "httpx"),
        *("httpx2", "modelhub", "ollama", "openai", "pydantic", "pydantic_core", "requests", "sniffio", "tenacity"),
        *("urllib3", "uvloop", "websockets", "yarl"),
    }
)
_NAMESPACED_LIBRARIES = ("google.genai", "google.auth", "google.api_core")


def describe_origin(error: BaseException) -> str:
    """Return where *error* was raised, innermost first, for a traceback that will not show it; "" if nobody knows."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    places = [f"{code.co_filename}:{line} in {code.co_name}" for code, line in frames[: -_MAX_PLACES - 1 : -1]]
    return f"raised at {', called by '.join(places)}" if places else ""


def linked_errors(error: BaseException, *, contexts: bool = True) -> list[BaseException]:
    """Return *error* and everything that it was raised from, holds as a group or, with *contexts*, was raised while
    handling, which may be an exception that the application was handling when it made the call."""
    errors: list[BaseException] = []
    seen: set[int] = set()
    pending = [error]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        errors.append(current)
        links = (current.__cause__, current.__context__ if contexts else None)
        pending += [linked for linked in links if linked is not None]
        if isinstance(current, BaseExceptionGroup):
            pending += current.exceptions
    return errors


def drop_frames(error: BaseException, *, contexts: bool = True) -> None:
    """Take the tracebacks off *error* and all errors linked to it, or without *contexts* off its causes and members.

    What is raised again afterwards gets the frames it passes from there on. The frames are not cleared, because an
    exception may be shared by several tasks, of which one may still be in them.
    """
    for linked in linked_errors(error, contexts=contexts):
        linked.__traceback__ = None


def raises_without_frames(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorate *function*: a ConfigError leaves it without the frames in it, and without its arguments."""

    @functools.wraps(function)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return function(*args, **kwargs)
        except ConfigError as error:
            drop_frames(error)
            del args, kwargs  # this frame is in the traceback as well
            raise

    return call


def trim_traceback(error: BaseException) -> None:
    """Remove the frames of libraries from the traceback of *error*, of its causes and, if it is a group, its members.

    The frames of other code, such as a plug-in or the application's own function that gives a key, stay. Contexts that
    a traceback shows are left as they are: an exception that the application was handling when it made the call is its
    own.
    """
    if os.environ.get("MODELHUB_TRACEBACKS") == "full":
        return
    for failure in linked_errors(error, contexts=False):
        failure.__traceback__ = _without_libraries(failure.__traceback__)
        if failure.__suppress_context__:
            failure.__context__ = failure.__cause__  # nothing shows another one, but its frames would stay alive


def _without_libraries(traceback: TracebackType | None) -> TracebackType | None:
    """Return *traceback* without the entries whose frames are a library's; None if there are no others."""
    entries = []
    while traceback is not None:
        if not _is_library(traceback.tb_frame.f_globals.get("__name__")):
            entries.append(traceback)
        traceback = traceback.tb_next
    following: TracebackType | None = None
    for entry in reversed(entries):
        entry.tb_next = following
        following = entry
    return following


@functools.lru_cache(maxsize=1024)
def _is_library(name: object) -> bool:
    module = str(name)
    package = module.partition(".")[0]
    return package in _LIBRARIES or package in sys.stdlib_module_names or module.startswith(_NAMESPACED_LIBRARIES)
