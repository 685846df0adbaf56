"""The context of a call: the services that it uses, and what has happened in it so far."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

from modelhub.core.call_options import NO_KEYS, NO_TAGS, Tags, as_tags
from modelhub.core.clock import Clock, SystemClock
from modelhub.core.completions import finish, run_completions
from modelhub.core.errors import CallError, HubClosed
from modelhub.core.events import AttemptEnded, CallEnded, CompletionStatus, Event, Observer
from modelhub.core.process import fork_count, register_at_fork
from modelhub.core.record import Lazy
from modelhub.core.response import COUNTS, Attempt, ChatResponse, ChatUsage
from modelhub.core.stream import ChatStream, Outcome, Reply, add_done_callback
from modelhub.messages.files import FileAccess

if TYPE_CHECKING:
    from modelhub.core.active_calls import ActiveCalls

__all__ = [
    "CallContext",
    "CallSpan",
    "Instrumentation",
    "Services",
    "ambient_deadline",
    "bounded",
    "tagged",
]

_ambient_tags: ContextVar[Tags] = ContextVar("modelhub_tags", default=NO_TAGS)
_ambient_deadline: ContextVar[float | None] = ContextVar("modelhub_deadline", default=None)


@contextmanager
def tagged(tags: Any) -> Iterator[None]:
    """Give every call that is opened inside, in this task and those it starts, these *tags* too."""
    before = _ambient_tags.get()
    _ambient_tags.set({**before, **as_tags(tags)})
    try:
        yield
    finally:
        _ambient_tags.set(before)


@contextmanager
def bounded(ends: float) -> Iterator[None]:
    """End every call that is opened inside, in this task and those it starts, at the instant *ends* of its clock."""
    before = _ambient_deadline.get()
    _ambient_deadline.set(ends if before is None else min(before, ends))
    try:
        yield
    finally:
        _ambient_deadline.set(before)


def ambient_deadline() -> float | None:
    """Return the instant at which every call that is opened here ends, or None."""
    return _ambient_deadline.get()


class CallSpan(Protocol):
    """Follows one call, with more than its events: its request, its reply, the context in which it was made."""

    def committed(self, reply: Reply) -> None:
        """Called when a reply is in hand, in the context in which the call was made; not if the call fails before."""
        ...

    def settled(self, event: CallEnded, outcome: Outcome) -> None:
        """Called once, when the call is finished, in any context."""
        ...


Instrumentation = Callable[[Any], CallSpan | None]
"""Called with the request of each call, in its caller's context; returns what follows the call, or None."""


