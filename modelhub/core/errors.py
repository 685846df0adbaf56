"""Everything that can go wrong, each class with its verdict.

ModelHubError
├── ConfigError (ValueError)            the file or its values; every problem at once
├── UnknownModel (KeyError)             no entry of that name
├── HubClosed (RuntimeError)
└── CallError                           a call failed; `policy` says what may be done about it
    ├── NotConfigured
    ├── ConnectFailed (ConnectionError)
    ├── ConnectionLost (ConnectionError)
    ├── TimedOut (TimeoutError)
    │   ├── ConnectTimeout
    │   ├── FirstTokenTimeout
    │   ├── IdleTimeout
    │   ├── TooSlow
    │   └── TotalTimeout
    ├── RateLimited
    ├── QuotaExhausted
    ├── Overloaded
    ├── ServerError
    ├── InvalidRequest (ValueError)
    │   └── RequestRefused
    ├── UnsupportedFeature
    ├── ModelNotFound
    ├── AuthenticationFailed
    ├── ContextTooLong
    ├── ContentBlocked
    ├── BadReply
    ├── StreamBroken
    ├── LimitRejected
    ├── BreakerOpen
    ├── BudgetExceeded
    ├── DeadlineExceeded (TimeoutError)
    ├── UnknownFailure
    └── AllModelsFailed (ExceptionGroup)

The verdict stands on the class, the facts on the instance. A failure is classified once, where it enters (in the
provider), by exception type, status and the vendor's error code; nobody reads message texts afterwards.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from modelhub._deprecated import RenamedAttribute
from modelhub.core.failure_policy import BreakerEffect, Chargeable, FailurePolicy, RetryRule
from modelhub.core.hub_errors import ConfigError, HubClosed, ModelHubError, Problem, UnknownModel

if TYPE_CHECKING:
    from modelhub.core.response import Attempt, ChatResponse

__all__ = [
    "ModelHubError",
    "ConfigError",
    "Problem",
    "UnknownModel",
    "HubClosed",
    "CallError",
    "FailurePolicy",
    "RetryRule",
    "BreakerEffect",
    "Chargeable",
    "NotConfigured",
    "ConnectFailed",
    "ConnectionLost",
    "TimedOut",
    "ConnectTimeout",
    "FirstTokenTimeout",
    "IdleTimeout",
    "TooSlow",
    "TotalTimeout",
    "RateLimited",
    "QuotaExhausted",
    "Overloaded",
    "ServerError",
    "InvalidRequest",
    "RequestRefused",
    "UnsupportedFeature",
    "ModelNotFound",
    "AuthenticationFailed",
    "ContextTooLong",
    "ContentBlocked",
    "BadReply",
    "StreamBroken",
    "LimitRejected",
    "BreakerOpen",
    "BudgetExceeded",
    "DeadlineExceeded",
    "UnknownFailure",
    "AllModelsFailed",
    "failure_classes",
]


MAX_WAIT = 3600.0
"""The longest wait in seconds that a vendor is granted; after it one call finds out whether the vendor answers."""


class CallError(ModelHubError):
    """A call, or one attempt of it, failed.

    *message* says what, where and what to do, and never holds a key or a prompt. The facts, where known: *model* (the
    entry's name), *provider* (its kind), *status* (HTTP), *code* (the vendor's error code), *request_id*,
    *retry_after* (seconds the vendor asks to wait). `attempts` is the story of the call so far; for an error within
    `AllModelsFailed` it is that model's own part.
    """

    policy: ClassVar[FailurePolicy]
    verdict: ClassVar[RenamedAttribute] = RenamedAttribute("policy")
    model: str | None
    provider: str | None
    status: int | None
    code: str | None
    request_id: str | None
    retry_after: float | None
    should_retry: bool | None = None
    """What the vendor itself says of asking again, if it does (`x-should-retry`)."""
    request_specific: bool = False
    """Whether this failure is due to this one request alone, so that it says nothing about the model's health."""
    parameter: str | None = None
    """What the refusal names as wrong, if it does: the parameter, as the vendor writes it."""
    retry_without: str | None = None
    """The parameter of the call that the model was found not to take: asked again, it is asked without."""
    arm: str | None = None
    """The deployment or key that failed, where several share a place of the chain."""
    attempts: Sequence[Attempt]

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        provider: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.provider = provider
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.attempts = ()

    @property
    def kind(self) -> str:
        """The class's name, as records and logs show it."""
        return type(self).__name__

    @property
    def requested_wait(self) -> float | None:
        """The wait in seconds that the vendor asks for, at most `MAX_WAIT`; None without one that can be meant."""
        wait = self.retry_after
        return min(wait, MAX_WAIT) if wait is not None and 0 <= wait < math.inf else None

    @property
    def breaker_effect(self) -> BreakerEffect:
        """What this failure means to the breaker: the class's verdict, unless it is due to the request alone."""
        return BreakerEffect.IGNORES if self.request_specific else self.policy.breaker


