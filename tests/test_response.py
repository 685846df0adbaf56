"""Replies are records: dicts whose keys are attributes, whose values may come later."""

import copy
import json
import pickle
from decimal import Decimal

import pytest

from modelhub.core.response import ChatResponse, ChatUsage, Lazy
from tests.tables import table

TEXT = [{"type": "text", "text": "hello"}]


def lazy(**facts):
    return ChatResponse(Lazy(lambda: [dict(TEXT[0])]), id="1", created_at="now", delta="lo", is_last=False, **facts)


def eager():
    return ChatResponse(list(TEXT), id="1", created_at="now", delta="lo", is_last=False)


def test_fields_are_read_both_ways():
    """`r.content` and `r["content"]` are the same object, and so is what is written through either."""
    reply = lazy()
    assert reply.content is reply["content"]
    reply.metadata = {"a": 1}
    assert reply["metadata"] == {"a": 1}
    reply["metadata"] = None
    assert reply.metadata is None


def test_a_missing_attribute_is_an_attribute_error():
    """`hasattr`, `getattr` with a default and `del` work as for any object."""
    reply = eager()
    assert not hasattr(reply, "nothing")
    assert getattr(reply, "nothing", 3) == 3
    with pytest.raises(AttributeError, match="'ChatResponse' object has no attribute 'nothing'"):
        reply.nothing
    with pytest.raises(AttributeError):
        del reply.nothing
    with pytest.raises(KeyError):
        reply["nothing"]


@table(
    "look",
    [
        lambda r: json.loads(json.dumps(r))["content"],
        lambda r: dict(r)["content"],
        lambda r: {**r}["content"],
        lambda r: (r | {})["content"],
        lambda r: dict(r.items())["content"],
        lambda r: next(iter(r.values())),
        lambda r: r.get("content"),
        lambda r: r.pop("content"),
        lambda r: r.setdefault("content", 1),
        lambda r: copy.copy(r)["content"],
        lambda r: copy.deepcopy(r).content,
        lambda r: pickle.loads(pickle.dumps(r)).content,
    ],
)
def test_nobody_ever_sees_a_value_that_is_not_built(look):
    """However the content of a snapshot is looked at, it is the blocks."""
    assert look(lazy()) == TEXT


def test_copies_are_of_the_same_class_and_equal():
    """Copying, deep copying and pickling keep class and fields, and share nothing they should not."""
    for twin in (copy.copy(lazy()), copy.deepcopy(lazy()), pickle.loads(pickle.dumps(lazy()))):
        assert type(twin) is ChatResponse
        assert twin == eager()
        assert (twin != eager()) is False
    one = lazy()
    other = copy.deepcopy(one)
    other.content[0]["text"] = "changed"
    assert one.text == "hello"


def test_a_value_is_built_once():
    """Reading twice gives the same list, so that a change to it stays."""
    built = []
    reply = ChatResponse(Lazy(lambda: built.append(1) or [dict(TEXT[0])]), delta="")
    assert reply.content is reply.content
    assert repr(reply).startswith("ChatResponse(content=[{'type': 'text'")
    assert built == [1]


def test_a_whole_reply_says_all_its_text_is_new():
    """`delta` of a reply that was not streamed is its text."""
    reply = ChatResponse([{"type": "thinking", "thinking": "hm"}, *TEXT, {"type": "text", "text": "!"}])
    assert (reply.text, reply.thinking, reply.delta) == ("hello!", "hm", "hello!")
    assert (reply.is_last, reply.restarts) == (True, 0)
    assert reply.tool_calls == []
    assert reply.type == "chat"


def test_two_replies_share_nothing():
    """Lists are made for each reply."""
    assert ChatResponse([]).attempts is not ChatResponse([]).attempts
    assert ChatResponse([]).id != ChatResponse([]).id


def test_usage_is_json_and_its_cost_a_decimal():
    """A cost is exact, is text in JSON, and None where it is not known."""
    usage = ChatUsage(10, 5, cost=Decimal("0.00125"))
    assert usage.cost == Decimal("0.00125")
    assert json.loads(json.dumps(usage))["cost"] == "0.00125"
    assert usage.total_tokens == 15
    assert ChatUsage().cost is None
    assert pickle.loads(pickle.dumps(usage)).cost == Decimal("0.00125")


def test_usage_adds_up_and_an_unknown_cost_stays_unknown():
    """Adding counts every part; one unknown cost makes the sum unknown, one estimate an estimate."""
    total = ChatUsage(1, 2, 0.5, cache_read_tokens=1, cost="0.1")
    total.add(ChatUsage(10, 20, 1.0, reasoning_tokens=3, cost="0.2"))
    assert (total.input_tokens, total.output_tokens, total.time, total.cost) == (11, 22, 1.5, Decimal("0.3"))
    assert (total.cache_read_tokens, total.reasoning_tokens, total.estimated) == (1, 3, False)
    total.add(ChatUsage(1, 1, estimated=True))
    assert (total.cost, total.estimated) == (None, True)


def test_usage_takes_what_agent_frameworks_say_of_it():
    """The type and metadata of AgentScope's usage are accepted; without metadata the record has no such key."""
    usage = ChatUsage(input_tokens=1, output_tokens=2, time=0.5, type="chat", metadata={"trace": "7"})
    assert (usage.metadata, usage["metadata"], usage.type) == ({"trace": "7"}, {"trace": "7"}, "chat")
    assert ChatUsage(1, 2).metadata is None
    assert "metadata" not in ChatUsage(1, 2)
