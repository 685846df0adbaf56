"""Prompt caches: marks stand where the file says, the caller's own come first, and vendors without marks get none."""

import pytest

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.messages.blocks import TextBlock
from modelhub.testing import FaultServer, VirtualClock, reroute_config, run_virtual
from tests.tables import table

MARK = {"type": "ephemeral"}
HOUR_MARK = {"type": "ephemeral", "ttl": "1h"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
MESSAGES = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "Hi!"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Why is the sky blue?"},
]


async def send(provider, messages=MESSAGES, tools=(TOOL,), options=None, model="m", **entry):
    """The JSON that a model with a prompt cache sends for *messages*."""
    file = {
        "version": 1,
        "models": {"m": {"provider": provider, "model_name": model, "prompt_cache": options or {}, **entry}},
    }
    async with FaultServer() as server:
        services = Services(clock=VirtualClock())
        async with Hub.from_dict(reroute_config(file, server), environ={}, services=services) as hub:
            await hub.get("m")(messages, tools=list(tools), tags={"session": "s-1"})
        return server.requests("m")[0].body


def find_marks(value, key="cache_control", path=()):
    """Every mark in *value*, by the path to what it is on."""
    found = {}
    if isinstance(value, dict):
        if key in value:
            found[path] = value[key]
        for name, inner in value.items():
            found |= find_marks(inner, key, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found |= find_marks(inner, key, (*path, index))
    return found


def test_tools_system_and_the_last_message_are_marked():
    """What comes again in the next request ends at these places."""
    assert find_marks(run_virtual(send("anthropic"))) == {
        ("tools", 0): MARK,
        ("system", 0): MARK,
        ("messages", 2, "content", 0): MARK,
    }


@table(
    ("places", "marked"),
    [
        (["system"], {("system", 0)}),
        (["last"], {("messages", 2, "content", 0)}),
        (["tools"], {("tools", 0)}),
        ([], set()),
    ],
    ids=str,
)
def test_only_what_the_file_names_is_marked(places, marked):
    """An empty list marks nothing."""
    assert set(find_marks(run_virtual(send("anthropic", options={"mark": places})))) == marked


def test_a_long_time_is_asked_for_in_the_mark():
    """Anthropic keeps five minutes or an hour."""
    assert set(map(str, find_marks(run_virtual(send("anthropic", options={"ttl": "1h"}))).values())) == {
        str({"type": "ephemeral", "ttl": "1h"})
    }


def test_the_callers_own_marks_stay_and_count():
    """Four marks are all a request may have; the caller's go first."""
    own = [{"type": "text", "text": word, "cache_control": {"type": "ephemeral", "ttl": "1h"}} for word in "abc"]
    marks = find_marks(run_virtual(send("anthropic", [*MESSAGES[:1], {"role": "user", "content": own}])))
    assert len(marks) == 4
    assert [mark.get("ttl") for path, mark in marks.items() if path[0] == "messages"] == ["1h"] * 3
    assert ("tools", 0) in marks


@table(
    ("ttl", "own", "lasting"),
    [
        ("1h", {"type": "ephemeral"}, {("tools", 0): "1h", ("system", 0): None, ("messages", 2, "content", 0): None}),
        ("5m", HOUR_MARK, {("tools", 0): "1h", ("system", 0): "1h", ("messages", 2, "content", 0): None}),
        ("1h", HOUR_MARK, {("tools", 0): "1h", ("system", 0): "1h", ("messages", 2, "content", 0): "1h"}),
    ],
)
def test_no_mark_for_an_hour_comes_after_one_for_minutes(ttl, own, lasting):
    """The vendor refuses that, in the order of tools, system and messages; the caller's own marks decide."""
    system = {"role": "system", "content": [{"type": "text", "text": "You are brief.", "cache_control": own}]}
    body = run_virtual(send("anthropic", [system, *MESSAGES[1:]], options={"ttl": ttl}))
    assert {place: mark.get("ttl") for place, mark in find_marks(body).items()} == lasting


def test_the_callers_own_mark_of_a_tool_stays():
    """It is not replaced by that of the file."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    marks = find_marks(run_virtual(send("anthropic", tools=[{**TOOL, "cache_control": mark}])))
    assert marks["tools", 0] == mark


def test_of_too_many_marks_the_last_are_kept():
    """Anthropic refuses a request with five."""
    own = [{"type": "text", "text": word, "cache_control": MARK} for word in "abcdef"]
    marks = find_marks(run_virtual(send("anthropic", [{"role": "user", "content": own}])))
    assert list(marks) == [("messages", 0, "content", index) for index in (2, 3, 4, 5)]


def test_the_callers_messages_are_not_changed():
    """Marks are put on copies."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    run_virtual(send("anthropic", messages))
    assert messages == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]


@table("provider", ["gemini", "ollama", "openai"])
def test_a_vendor_without_marks_is_sent_none(provider):
    """Nor the caller's own: the vendor would refuse them."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": MARK}]}]
    sent = run_virtual(send(provider, messages))
    assert find_marks(sent) == find_marks(sent, "prompt_cache_breakpoint") == {}


def test_dashscope_and_openrouter_are_sent_marks():
    """Both take Anthropic's form on content."""
    assert len(find_marks(run_virtual(send("dashscope", options={"mark": ["system", "last"]})))) == 2
    marks = find_marks(run_virtual(send("openai", options={"mark": ["system", "last"]}, compat="openrouter")))
    assert set(marks) == {("messages", 0, "content", 0), ("messages", 3, "content", 0)}


@pytest.mark.parametrize(("api", "key"), [("chat", "messages"), ("responses", "input")])
def test_openais_later_models_are_sent_breakpoints(api, key):
    """gpt-5.6 is the first that takes them, in both APIs."""
    entry = {"options": {"mark": ["system", "last"]}, "quirks": {"cache_marks": "breakpoint"}, "api": api}
    marks = find_marks(run_virtual(send("openai", **entry)), "prompt_cache_breakpoint")
    assert marks == {
        (key, 0, "content", 0): {"mode": "explicit"},
        (key, 3, "content", 0): {"mode": "explicit"},
    }


@table(("model", "takes"), [("gpt-5.6", True), ("gpt-6-mini", True), ("gpt-5.5", False), ("gpt-4o", False)])
def test_which_of_openais_models_take_breakpoints(model, takes):
    """The name tells."""
    hub = Hub.from_dict({"version": 1, "models": {"m": {"provider": "openai", "model_name": model, "api_key": "k"}}})
    *_, provider = hub.get("m").models[0].stack()
    assert provider.takes_cache_marks is takes


def test_the_key_of_the_cache_is_a_tag():
    """The same session is sent to the same cache, at vendors that have such a key."""
    sent = run_virtual(send("openai", options={"key": "tag:session"}))
    assert sent["prompt_cache_key"] == "s-1"
    assert "prompt_cache_key" not in run_virtual(send("openai", options={"key": "tag:other"}))
    assert "prompt_cache_key" not in run_virtual(send("anthropic", options={"key": "tag:session"}))


def test_thinking_bears_no_mark():
    """The last block before it that can bear one does."""
    messages = [*MESSAGES[:3], {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}]
    assert TextBlock("x", cache=MARK).cache == MARK
    marks = find_marks(run_virtual(send("anthropic", [*messages, {"role": "user", "content": "go on"}])))
    assert len(marks) == 3
