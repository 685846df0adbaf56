"""What happened, as frozen records for whoever watches: logs, meters, tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from modelhub.core.response import Attempt, ChatUsage

if TYPE_CHECKING:
    from datetime import datetime

    from modelhub.core.errors import CallError, ConfigError

__all__ = [
    "ArmEjected",
    "ArmRestored",
    "AttemptEnded",
    "CallEnded",
    "Event",
    "FellBack",
    "CompletionStatus",
    "Observer",
    "ParameterChanged",
    "ReloadFailed",
    "Reloaded",
    "Restarted",
    "Waiting",
]

CompletionStatus = Literal["complete", "failed", "closed", "cancelled", "abandoned"]
"""How a reply was finished: `closed` by the reader, `abandoned` if he forgot it."""


class AttemptEnded(NamedTuple):
    """One attempt is over, well or not."""

    call_id: str
    attempt: Attempt


class Waiting(NamedTuple):
    """The same model will be asked again after *seconds*; *error* is why it must be."""

    call_id: str
    model: str
    seconds: float
    attempt: int
    error: CallError


class FellBack(NamedTuple):
    """The chain goes from *model* to *to*, or to nobody (None).

    *arm* and *to_arm* are their deployments or keys, where several share a place of the chain.
    """

    call_id: str
    chain: str
    model: str
    to: str | None
    error: CallError
    arm: str | None = None
    to_arm: str | None = None


class Restarted(NamedTuple):
    """A stream broke and *to* begins the answer anew; *arm* and *to_arm* as in `FellBack`."""

    call_id: str
    chain: str
    model: str
    to: str
    error: CallError
    arm: str | None = None
    to_arm: str | None = None


class ArmEjected(NamedTuple):
    """An *arm* of the chain is passed over because of *error*, which needs a person: a bad key, no credit, no key.

    Reported once, until the arm answers again; `retry_after` of the error says when it is probed, if it is.
    """

    call_id: str
    chain: str
    model: str
    arm: str
    error: CallError


class ArmRestored(NamedTuple):
    """An ejected *arm* of the chain has answered again."""

    call_id: str
    chain: str
    model: str
    arm: str


class ParameterChanged(NamedTuple):
    """A *parameter* of a call was left out or rounded for *model*, for the first time; *reason* says why, or how."""

    call_id: str
    model: str
    parameter: str
    reason: str
    is_dropped: bool


class CallEnded(NamedTuple):
    """A call is finished. *usage* is what is known to have been used by all its attempts.

    *first_token* is the time from the start of the call to the first content, in seconds, and None for an answer that
    came in one piece. *shape* is what the call asked for, without what it said, if the hub records it in a ledger.
    """

    call_id: str
    at: datetime
    requested: str
    model: str | None
    how: CompletionStatus
    error: str | None
    duration: float
    first_token: float | None
    usage: ChatUsage | None
    attempts: tuple[Attempt, ...]
    tags: Mapping[str, str]
    shape: Mapping[str, Any] | None = None


class Reloaded(NamedTuple):
    """A hub uses its configuration as it is now; *changes* is a `ConfigChanges`, false if nothing has changed.

    *file* is empty for a configuration from a dict.
    """

    file: str
    changes: Any


class ReloadFailed(NamedTuple):
    """A hub's configuration has changed and cannot be used; the hub goes on as it was. *error* has every problem."""

    file: str
    error: ConfigError


CallEvent = AttemptEnded | Waiting | FellBack | Restarted | ArmEjected | ArmRestored | ParameterChanged | CallEnded
Event = CallEvent | Reloaded | ReloadFailed
Observer = Callable[[Event], None]
