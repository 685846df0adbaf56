"""Breaker: stop calling a model for a while when it keeps failing.

Failures that say the vendor is ill count: enough of them in a row, or too large a share of the last ones, open the
breaker. A wrong key, an empty account or an unknown model opens it at once, and for longer; a rate limit cools the
model until the vendor wants to be asked again. An open breaker fails at once with `BreakerOpen`, so that a chain moves
on without waiting. After the pause a single call goes through as a probe: if it succeeds the breaker closes, else the
next pause is longer. A breaker belongs to an endpoint, a key and a model, all three: entries that share them share it.
"""

from __future__ import annotations

import copy
import math

from modelhub.core.errors import MAX_WAIT, BreakerEffect, BreakerOpen, CallError, FirstTokenTimeout, TimedOut
from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.request import ChatRequest
from modelhub.core.stream import ChatStream, Outcome, Reply, add_done_callback
from modelhub.middleware.breaker.options import BreakerOptions
from modelhub.middleware.breaker.state import BreakerState
from modelhub.middleware.build_context import BuildContext, CooldownStore

__all__ = ["Breaker", "BreakerOptions", "BreakerState"]


_TICK = 0.001  # whoever slept until the pause was over may wake a hair too early
_DOUBLINGS = 32  # of a pause; by then any pause is the longest


class Breaker(Layer):
    """Fails at once while it is open."""

    Options = BreakerOptions

    def __init__(
        self, inner: ChatModelBase, options: BreakerOptions | None = None, state: BreakerState | None = None
    ) -> None:
        super().__init__(inner)
        self.options = options or BreakerOptions()
        self.state = state or BreakerState()
        self._cooldowns: CooldownStore | None = None

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: BreakerOptions | None, build_context: BuildContext) -> ChatModelBase:
        """Every model has a breaker, with the defaults where the file says nothing."""
        shared, identity = build_context.shared, build_context.identity
        state = shared.breakers.setdefault(identity, BreakerState())
        breaker = cls(inner, options, state)
        if shared.cooldowns is not None:
            if state.on_open is None:
                shared.cooldowns.watch(identity, state)
            breaker._cooldowns = shared.cooldowns
        return breaker

    async def send(self, request: ChatRequest) -> Reply:
        """The reply, if the breaker is closed. Raises BreakerOpen if it is open."""
        if self._cooldowns is not None:
            self._cooldowns.listen()
        probe = self.admit()
        began = self.services.clock.now()
        try:
            reply = await self.inner.send(request)
        except CallError as error:
            # With another arm to ask, a rate limit without Retry-After cools this one too.
            self._failed(error, began, probe, self.options.pause if request.has_ready_arm else 0.0)
            raise
        except BaseException:
            self._release(probe)  # cancelled: it says nothing about the model
            raise
        if probe and isinstance(reply, ChatStream):
            # It has begun to answer, and its reader may take his time: the others do not wait for him for ever.
            self.state.probe_timeout = self.services.clock.now() + self.options.max_pause
        slow: CallError | None = None
        limit, attempts = self.options.slow_first_token, request.context.attempts
        took = attempts[-1]["first_token"] if attempts and limit is not None else None
        if took is not None and limit is not None and took > limit:
            text = f"first content after {took:.1f} s (`breaker.slow_first_token`)"
            slow = FirstTokenTimeout(text, model=self.name)
        add_done_callback(reply, lambda outcome: self._settled(outcome, began, probe, slow))
        return reply

    def is_ready(self) -> bool:
        """Return whether the breaker would let a call through now."""
        state = self.state
        return not self.cooldown() and (not state.probing or self.services.clock.now() >= state.probe_timeout)

    def admit(self) -> bool:
        """Let a call through; True if it is the probe after a pause, whose outcome the others wait for."""
        state = self.state
        with state.lock:
            if self.is_ready():
                state.probing, state.probe_timeout = state.openings > 0, math.inf
                return state.probing
            wait = self.cooldown() or self.options.pause
        reason = f" after {state.last_error.kind}" if state.last_error is not None else ""
        raise BreakerOpen(
            f"the breaker of `{self.name}` is open{reason}; it can be called again in {wait:.1f} s",
            model=self.name,
            retry_after=wait,
        ) from state.last_error

    def cooldown(self) -> float:
        """Return the seconds until the model may be asked again; 0.0 if it may be asked now."""
        remaining = self.state.until - self.services.clock.now()
        return remaining if remaining > _TICK else 0.0

    def _release(self, probe: bool) -> None:
        if probe:
            self.state.probing = False

    def _settled(self, outcome: Outcome, began: float, probe: bool, slow: CallError | None) -> None:
        state = self.state
        if isinstance(outcome.error, CallError) and not outcome.is_stalled:
            self._failed(outcome.error, began, probe)
        elif outcome.how != "complete":
            self._release(probe)
        elif slow is not None:
            self._failed(slow, began, probe)
        else:
            with state.lock:
                state.consecutive_failures = 0
                self._release(probe)
                if probe and not self.cooldown():  # no other failure wants a pause since
                    state.openings, state.last_error = 0, None
                    state.seen.clear()
                elif state.openings == 0:
                    state.seen.add(False, self.services.clock.now(), self.options.window)

    def _failed(self, error: CallError, began: float, probe: bool, min_cooldown: float = 0.0) -> None:
        state, options, policy = self.state, self.options, error.breaker_effect
        seen = state.seen
        now = self.services.clock.now()
        with state.lock:
            self._release(probe)
            if policy is BreakerEffect.COOLS:
                wait = max(error.requested_wait or 0.0, min_cooldown)
                state.openings += wait >= MAX_WAIT  # the vendor may need longer: a single probe finds out
                self._open_for(now, wait, error)
            elif policy is BreakerEffect.OPENS:
                state.openings += 1
                self._open_for(now, self._jittered(options.long_pause), error)
            elif policy is BreakerEffect.COUNTS:
                state.consecutive_failures += 1
                seen.add(True, now, options.window)
                too_many = seen.attempts >= 2 * options.failures and seen.failures >= options.share * seen.attempts
                is_ill = state.consecutive_failures >= options.failures or too_many
                if not probe and (state.openings or not is_ill):
                    return
                pause = min(options.max_pause, options.pause * 2.0 ** min(state.openings, _DOUBLINGS))
                # Each probe of a silent model costs its caller that silence: at most half of the time may go into it.
                is_silence = isinstance(error, TimedOut) or isinstance(error.__cause__, TimedOut)
                state.openings += 1
                self._open_for(now, self._jittered(max(pause, now - began if is_silence else 0.0)), error)

    def _jittered(self, seconds: float) -> float:
        return seconds * self.services.random.uniform(1.0, 1.1)

    def _open_for(self, now: float, seconds: float, error: CallError) -> None:
        state = self.state
        if now + seconds <= state.until:
            return  # a pause is never shortened by a later, shorter one
        # The copy keeps nothing of its call alive: no frames, no causes, no part of an answer.
        last_error = copy.copy(error)
        last_error.__dict__.pop("partial", None)
        state.until, state.last_error = now + seconds, last_error
        # That one process cannot reach the vendor, or waits in vain, says nothing about the others.
        state.is_shared = error.breaker_effect is not BreakerEffect.COUNTS or error.status is not None
        if state.is_shared and state.on_open is not None:
            state.on_open(seconds)
