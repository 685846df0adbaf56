"""What moved since version 0.1 can still be imported from its old place."""

import importlib

import pytest

from modelhub import RateLimited
from modelhub.core.errors import RetryRule
from tests.tables import table

MOVED = {
    "blocks": ["TextBlock", "Message"],
    "clock": ["Clock"],
    "context": ["Services", "Follower"],
    "errors": ["RateLimited", "Verdict", "Retry", "Breaker", "Billed"],
    "events": ["AttemptEnded", "CallSettled", "How"],
    "model": ["ChatModelBase", "ChatRequest", "Layer"],
    "response": ["ChatResponse", "Later"],
    "stream": ["ChatStream", "on_settled"],
    "tools": ["normalise_tools"],
    "providers": ["Answer"],
    "testing": ["Answer", "rerouted"],
}


@table(("module", "name"), [(module, name) for module, names in MOVED.items() for name in names])
def test_an_old_name_forwards_with_a_warning(module, name):
    """The warning says where the name is now."""
    old = importlib.import_module(f"modelhub.{module}")
    with pytest.warns(DeprecationWarning, match=rf"`modelhub\.{module}\.{name}` is now `modelhub\.\w+"):
        assert getattr(old, name) is not None


@pytest.mark.parametrize("error", [RateLimited, RateLimited("slow down")], ids=["class", "instance"])
def test_the_verdict_of_an_error_is_its_policy(error):
    """On the class and on an instance, with a warning that says so."""
    with pytest.warns(DeprecationWarning, match=r"`RateLimited\.verdict` is now `policy`"):
        assert error.verdict is RateLimited.policy


def test_a_name_that_never_was_is_an_attribute_error():
    """An old module has its old names and no others."""
    from modelhub import errors

    with pytest.raises(AttributeError):
        errors.Nothing


def test_former_values_of_the_retry_rule_are_accepted():
    """With a warning that has the new one; what was never a value is none."""
    with pytest.warns(DeprecationWarning, match="only if it is the last model"):
        assert RetryRule("only if nobody is behind") is RetryRule.IF_LAST
    with pytest.raises(ValueError, match="is not a valid RetryRule"):
        RetryRule("perhaps")
