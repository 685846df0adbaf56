"""Write events to the log: silent until the application configures logging.

Entries go to structlog if the application has configured it, else to the standard logger "modelhub" and the handlers
that the application has set up. Nothing is configured here, and nothing is printed.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from modelhub.core.errors import BreakerEffect, failure_classes
from modelhub.core.events import (
    ArmEjected,
    ArmRestored,
    AttemptEnded,
    CallEnded,
    Event,
    FellBack,
    ParameterChanged,
    Reloaded,
    ReloadFailed,
    Restarted,
    Waiting,
)

if TYPE_CHECKING:
    from modelhub.core.errors import CallError

__all__ = ["LogObserver", "describe_event", "write_entry"]

_standard = logging.getLogger("modelhub")
_standard.addHandler(logging.NullHandler())


class LogObserver:
    """An observer that writes one log entry for each event, without keys and contents of messages.

    structlog gets the event's name and its fields. A standard record has a readable message, the fields as attributes,
    and the name as `event`. That a model is not configured is written once, not at every call.
    """

    def __init__(self) -> None:
        self._unconfigured: set[tuple[str, str]] = set()

    def __call__(self, event: Event) -> None:
        """Write *event*, if logging is configured for its level."""
        name, level_of, fields_of = _ENTRIES[type(event)]
        level = level_of(event)
        if _is_structlog_configured():
            if not self._is_repeated(event):
                _log_by_structlog(level, name, fields_of(event))
        elif _standard.isEnabledFor(level) and _has_handler() and not self._is_repeated(event):
            _standard.log(level, "%s", describe_event(event), extra={"event": name, **fields_of(event)})

    def _is_repeated(self, event: Event) -> bool:
        """Return whether *event* only repeats that a model is not configured."""
        if isinstance(event, AttemptEnded) and event.attempt["outcome"] == "NotConfigured":
            key = "attempt", str(event.attempt["model"])
        elif isinstance(event, FellBack) and event.error.kind == "NotConfigured":
            key = event.chain, event.model
        else:
            return False
        known = key in self._unconfigured
        self._unconfigured.add(key)
        return known


def write_entry(level: int, event: str, message: str, fields: dict[str, Any]) -> None:
    """Write an entry that belongs to no call: *event* with *fields* for structlog, else *message* with them."""
    if _is_structlog_configured():
        _log_by_structlog(level, event, fields)
    else:
        _standard.log(level, "%s", message, extra={"event": event, **fields})


def _is_structlog_configured() -> bool:
    # An application that configured structlog has imported it: no need to pay for the import here.
    is_configured = getattr(sys.modules.get("structlog"), "is_configured", None)
    return is_configured is not None and bool(is_configured())


def _log_by_structlog(level: int, name: str, fields: dict[str, Any]) -> None:
    """Write an entry with the application's structlog logger, whatever its class.

    All wrappers of structlog have a method for each level; only some have `log`.
    """
    import structlog

    logger = structlog.get_logger("modelhub").bind()
    if isinstance(logger, structlog.stdlib.AsyncBoundLogger):
        logger = logger.sync_bl  # an entry that waits for an event loop would be lost when the loop ends
    result = getattr(logger, _METHODS[level])(name, **fields)
    if inspect.isawaitable(result):
        _run_coroutine(result)


_METHODS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}
_unfinished: set[asyncio.Future[Any]] = set()


def _run_coroutine(entry: Awaitable[Any]) -> None:
    """Run *entry*, the coroutine of an asynchronous logger, in the running loop, or in a new one without it."""

    async def write() -> None:
        await entry

    try:
        task = asyncio.get_running_loop().create_task(write())
    except RuntimeError:
        asyncio.run(write())
        return
    _unfinished.add(task)  # the loop itself keeps only a weak reference
    task.add_done_callback(_unfinished.discard)


def _has_handler() -> bool:
    """Return whether the application has a handler for our entries: without one, describing them is wasted time."""
    logger: logging.Logger | None = _standard
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def describe_event(event: Event) -> str:
    """Return one readable line about *event*."""
    if isinstance(event, AttemptEnded):
        return _describe_attempt(event)
    if isinstance(event, Waiting):
        seconds = f"{event.seconds:.1f} s"
        return f"wait: {event.model} is retried in {seconds}, attempt {event.attempt}: {_describe_error(event.error)}"
    if isinstance(event, Restarted):
        model, target = event.arm or event.model, event.to_arm or event.to
        return f"restart: {model} broke off, {target} starts the answer over: {_describe_error(event.error)}"
    if isinstance(event, ArmEjected):
        return f"arm ejected: {event.arm} in {event.chain} is passed over: {_describe_error(event.error)}"
    if isinstance(event, ArmRestored):
        return f"arm restored: {event.arm} in {event.chain} answers again"
    if isinstance(event, ParameterChanged):
        change = "is left out for" if event.is_dropped else "is rounded for"
        return f"parameter: `{event.parameter}` {change} {event.model}: {event.reason}"
    if isinstance(event, FellBack):
        target = f"{event.to_arm or event.to} is next" if event.to is not None else "no model is left"
        return f"fallback: {event.arm or event.model} failed in {event.chain}, {target}: {_describe_error(event.error)}"
    if isinstance(event, Reloaded):
        return f"reload: {event.file or 'the configuration'}: {event.changes}"
    if isinstance(event, ReloadFailed):
        subject = event.file or "the configuration"
        return f"reload: {subject} is not used, the one before stays in use:\n{event.error}"
    return _describe_call(event)


_SAFE_MESSAGES = frozenset({"NotConfigured", "LimitRejected", "BudgetExceeded"})
"""Errors with messages of our own. Other messages may quote the vendor, and are not logged."""


def _describe_error(error: CallError) -> str:
    status = f" {error.status}" if error.status is not None else ""
    return f"{error.kind}{status}{f': {error}' if error.kind in _SAFE_MESSAGES else ''}"


def _describe_attempt(event: AttemptEnded) -> str:
    attempt = event.attempt
    duration = f"{attempt['duration'] or 0:.1f} s"
    if attempt["outcome"] == "ok":
        return f"attempt: {attempt['arm'] or attempt['model']} answered in {duration}"
    status = f" {attempt['status']}" if attempt["status"] is not None else ""
    message = f": {attempt['message']}" if attempt["outcome"] in _SAFE_MESSAGES and attempt["message"] else ""
    ending = "was skipped" if attempt["skipped"] else f"ended after {duration}"
    return f"attempt: {attempt['arm'] or attempt['model']} {ending}: {attempt['outcome']}{status}{message}"


def _describe_call(event: CallEnded) -> str:
    duration, attempts = f"{event.duration:.1f} s", len(event.attempts)
    subject = f"{event.requested}, answered by {event.model}," if event.how == "complete" else event.requested
    ending = f"{event.how} ({event.error})" if event.error is not None else event.how
    usage = event.usage
    tokens = f", {usage['input_tokens']} tokens in, {usage['output_tokens']} out" if usage is not None else ""
    return (
        f"settle: {subject} is {ending} after {duration} and {attempts} attempt{'s' if attempts != 1 else ''}{tokens}"
    )


def _attempt_fields(event: AttemptEnded) -> dict[str, Any]:
    attempt = event.attempt
    keys = ("model", "arm", "provider", "model_name", "outcome", "status", "code", "request_id", "wait", "duration")
    return {"call_id": event.call_id} | {key: attempt[key] for key in keys if attempt[key] is not None}


def _own_fields(event: Waiting | FellBack | Restarted | ArmEjected | ArmRestored) -> dict[str, Any]:
    """Return the fields of *event* itself: the kind of its error as the `reason`, and no arm where there is none."""
    fields: dict[str, Any] = {}
    for name, value in event._asdict().items():
        if name == "error":
            fields["reason"] = value.kind
        elif value is not None or name == "to":
            fields[name] = round(value, 3) if isinstance(value, float) else value
    return fields


def _parameter_fields(event: ParameterChanged) -> dict[str, Any]:
    change = "dropped" if event.is_dropped else "rounded"
    fields = {"parameter": event.parameter, "change": change, "reason": event.reason}
    return {"call_id": event.call_id, "model": event.model, **fields}


def _call_fields(event: CallEnded) -> dict[str, Any]:
    usage = event.usage
    fields = {
        "requested": event.requested,
        "model": event.model,
        "how": event.how,
        "error": event.error,
        "duration": round(event.duration, 3),
        "attempts": len(event.attempts),
        "input_tokens": usage["input_tokens"] if usage is not None else None,
        "output_tokens": usage["output_tokens"] if usage is not None else None,
        "cost": usage["cost"] if usage is not None else None,
        "tags": dict(event.tags) or None,
    }
    return {"call_id": event.call_id} | {key: value for key, value in fields.items() if value is not None}


def _reload_fields(event: Reloaded | ReloadFailed) -> dict[str, Any]:
    if isinstance(event, Reloaded):
        return {"file": event.file or None, "changes": event.changes.as_list()}
    problems = [
        {"file": problem.file or None, "line": problem.line, "column": problem.column, "message": problem.message}
        for problem in event.error.problems
    ]
    return {"file": event.file or None, "problems": problems, "error": str(event.error)}


_EJECTING = frozenset(
    {"NotConfigured", *(cls.__name__ for cls in failure_classes() if cls.policy.breaker is BreakerEffect.OPENS)}
)
"""Failures for which an arm is ejected. That is written once, and not again for each attempt."""


def _get_attempt_level(event: AttemptEnded) -> int:
    outcome = event.attempt["outcome"]
    if outcome == "ok":
        return logging.DEBUG
    return logging.DEBUG if outcome in _EJECTING and event.attempt["arm"] is not None else logging.WARNING


def _get_fallback_level(event: FellBack) -> int:
    is_reported = event.arm is not None and event.error.kind in _EJECTING
    return logging.DEBUG if is_reported else logging.WARNING


# Fields are only computed for an entry that is written: a cost may have to be looked up.
_ENTRIES: dict[type, tuple[str, Callable[[Any], int], Callable[[Any], dict[str, Any]]]] = {
    AttemptEnded: ("attempt", _get_attempt_level, _attempt_fields),
    Waiting: ("wait", lambda _: logging.INFO, _own_fields),
    FellBack: ("fallback", _get_fallback_level, _own_fields),
    Restarted: ("restart", lambda _: logging.WARNING, _own_fields),
    ArmEjected: ("arm ejected", lambda _: logging.WARNING, _own_fields),
    ArmRestored: ("arm restored", lambda _: logging.INFO, _own_fields),
    ParameterChanged: ("parameter", lambda _: logging.WARNING, _parameter_fields),
    Reloaded: ("reload", lambda event: logging.INFO if event.changes else logging.DEBUG, _reload_fields),
    ReloadFailed: ("reload_failed", lambda _: logging.ERROR, _reload_fields),
    # Not at the level of errors: the caller gets the error, and an error tracker would report it a second time.
    CallEnded: ("settle", lambda event: logging.WARNING if event.how == "failed" else logging.INFO, _call_fields),
}