class NotConfigured(CallError):
    """A key or an SDK is missing; the message names the variable or the package."""

    policy = FailurePolicy("key or SDK missing")


class ConnectFailed(CallError, ConnectionError):
    """Refused, no such host, TLS: the request was surely not sent."""

    policy = FailurePolicy("refused, DNS, TLS: surely not sent", RetryRule.YES, breaker=BreakerEffect.COUNTS)


class ConnectionLost(CallError, ConnectionError):
    """Reset or closed before the first byte of the answer."""

    policy = FailurePolicy(
        "reset or closed before the first byte", RetryRule.YES, breaker=BreakerEffect.COUNTS, billed=Chargeable.MAYBE
    )


class TimedOut(CallError, TimeoutError):
    """A time limit of the attempt passed; the subclasses say which one."""

    policy = FailurePolicy("silence", RetryRule.IF_LAST, breaker=BreakerEffect.COUNTS, billed=Chargeable.MAYBE)


class ConnectTimeout(TimedOut):
    """No connection within `timeout.connect`."""

    policy = FailurePolicy(
        "no connection within `timeout.connect`", RetryRule.IF_LAST, breaker=BreakerEffect.COUNTS, billed=Chargeable.NO
    )


class FirstTokenTimeout(TimedOut):
    """No content within `timeout.first_token`."""


class IdleTimeout(TimedOut):
    """No further content within `timeout.idle`."""


class TooSlow(TimedOut):
    """Content came, but more slowly than `timeout.slow` allows."""


class TotalTimeout(TimedOut):
    """The attempt took longer than `timeout.total`."""


class RateLimited(CallError):
    """The vendor says: too many requests or tokens. `retry_after` has its wish, in seconds."""

    policy = FailurePolicy("429", RetryRule.AS_ASKED, breaker=BreakerEffect.COOLS)


class QuotaExhausted(CallError):
    """The account has no credit or has met a spend limit; waiting does not help."""

    policy = FailurePolicy("insufficient quota, spend limit, 402", breaker=BreakerEffect.OPENS)


class Overloaded(CallError):
    """The vendor cannot take the request now."""

    policy = FailurePolicy("503, 529", RetryRule.YES, breaker=BreakerEffect.COUNTS)


class ServerError(CallError):
    """The vendor reports a failure of its own, with a 5xx or inside an answer."""

    policy = FailurePolicy("other 5xx, 408, 409", RetryRule.YES, breaker=BreakerEffect.COUNTS, billed=Chargeable.MAYBE)


class InvalidRequest(CallError, ValueError):
    """The request is wrong for every vendor: it was checked here, before anything was sent."""

    policy = FailurePolicy("wrong for every vendor, found before anything was sent", fall_back=False)


class RequestRefused(InvalidRequest):
    """The vendor refused the request with a 4xx status that no other class explains. Another vendor may accept it."""

    policy = FailurePolicy("a vendor's 400, 413, 422 or other 4xx that no other class explains")


class UnsupportedFeature(CallError):
    """The model or its vendor cannot do what the request needs; another may."""

    policy = FailurePolicy("the model lacks tools, images, prefill, ...")


class ModelNotFound(CallError):
    """The vendor knows no such model, or does not show it to this key."""

    policy = FailurePolicy("404", breaker=BreakerEffect.OPENS)


class AuthenticationFailed(CallError):
    """The key is wrong, expired or not allowed to do this."""

    policy = FailurePolicy("401, 403", breaker=BreakerEffect.OPENS)


class ContextTooLong(CallError):
    """The messages do not fit the model's context window."""

    policy = FailurePolicy("window exceeded")


class ContentBlocked(CallError):
    """The vendor refuses the content by its safety rules."""

    policy = FailurePolicy("content filter", fall_back=False, billed=Chargeable.MAYBE)


