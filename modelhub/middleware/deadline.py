"""Deadline: the whole call's time, waits, retries, models and the reading of a stream included."""

from __future__ import annotations

from modelhub.errors import CallError, DeadlineExceeded
from modelhub.middleware._watch import Expiry, in_time, watched
from modelhub.model import ChatRequest, Layer
from modelhub.response import ChatResponse
from modelhub.stream import ChatStream, Reply

__all__ = ["Deadline"]


class Deadline(Layer):
    """Ends everything below it when the request's deadline has come."""

    async def send(self, request: ChatRequest) -> Reply:
        """The reply, in time. Raises DeadlineExceeded, also out of a stream, then with the partial answer."""
        if request.deadline is None:
            return await self.inner.send(request)

        def expiry() -> Expiry:
            return request.remaining() or 0.0, lambda: self._exceeded(request)

        if request.remaining() == 0.0:
            raise self._exceeded(request)
        reply = await in_time(self.inner.send(request), expiry())
        return watched(reply, expiry, _with_partial) if isinstance(reply, ChatStream) else reply

    def _exceeded(self, request: ChatRequest) -> DeadlineExceeded:
        failure = DeadlineExceeded(
            f"the call's time is over after {request.context.elapsed():.1f} s, while `{self.name}` was asked",
            model=self.name,
        )
        request.context.fail_open_attempts(failure)
        return failure


def _with_partial(failure: CallError, last: ChatResponse | None) -> CallError:
    if isinstance(failure, DeadlineExceeded):
        failure.partial = last
    return failure
