"""Failures of answers: those that say nothing about a model's health, and those of another shape than the vendor's."""

from __future__ import annotations

from typing import NoReturn

from modelhub.core.errors import BadReply, CallError

__all__ = ["SHAPE_ERRORS", "make_misfit", "raise_shape_error"]

SHAPE_ERRORS = (AttributeError, LookupError, TypeError, ValueError)
"""What reading raises where a server writes one kind of value in the place of another."""


def make_misfit(message: str) -> BadReply:
    """Return the failure of an answer that is sound, but not what this one request demanded: no breaker counts it."""
    failure = BadReply(message)
    failure.request_specific = True
    return failure


def raise_shape_error(error: Exception, message: str) -> NoReturn:
    """Raise what *error*, one of `SHAPE_ERRORS`, means: BadReply with *message*, unless it is a failure already."""
    if isinstance(error, CallError):  # RequestRefused is a ValueError too
        raise error
    raise BadReply(message) from error
