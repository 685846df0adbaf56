"""The failure of an answer that only one request can be displeased with."""

from __future__ import annotations

from modelhub.core.errors import BadReply

__all__ = ["misfit"]


def misfit(message: str) -> BadReply:
    """Return the failure of an answer that is sound, but not what this one request demanded: no breaker counts it."""
    failure = BadReply(message)
    failure.request_specific = True
    return failure