class BadReply(CallError):
    """The answer cannot be used: undecodable, empty, of the wrong shape, or not of the wanted structure.

    An answer that only the caller's own class or choice of tools refuses is `request_specific`: no breaker counts it.
    """

    policy = FailurePolicy(
        "undecodable, empty, wrong shape, invalid structured output",
        RetryRule.ONCE,
        breaker=BreakerEffect.COUNTS,
        billed=Chargeable.YES,
    )


class StreamBroken(CallError):
    """A stream failed after its first content. `partial` is the last snapshot, `__cause__` what broke it."""

    policy = FailurePolicy(
        "cut, stalled or garbled after commit", RetryRule.ONCE, breaker=BreakerEffect.COUNTS, billed=Chargeable.YES
    )
    partial: ChatResponse | None = None

    @property
    def breaker_effect(self) -> BreakerEffect:
        """The effect of what broke the stream, where that is known: a refusal within a stream counts like any other."""
        cause = self.__cause__
        return cause.breaker_effect if isinstance(cause, CallError) else super().breaker_effect


class LimitRejected(CallError):
    """Our own limit or queue says no; also if the wait would be longer than the call's time: another model may answer
    in it. `retry_after` says when to come back, where that is known."""

    policy = FailurePolicy("our own limit or queue says no")


class BreakerOpen(CallError):
    """The model failed recently and its breaker is open for `retry_after` seconds; `__cause__` is its failure."""

    policy = FailurePolicy("failed recently: its breaker is open")


class BudgetExceeded(CallError):
    """Our own budget says no."""

    policy = FailurePolicy("our own budget says no", fall_back=False)


class DeadlineExceeded(CallError, TimeoutError):
    """The whole call's time is over. `partial` is the last snapshot of a stream that was under way."""

    policy = FailurePolicy("the whole call's time is over", fall_back=False, billed=Chargeable.MAYBE)
    partial: ChatResponse | None = None


class UnknownFailure(CallError):
    """A failure that no other class describes. It is not retried; the original exception is `__cause__`."""

    policy = FailurePolicy("anything unforeseen", billed=Chargeable.MAYBE)


class AllModelsFailed(CallError, ExceptionGroup[CallError]):
    """No model of a chain answered: every model's error, in the order they were met; chains nest.

    `message` is the first line of its text, which goes on with one line for each model. Catch it as such, as a
    `CallError`, by its members with `except*`, or ask `dominant` which kind of failure it mostly was.
    """

    policy = FailurePolicy("the chain's end: every error, in order")

    def __new__(cls, message: str, errors: Sequence[CallError]) -> Self:
        """Build the group first: its errors are fixed when it is made."""
        return super().__new__(cls, message, list(errors))

    def __init__(self, message: str, errors: Sequence[CallError]) -> None:
        CallError.__init__(self, message)
        self.args = (message, list(errors))
        waits = [error.retry_after for error in self.leaves() if error.retry_after is not None]
        self.retry_after = min(waits, default=None)

    def __str__(self) -> str:
        from modelhub.core.error_report import format_group

        return "\n".join([self.message, *format_group(self)])

    def derive(self, excs: Sequence[Exception]) -> AllModelsFailed:  # type: ignore[override]
        """A group of the same kind over *excs*: what `except*` and `split` use."""
        group = AllModelsFailed(self.message, [exc for exc in excs if isinstance(exc, CallError)])
        group.attempts = self.attempts
        group.model = self.model
        return group

    def leaves(self) -> Iterator[CallError]:
        """Every error that is not itself a group, in order."""
        for error in self.exceptions:
            if isinstance(error, AllModelsFailed):
                yield from error.leaves()
            elif isinstance(error, CallError):
                yield error

    @property
    def dominant(self) -> CallError:
        """The error to act on: of the kind met most often among models that were really asked, the last one."""
        leaves = [
            error.__cause__ if isinstance(error, BreakerOpen) and isinstance(error.__cause__, CallError) else error
            for error in self.leaves()
        ]
        asked = [error for error in leaves if not isinstance(error, NotConfigured)] or leaves
        counts = Counter(type(error) for error in asked)
        return max(reversed(asked), key=lambda error: counts[type(error)])


def failure_classes() -> list[type[CallError]]:
    """Every class with a verdict, in the order of the failure table."""
    return [cls for name in __all__ if isinstance(cls := globals()[name], type) and hasattr(cls, "policy")]
