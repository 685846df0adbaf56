"""What happened on the way, model by model: from a call's events."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from modelhub.cli.output import counted, span, took
from modelhub.core.errors import AllModelsFailed, BreakerOpen, CallError, NotConfigured, StreamBroken
from modelhub.core.events import AttemptEnded, Event, FellBack, Restarted
from modelhub.core.response import Attempt

__all__ = ["ModelTurn", "CallTrace"]

_SAID_BY_STATUS = frozenset({"RateLimited", "Overloaded", "ServerError"})
"""Kinds of which the status says all; the vendor's words would add nothing."""

_NOT_ASKED = frozenset({"NotConfigured", "BreakerOpen", "LimitRejected"})
"""Outcomes of records that stand for no request: the model was passed over."""


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass(slots=True)
class ModelTurn:
    """One model's part: its attempts, and the failure that ended its turn, if one did."""

    model: str
    attempts: list[Attempt] = field(default_factory=list)
    error: CallError | None = None
    ended: datetime = field(default_factory=_now)

    @property
    def kind(self) -> str:
        """The failure's class, or how the last attempt ended."""
        if self.error is not None:
            return self.error.kind
        return str(self.attempts[-1]["outcome"]) if self.attempts else "-"

    @property
    def status(self) -> int | None:
        """The HTTP status."""
        found: int | None = self.error.status if self.error is not None else self._last("status")
        return found

    @property
    def retry_after(self) -> float | None:
        """How many seconds the vendor asked to wait."""
        found: float | None = self.error.retry_after if self.error is not None else self._last("retry_after")
        return found

    @property
    def request_id(self) -> str | None:
        """The vendor's id of the last request."""
        found: str | None = (self.error.request_id if self.error is not None else None) or self._last("request_id")
        return found

    @property
    def message(self) -> str:
        """What went wrong, in words."""
        error = self.error
        if isinstance(error, StreamBroken) and isinstance(error.__cause__, CallError):
            error = error.__cause__
        return str(error if error is not None else self._last("message") or "")

    def _last(self, key: str) -> Any:
        return self.attempts[-1][key] if self.attempts else None

    @property
    def took(self) -> float:
        """Seconds from its first attempt to the end of its last, waits between them included."""
        if not self.attempts:
            return 0.0
        last = self.attempts[-1]
        return float(last["started"] + (last["duration"] or 0.0) - self.attempts[0]["started"])

    @property
    def again(self) -> datetime | None:
        """When it may be asked again, if that is known."""
        return None if self.retry_after is None else self.ended + timedelta(seconds=self.retry_after)

    def facts(self, *, words: bool = True) -> list[str]:
        """Status, wait, attempts, and, with *words*, the message where it says more than the status."""
        found = [str(self.status)] if self.status is not None else []
        if self.retry_after is not None and not isinstance(self.error, BreakerOpen):
            found.append(f"come back in {span(self.retry_after)}")
        if len(self.attempts) > 1:
            found.append(counted(len(self.attempts), "attempt"))
        if words and self.message and not (self.status is not None and self.kind in _SAID_BY_STATUS):
            found.append(self.message)
        return found

    def sentence(self) -> str:
        """The part in one line: `gpt rate limited (429, come back in 38 s), moved on after 0.2 s`."""
        if isinstance(self.error, NotConfigured):
            return f"{self.model} not configured: {self.message}, skipped"
        if isinstance(self.error, BreakerOpen) and not self.attempts:
            return f"{self.message}: skipped"
        facts = ", ".join(self.facts())
        after = f"moved on after {took(self.took)}" if self.attempts else "skipped"
        return f"{self.model} {_words(self.kind)}{f' ({facts})' if facts else ''}, {after}"


def _words(kind: str) -> str:
    """`RateLimited` as "rate limited"."""
    return "broke off" if kind == "StreamBroken" else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()


class CallTrace:
    """An observer that keeps what happened, turn by turn: a model that is asked in two places has two parts."""

    def __init__(self) -> None:
        self._parts: list[ModelTurn] = []
        self._open: dict[str, ModelTurn] = {}

    def __call__(self, event: Event) -> None:
        """Note *event*."""
        if isinstance(event, AttemptEnded):
            part = self._turn(event.attempt["model"])
            part.ended = _now()
            if event.attempt["outcome"] not in _NOT_ASKED:
                part.attempts.append(event.attempt)
        elif isinstance(event, FellBack | Restarted) and not isinstance(event.error, AllModelsFailed):
            self._turn(event.model).error = event.error
            del self._open[event.model]

    def _turn(self, model: str) -> ModelTurn:
        if model not in self._open:
            self._open[model] = ModelTurn(model)
            self._parts.append(self._open[model])
        return self._open[model]

    def failed(self) -> list[ModelTurn]:
        """The turns that ended without an answer, in order."""
        return [part for part in self._parts if part.error is not None]

    def part(self, model: str | None) -> ModelTurn | None:
        """The turn *model* is in."""
        return self._open.get(model or "")

    def turn_of(self, error: CallError) -> ModelTurn:
        """The turn that ended with *error*."""
        for part in self._parts:
            if part.error is error:
                return part
        model = error.model or ""
        attempts = self._open[model].attempts if model in self._open else []
        return ModelTurn(model or "?", attempts, error)
