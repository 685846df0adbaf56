"""Errors carry their verdict and their facts, and can be told apart however they are caught."""

import copy
import pickle
import traceback

import pytest

from modelhub.core import errors
from modelhub.core.errors import (
    AllModelsFailed,
    AuthenticationFailed,
    BreakerOpen,
    CallError,
    NotConfigured,
    Overloaded,
    RateLimited,
    UnknownModel,
)
from tests.tables import table


def group(*members):
    return AllModelsFailed("no model answered", members)


@table("cls", errors.failure_classes())
def test_every_class_has_a_verdict_and_survives_pickling(cls):
    """Facts and text come through pickle and copy, so that errors cross processes."""
    if cls is AllModelsFailed:
        error = group(RateLimited("slow", retry_after=3))
    else:
        error = cls("it failed", model="gpt", status=418, retry_after=2.5, request_id="r1")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is cls
        assert str(twin) == str(error)
        assert (twin.model, twin.status, twin.retry_after) == (error.model, error.status, error.retry_after)
    assert cls.policy.what


def test_a_chains_failure_is_caught_in_three_ways():
    """As itself, as a CallError, and by its members with `except*`."""
    with pytest.raises(CallError):
        raise group(RateLimited("slow"))
    caught = []
    try:
        raise group(RateLimited("slow"), group(Overloaded("busy")))
    except* RateLimited as limited:
        caught.append(limited)
    except* Overloaded as busy:
        caught.append(busy)
    assert [type(found) for found in caught] == [AllModelsFailed, AllModelsFailed]


def test_the_dominant_error_is_of_the_kind_met_most():
    """Models that were never asked do not count, and a breaker stands for what opened it."""
    assert type(group(RateLimited("a"), Overloaded("b"), RateLimited("c")).dominant) is RateLimited
    assert type(group(NotConfigured("a"), NotConfigured("b"), Overloaded("c")).dominant) is Overloaded
    assert type(group(NotConfigured("a")).dominant) is NotConfigured
    opened = BreakerOpen("left alone")
    opened.__cause__ = AuthenticationFailed("wrong key")
    assert type(group(opened, group(RateLimited("x"))).dominant) in (AuthenticationFailed, RateLimited)
    assert type(group(opened).dominant) is AuthenticationFailed


def test_a_chains_failure_says_when_to_come_back():
    """`retry_after` is the shortest wait that any model asked for."""
    assert group(RateLimited("a", retry_after=30), RateLimited("b", retry_after=4)).retry_after == 4
    assert group(Overloaded("a")).retry_after is None


def test_messages_are_plain():
    """A KeyError's message is not in quotes, and a traceback shows it as it is."""
    error = UnknownModel("no model is called `x`")
    assert str(error) == "no model is called `x`"
    assert isinstance(error, KeyError)
    assert "no model is called `x`" in "".join(traceback.format_exception(error))
