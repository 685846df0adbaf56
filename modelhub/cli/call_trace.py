"""The history of a call, model by model, from its events."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from modelhub.cli.output import format_count, format_duration, format_setting
from modelhub.core.error_report import CLEAR_BY_STATUS
from modelhub.core.errors import AllModelsFailed, BreakerOpen, CallError, NotConfigured, StreamBroken
from modelhub.core.events import AttemptEnded, Event, FellBack, Restarted
from modelhub.core.response import Attempt

__all__ = ["ModelTurn", "CallTrace"]

_SKIPPED_OUTCOMES = frozenset({"NotConfigured", "BreakerOpen", "LimitRejected"})
"""Outcomes of attempts without a request: the model was skipped."""


def _get_time() -> datetime:
    return datetime.now().astimezone()


@dataclass(slots=True)
class ModelTurn:
    """The attempts of one model in a call, and the error with which the call moved on to another, if it did."""

    model: str
    arm: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    error: CallError | None = None
    ended: datetime = field(default_factory=_get_time)

    @property
    def label(self) -> str:
        """The model's name, with that of its key if several are in use."""
        is_key = self.arm is not None and self.arm.startswith(f"{self.model}#")
        return self.arm if self.arm is not None and is_key else self.model

    @property
    def kind(self) -> str:
        """The name of the error's class, or the outcome of the last attempt."""
        if self.error is not None:
            return self.error.kind
        return str(self.attempts[-1]["outcome"]) if self.attempts else "-"

    def _find(self, key: str) -> Any:
        """Return the value *key* of the error, or of the last attempt if there is no error."""
        if self.error is not None:
            return getattr(self.error, key)
        return self.attempts[-1][key] if self.attempts else None

    @property
    def status(self) -> int | None:
        """The HTTP status."""
        return self._find("status")  # type: ignore[no-any-return]

    @property
    def retry_after(self) -> float | None:
        """The seconds that the vendor asked to wait, or None."""
        return self._find("retry_after")  # type: ignore[no-any-return]

    @property
    def request_id(self) -> str | None:
        """The vendor's id of the last request."""
        last = self.attempts[-1]["request_id"] if self.attempts else None
        return self._find("request_id") or last

    @property
    def message(self) -> str:
        """The error message."""
        if isinstance(self.error, StreamBroken) and isinstance(self.error.__cause__, CallError):
            return str(self.error.__cause__)
        return str(self.error if self.error is not None else self._find("message") or "")

    @property
    def duration(self) -> float:
        """Seconds from the start of the first attempt to the end of the last one, waits included."""
        if not self.attempts:
            return 0.0
        last = self.attempts[-1]
        return float(last["started"] + (last["duration"] or 0.0) - self.attempts[0]["started"])

    @property
    def next_attempt_at(self) -> datetime | None:
        """When the model can be tried again, or None if that is unknown."""
        return None if self.retry_after is None else self.ended + timedelta(seconds=self.retry_after)

    def list_details(self, *, message: bool = True) -> list[str]:
        """Return status, wait, attempts, and, with *message*, the message where it says more than the status."""
        details = [str(self.status)] if self.status is not None else []
        if self.retry_after is not None and not isinstance(self.error, BreakerOpen):
            details.append(f"retry after {format_setting(self.retry_after)}")
        if len(self.attempts) > 1:
            details.append(format_count(len(self.attempts), "attempt"))
        if message and self.message and not (self.status is not None and self.kind in CLEAR_BY_STATUS):
            details.append(self.message)
        return details

    def describe(self) -> str:
        """Describe the turn in one line: `gpt rate limited (429, retry after 38 s), moved on after 0.2 s`."""
        if isinstance(self.error, NotConfigured):
            return f"{self.label} not configured: {self.message}, skipped"
        if isinstance(self.error, BreakerOpen) and not self.attempts:
            return f"{self.message}: skipped"
        facts = ", ".join(self.list_details())
        after = f"moved on after {format_duration(self.duration)}" if self.attempts else "skipped"
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.kind).lower()  # RateLimited as "rate limited"
        words = "stream broke" if self.kind == "StreamBroken" else kind
        return f"{self.label} {words}{f' ({facts})' if facts else ''}, {after}"


class CallTrace:
    """An observer that collects the turns of a call; a model that is tried twice in a chain has two turns."""

    def __init__(self) -> None:
        self._turns: list[ModelTurn] = []
        self._open: dict[tuple[str, str | None], ModelTurn] = {}

    def __call__(self, event: Event) -> None:
        """Record *event*."""
        if isinstance(event, AttemptEnded):
            turn = self._get_turn(event.attempt["model"], event.attempt["arm"])
            turn.ended = _get_time()
            if event.attempt["outcome"] not in _SKIPPED_OUTCOMES:
                turn.attempts.append(event.attempt)
        elif isinstance(event, FellBack | Restarted) and not isinstance(event.error, AllModelsFailed):
            self._get_turn(event.model, event.arm).error = event.error
            del self._open[event.model, event.arm]

    def clear(self) -> None:
        """Forget the call before, when another begins."""
        self._turns.clear()
        self._open.clear()

    def _get_turn(self, model: str, arm: str | None) -> ModelTurn:
        if (model, arm) not in self._open:
            self._open[model, arm] = ModelTurn(model, arm)
            self._turns.append(self._open[model, arm])
        return self._open[model, arm]

    def list_failed(self) -> list[ModelTurn]:
        """Return the turns that ended with an error, in order."""
        return [turn for turn in self._turns if turn.error is not None]

    def get_open_turn(self, model: str | None) -> ModelTurn | None:
        """Return the turn of *model* that has not ended, or None."""
        return next((turn for turn in reversed(self._open.values()) if turn.model == model), None)

    def find_turn(self, error: CallError) -> ModelTurn:
        """Return the turn that ended with *error*."""
        for turn in self._turns:
            if turn.error is error:
                return turn
        open_turn = self._open.get((error.model or "", error.arm))
        attempts = open_turn.attempts if open_turn is not None else []
        return ModelTurn(error.model or "?", error.arm, attempts, error)