class _Random(random.Random):
    """Random numbers that differ in every forked child: workers must not wait for the same jittered times."""

    def __init__(self) -> None:
        super().__init__()
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Seed the generator again in a forked child."""
        self.seed()


@dataclass(frozen=True, slots=True)
class Services:
    """What calls use of the world: the clock, random numbers, observers, and the local files that may be read."""

    clock: Clock = field(default_factory=SystemClock)
    random: random.Random = field(default_factory=_Random)
    observers: tuple[Observer, ...] = ()
    instrumentations: tuple[Instrumentation, ...] = ()
    calls: ActiveCalls | None = None
    """The calls under way of the hub; set by it."""
    files: FileAccess = field(default_factory=FileAccess)

    def observe(self, event: Event) -> None:
        """Pass *event* to every observer; an observer that raises is logged and fails nothing."""
        for observer in self.observers:
            try:
                observer(event)
            except Exception:
                # Whoever watches must not be able to fail a call.
                logging.getLogger("modelhub").exception("an observer failed at %s", type(event).__name__)


class CallContext:
    """What belongs to one call, on its way through all layers and models.

    `attempts` are the call's attempts so far, a list that replies and errors share.
    """

    __slots__ = (
        "_cancelling",
        "_forks",
        "_is_ended",
        "_is_settled",
        "_spans",
        "_stream",
        "_task",
        "_wait",
        "arm",
        "attempts",
        "attempts_at",
        "call_id",
        "is_committed",
        "keys",
        "loop",
        "on_sent",
        "queue",
        "requested",
        "services",
        "shape",
        "started",
        "tags",
        "trace_headers",
    )

    def __init__(
        self, services: Services, requested: str, *, tags: Tags = NO_TAGS, keys: Mapping[str, SecretStr] = NO_KEYS
    ) -> None:
        self.services = services
        self.requested = requested
        self.call_id = os.urandom(16).hex()
        self.started = services.clock.now()
        ambient_tags = _ambient_tags.get()
        self.tags = {**ambient_tags, **tags} if ambient_tags else tags
        self.attempts: list[Attempt] = []
        self.trace_headers: Mapping[str, str] = NO_TAGS
        self.attempts_at: dict[Hashable, int] = {}
        """How many attempts were made at each place of a chain; a model may stand at several."""
        self.keys = keys
        """The vendors' keys that came with the call."""
        self.arm: str | None = None
        """The deployment or key that is asked, where several share a place of the chain; set by the chain."""
        self.queue: tuple[str, float] | None = None
        """The limit in whose queue the call stands, and since when."""
        self.on_sent: Callable[[], None] | None = None
        """Called when the request of an attempt is written to its connection; set by the limit."""
        self.shape: Mapping[str, Any] | None = None
        """What the call asks for, without what it says, if that is recorded."""
        self._wait = 0.0
        self._forks = fork_count()
        self._is_settled = self._is_ended = self.is_committed = False
        self._stream: Callable[[], ChatStream | None] = _get_no_stream  # a weak reference once there is one
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self.loop: asyncio.AbstractEventLoop
        self._spans: Sequence[CallSpan] = ()

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return self.services.clock.now() - self.started

    def observe(self, event: Event) -> None:
        """Pass *event* to every observer of the hub."""
        self.services.observe(event)

    def start(self, request: Any) -> None:
        """Begin the call of *request*, in the running task: from here on, its hub and what follows it know of it.

        Raises HubClosed, and RuntimeError where no asyncio loop runs.
        """
        try:
            self._task = task = asyncio.current_task()
        except RuntimeError:
            raise RuntimeError("modelhub needs asyncio: the runner of this coroutine is another one") from None
        self.loop = asyncio.get_running_loop()
        run_completions()
        if (calls := self.services.calls) is not None:
            self._cancelling = task.cancelling() if task is not None else 0
            calls.add(self)
        for instrumentation in self.services.instrumentations:
            if (span := instrumentation(request)) is not None:
                self._spans = (span, *self._spans)

    def fail(self, caught: BaseException) -> BaseException:
        """Record that the call has ended with *caught*, before there was a reply; return what the caller gets."""
        error = caught
        if self._is_ended and self._task is not None:
            is_cancelled_elsewhere = self._task.uncancel() > self._cancelling
            if isinstance(caught, asyncio.CancelledError) and not is_cancelled_elsewhere:  # by `end_call` alone
                error = HubClosed("the hub was closed before there was an answer")
        how: CompletionStatus = "failed" if isinstance(error, Exception) else "cancelled"
        finish(self.loop, caught, partial(self.settle, Outcome(how, None, error)))
        return error

    def commit(self, reply: Reply) -> None:
        """Note that *reply* is in hand, and record the call when it is finished."""
        self.is_committed = True
        if not isinstance(reply, ChatResponse):
            self._stream = weakref.ref(reply)
        if self._is_ended and self._task is not None:
            self._task.uncancel()  # the answer came first
        # The hub has this context until the reply is finished: through its frames, a task that was cancelled while it
        # read the stream would keep the stream from being collected, and with it a limit's place and a connection.
        self._task = None
        for span in self._spans:
            span.committed(reply)
        add_done_callback(reply, self.settle)

    async def wait(self, seconds: float) -> None:
        """Sleep for *seconds*; the record of the next attempt has the time that was waited."""
        began = self.services.clock.now()
        try:
            await self.services.clock.sleep(seconds)
        finally:
            self.waited(self.services.clock.now() - began)

    def waited(self, seconds: float) -> None:
        """Note time spent waiting, here or in a limit's queue."""
        self._wait += seconds

    def begin(self, model: str, provider: str, model_name: str) -> Attempt:
        """Open the record of an attempt. Raises HubClosed: nothing is sent any more when the hub is closing."""
        if (calls := self.services.calls) is not None:
            calls.check_open()
        attempt = Attempt(model, provider, model_name, started=self.elapsed(), wait=self._wait)
        if self.arm is not None:
            attempt["arm"] = self.arm
        self._wait = 0.0
        self.attempts.append(attempt)
        return attempt

    def end(self, attempt: Attempt, outcome: str, error: CallError | None = None) -> None:
        """Close the record of *attempt*, unless it is closed already."""
        if attempt["outcome"] is not None:
            return
        attempt["outcome"] = outcome
        attempt["duration"] = self.elapsed() - attempt["started"]
        if error is not None:
            attempt.update(
                message=str(error),
                status=error.status,
                code=error.code,
                request_id=error.request_id or attempt["request_id"],
                retry_after=error.retry_after,
            )
        self.services.observe(AttemptEnded(self.call_id, attempt))
        calls = self.services.calls
        if calls is not None and calls.is_closing and not self._is_settled and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.end_call_if_waiting)

    def skip(self, model: str, provider: str, model_name: str, error: CallError) -> None:
        """Note that *model* was passed over without being asked, and why."""
        attempt = self.begin(model, provider, model_name)
        attempt["skipped"] = True
        self.end(attempt, error.kind, error)

    def fail_open_attempts(self, error: CallError) -> None:
        """End the attempts that still run with *error*: a layer above the provider has given up on them."""
        for attempt in self.attempts:
            self.end(attempt, error.kind, error)

    def settle(self, outcome: Outcome) -> None:
        """The call is finished: close what is open and tell the observers; in a forked child, the parent does so."""
        if self._is_settled or self._forks != fork_count():
            return
        self._is_settled = True
        if self.services.calls is not None:
            self.services.calls.discard(self)
        for attempt in self.attempts:
            self.end(attempt, outcome.how)
        error = outcome.error
        if isinstance(error, CallError):
            error.attempts = self.attempts
        if not self.services.observers and not self._spans:
            return
        answered = next((attempt for attempt in reversed(self.attempts) if not attempt["skipped"]), None)
        first_token = None
        if answered is not None and answered["first_token"] is not None:
            first_token = answered["started"] + answered["first_token"]
        event = CallEnded(
            call_id=self.call_id,
            at=self.services.clock.wall(),
            requested=self.requested,
            model=answered["model"] if answered is not None else None,
            how=outcome.how,
            error=type(error).__name__ if error is not None else None,
            duration=self.elapsed(),
            first_token=first_token,
            usage=_sum_usage(self.attempts),
            attempts=tuple(self.attempts),
            tags=self.tags,
            shape=self.shape,
        )
        try:
            self.services.observe(event)
        finally:
            for span in self._spans:
                span.settled(event, outcome)

    # -- when the hub closes, or the process ends: see `ActiveCall` ------------------------------------------------

    def end_call(self) -> None:
        """End the call with HubClosed."""
        stream = self._stream()
        if self._is_settled or self._is_ended:
            return
        if stream is not None:
            stream.fail(HubClosed("the hub was closed before the stream was read to its end"))
        elif not self.is_committed and self._task is not None:
            self._is_ended = True
            self._task.cancel()

    def end_call_if_waiting(self) -> None:
        """End the call if it waits, in a limit's queue or to try again, so that nothing is lost."""
        if all(attempt["outcome"] is not None for attempt in self.attempts):
            self.end_call()

    def end_call_if_unread(self) -> None:
        """End the call if it is a stream that nobody reads at this moment."""
        stream = self._stream()
        if stream is not None and not stream.is_being_read:
            self.end_call()

    def cancel_call(self) -> None:
        """Cancel the task if it waits for the reply; discard the stream if that is in hand."""
        stream = self._stream()
        if not self._is_settled and stream is not None:
            stream.discard()
        if not self._is_settled and not self.is_committed and self._task is not None:
            self._task.cancel()

    def abandon_call(self) -> None:
        """Record the call as it is: its loop has ended, or is about to."""
        stream = self._stream()
        if stream is not None:
            stream.settle_as_abandoned()
        self.settle(Outcome("abandoned", None))


def _get_no_stream() -> None:
    """Return what stands for the stream of a call that has led to none."""


def _sum_usage(attempts: Sequence[Attempt]) -> ChatUsage | None:
    known: list[ChatUsage] = [attempt["usage"] for attempt in attempts if attempt["usage"] is not None]
    if len(known) < 2:
        return known[0] if known else None
    total = ChatUsage()
    for usage in known:
        for key in (*COUNTS, "time"):
            total[key] += usage[key]
        total["estimated"] = total["estimated"] or usage["estimated"]

    def sum_costs() -> str | None:
        costs = [usage.cost for usage in known]
        return None if None in costs else str(sum((cost for cost in costs if cost is not None), Decimal(0)))

    total["cost"] = Lazy(sum_costs)  # a cost may have to be looked up
    return total
