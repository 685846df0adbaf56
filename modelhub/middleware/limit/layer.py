"""Limit: a named pool of requests, tokens and places, shared by all models that name it.

In any period, wherever it begins, no more passes than the rate says, over all threads and event loops of the process.
Attempts pass in the order in which they come. Each reserves what it may use before it is sent, and when its reply is
finished, what it did not use is given back and what it used beyond is counted too. What cannot be had in the call's
time, or never, is refused at once with LimitRejected, so that a chain can ask another model.

A rate limit that the vendor reports pauses the pool for everybody in it. What its headers say is left narrows the
rates for everybody in it, as soon as an answer begins, and never widens them: see `remote_limits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from modelhub.core.completions import finish
from modelhub.core.context import CallContext
from modelhub.core.errors import (
    CallError,
    Chargeable,
    ConnectFailed,
    ConnectTimeout,
    InvalidRequest,
    LimitRejected,
    NotConfigured,
    RateLimited,
    RequestRefused,
    UnsupportedFeature,
)
from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatResponse
from modelhub.core.stream import Outcome, Reply, add_done_callback
from modelhub.middleware.build_context import MAX_UNBOUNDED_WAIT, BuildContext
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.limit.permit import AttemptPermit, AttemptResult, Permit, State, WaitLimits
from modelhub.middleware.limit.pool import LocalLimitStore, RateLimitPool
from modelhub.middleware.limit.rates import Amounts, Rate
from modelhub.middleware.limit.store import LimitPool, PoolSnapshot, RateSnapshot
from modelhub.middleware.token_estimates import input_tokens, max_output_tokens

__all__ = [
    "Amounts",
    "AttemptResult",
    "PoolSnapshot",
    "Limit",
    "LimitOptions",
    "Permit",
    "RateLimitPool",
    "Rate",
    "RateSnapshot",
    "WaitLimits",
]

_SHORT_WAIT = 10.0  # how long a vendor's pause may be if another model is behind; retries draw the line there too
_LEARNING = 0.2

RateLimits = Mapping[str, tuple[int, float]]


class Limit(Layer):
    """Takes from a pool for every attempt, and settles with it when the reply is finished."""

    Options = LimitOptions

    def __init__(self, inner: ChatModelBase, pool: LimitPool[Any]) -> None:
        super().__init__(inner)
        self.pool = pool
        self._usual = 0.0  # how long an answer is, where nothing bounds it

    @classmethod
    def wrap(
        cls, inner: ChatModelBase, options: str | LimitOptions | None, build_context: BuildContext
    ) -> ChatModelBase:
        """A model that names a limit shares its pool; one that describes a limit has a pool of its own."""
        if options is None:
            return inner
        shared = build_context.shared
        if isinstance(options, str):
            return cls(inner, shared.limits[options])
        label = build_context.label or inner.name
        if label not in shared.own_limits:
            store = shared.limit_store or LocalLimitStore(build_context.services.clock)
            shared.own_limits[label] = store.make_pool(label, options, "model")
        return cls(inner, shared.own_limits[label])

    def is_ready(self) -> bool:
        """Return whether the pool would probably let an attempt through now."""
        return self.pool.left().has_room

    async def send(self, request: ChatRequest) -> Reply:
        """The reply, when the pool admits it. Raises LimitRejected if it never will, or not in time."""
        context = request.context
        # What is counted as sent now must not arrive a second later: the window at the vendor's would be another one.
        if not self._provider.is_prepared:
            await self._provider.prepare()
        permit = self._request(request)
        if permit.state is not State.HELD:
            await self._wait(permit, context)
        context.on_sent = permit.on_sent
        before = len(context.attempts)
        try:
            reply = await self.inner.send(request)
        except BaseException as error:
            remaining = _find_rate_limits(request, before)
            result = self._attempt_result(Outcome("failed", None, error), request, before, remaining)
            finish(context.loop, error, partial(permit.settle, result))
            raise
        remaining = _find_rate_limits(request, before)
        if remaining is not None and not isinstance(reply, ChatResponse):
            self.pool.update_from_headers(permit, remaining)  # it is true now, not when the stream is over
            remaining = None
        add_done_callback(
            reply, lambda outcome: permit.settle(self._attempt_result(outcome, request, before, remaining))
        )
        return reply

    def _request(self, request: ChatRequest) -> AttemptPermit:
        """Return the permit for *request*, which may have to `_wait` still. Raises LimitRejected.

        A call waits for a vendor's pause only briefly if another model can answer, and stands in a queue for at most
        half of the time it has left, so that the other model can use the other half; not at all, if an arm can answer.
        """
        wait_budget = MAX_UNBOUNDED_WAIT if request.deadline is None else None
        max_wait: float | None = None
        if request.has_ready_arm:
            wait_budget = max_wait = 0.0
        elif request.has_fallback:
            remaining = request.remaining()
            wait_budget, max_wait = _SHORT_WAIT, None if remaining is None else remaining / 2
        waits = WaitLimits(request.deadline, wait_budget, max_wait)
        try:
            permit: AttemptPermit = self.pool.request(self._amounts(request), waits, source=self.name)
        except LimitRejected as refusal:
            refusal.model, refusal.provider = self.name, self.kind
            raise
        return permit

    async def _wait(self, permit: AttemptPermit, context: CallContext) -> None:
        clock = self.services.clock
        began = clock.now()
        context.queue = (self.pool.name, began)
        try:
            await self.pool.wait(permit)
        except LimitRejected as refusal:
            context.queue = None
            refusal.model, refusal.provider = self.name, self.kind
            raise
        finally:
            context.waited(clock.now() - began)
        context.queue = None

    def _amounts(self, request: ChatRequest) -> Amounts:
        tokens, most = input_tokens(request), max_output_tokens(request, self._provider)
        if most is not None:
            return Amounts(tokens, most)
        # Nobody says how long the answer may be: as long as the last ones were. A guess is no reason to refuse.
        room = [
            rate.amount - tokens if what == "tokens" else rate.amount
            for what, rate in self.pool.options.rates()
            if what in ("tokens", "output_tokens")
        ]
        return Amounts(tokens, max(0, min(round(self._usual), *room)) if room else 0)

    def _attempt_result(
        self, outcome: Outcome, request: ChatRequest, before: int, told: RateLimits | None
    ) -> AttemptResult:
        """What an attempt took and what it says about the pool; *before*, this many attempts were recorded."""
        error = outcome.error
        used = _used(outcome, request, before)
        if outcome.how == "complete":
            if used is not None:
                self._usual += (used.output - self._usual) * (_LEARNING if self._usual else 1.0)
            return AttemptResult(used, answered=True, told=told)
        limited = next((e for e in (error, getattr(error, "__cause__", None)) if isinstance(e, RateLimited)), None)
        is_unsent = isinstance(error, NotConfigured | ConnectFailed | ConnectTimeout)
        if isinstance(error, UnsupportedFeature | InvalidRequest) and not isinstance(error, RequestRefused):
            is_unsent = is_unsent or error.status is None
        return AttemptResult(
            used,
            sent=not is_unsent,
            limited=limited is not None,
            retry_after=None if limited is None else limited.requested_wait,
            told=told,
        )


def _find_rate_limits(request: ChatRequest, before: int) -> RateLimits | None:
    """Return what the vendor said is left, in the answer to the attempt behind the first *before* ones."""
    attempts = request.context.attempts
    return attempts[-1]["rate_limits"] if len(attempts) > before else None


def _used(outcome: Outcome, request: ChatRequest, before: int) -> Amounts | None:
    """What the vendor counted, nothing for what it does not charge for, None where nobody knows."""
    reply = outcome.reply
    usage = reply["usage"] if reply is not None else None
    for attempt in request.context.attempts[before:]:
        usage = usage or attempt["usage"]
    if usage is not None:
        # Of a stream that was left early the vendor has not told all.
        seen = 0 if reply is None or outcome.how == "complete" else (len(reply.text) + len(reply.thinking)) // 4
        return Amounts(usage["input_tokens"], max(seen, usage["output_tokens"]))
    free = isinstance(outcome.error, CallError) and outcome.error.policy.billed is Chargeable.NO
    return Amounts() if free else None
