"""Deadline: the whole call's time, waits, retries, models and the reading of a stream included."""

from __future__ import annotations

from modelhub.core.errors import CallError, DeadlineExceeded, LimitRejected
from modelhub.core.model import Layer
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatResponse
from modelhub.core.stream import Reply
from modelhub.middleware.time_limit import TimeLimit

__all__ = ["Deadline"]


class Deadline(Layer):
    """Ends everything below it when the request's deadline has come."""

    async def send(self, request: ChatRequest) -> Reply:
        """The reply, in time. Raises DeadlineExceeded, also out of a stream, then with the partial answer."""
        if request.deadline is None:
            return await self.inner.send(request)
        remaining = request.deadline - self.services.clock.now()
        if remaining <= 0.0:
            raise self._exceeded(request)
        with TimeLimit(remaining, lambda: self._exceeded(request)):
            reply = await self.inner.send(request)
        if not isinstance(reply, ChatResponse):

            def make_late(last: ChatResponse | None) -> CallError:
                failure = self._exceeded(request)
                failure.partial = last
                return failure

            reply.time_limits(self.services.clock.now).add_deadline(request.deadline, make_late)
        return reply

    def _exceeded(self, request: ChatRequest) -> DeadlineExceeded:
        context = request.context
        text, cause = f"the call's time is over after {context.elapsed():.1f} s", None
        if context.queue is None:
            text += f", while `{self.name}` was asked"
        else:
            limit, since = context.queue
            context.queue = None
            waited = self.services.clock.now() - since
            text += f", of which `{self.name}` waited {waited:.1f} s in the queue of limit `{limit}`"
            cause = LimitRejected(f"limit `{limit}` had no room within {waited:.1f} s", model=self.name)
        failure = DeadlineExceeded(text, model=self.name)
        failure.__cause__ = cause
        context.fail_open_attempts(failure)
        return failure
