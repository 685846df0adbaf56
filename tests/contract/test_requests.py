"""Recorded conversations, sent to every vendor: each gets a body that its rules allow, and nothing is lost.

Each conversation goes to two vendors, and every third of a vendor's own comes back to it; MODELHUB_LONG=1 sends all of
them to all vendors.
"""

import base64
import itertools
import json
import os
import random
import re
from collections import Counter

import pytest

from modelhub.core.errors import BadReply, InvalidRequest, UnsupportedFeature
from tests.tables import table

EVERY = 1 if os.environ.get("MODELHUB_LONG") else 3
KINDS = ["anthropic", "dashscope", "gemini", "ollama", "openai", "openai_responses"]

# -- conversations in OpenAI's dialect, to all six --------------------------------------------------------------------

# What a vendor cannot take.
UNSUPPORTED = {
    "openai": (),
    "openai_responses": (),
    "anthropic": (r"needs a user message beside the system prompt",),
    "gemini": (r"needs at least one message besides system messages",),
    "dashscope": (),
    "ollama": (r"cannot take an image by its address",),
}


@pytest.fixture(scope="session")
def conversations(recorded):
    """Requests in OpenAI's dialect that a server has answered."""
    found = [
        one["request"]
        for one in recorded
        if one["endpoint"] == "chat" and one["provider"] in ("openai", "dashscope") and one["status"] == 200
        if one["request"] and not one.get("truncated")
    ]
    assert len(found) > 300
    return found


@table("kind", KINDS)
async def test_every_conversation_obeys_every_vendors_rules(kind, conversations, rules, wire, listening):
    """A conversation becomes a body that the vendor takes and that says the same, or an error that says why not."""
    share = conversations[KINDS.index(kind) % EVERY :: EVERY]
    found, wrong = Counter(), []
    async with listening(kind) as vendor:
        model = vendor.model()
        for body in share:
            outcome, detail = await sent(vendor, model, body)
            found[outcome] += 1
            if outcome == "sent":
                wrong += rules.problems(kind, vendor.body, vendor.target)
                wrong += differences(kind, body, vendor.body, wire)
            elif not any(re.search(words, detail) for words in UNSUPPORTED[kind]):
                wrong.append(f"{outcome}: {detail}")
        await model.aclose()
    assert wrong == []
    assert found["sent"] >= 0.97 * len(share), found


async def sent(vendor, model, body):
    """Send *body*'s conversation; "sent", or the error that kept it back."""
    vendor.body = None
    try:
        await model(body["messages"], body.get("tools"), body.get("tool_choice"), stream=False)
    except (UnsupportedFeature, InvalidRequest) as error:
        return type(error).__name__, str(error)
    except BadReply:
        assert vendor.body is not None  # a call was demanded, and the answer has none
    return "sent", ""


def differences(kind, given, body, wire):
    """What *body* says otherwise than *given*, which is in OpenAI's dialect."""
    wanted, found = (wire.essence(wire.read(*pair)) for pair in (("openai", given), (kind, body)))
    chosen = given.get("tool_choice") not in (None, "auto", "none")
    if not (chosen and kind in ("dashscope", "ollama")) and wanted[0] != found[0]:  # there the wish is put in words
        yield f"system: {found[0]!r}, not {wanted[0]!r}"
    if wanted[1] != found[1]:
        yield f"{found[1]}, not {wanted[1]}"
    offered = {} if kind == "ollama" and given.get("tool_choice") == "none" else wire.tools("openai", given)
    if wire.tools(kind, body) != offered and not (chosen and kind == "ollama"):
        yield f"tools: {wire.tools(kind, body)}, not {offered}"


# -- each vendor's own conversations, back to it -----------------------------------------------------------------------

ENDPOINTS = {
    "openai": ("chat",),
    "openai_responses": ("responses",),
    "anthropic": ("messages",),
    "gemini": ("generateContent", "streamGenerateContent"),
    "ollama": ("chat",),
    "dashscope": ("generation",),
}
# What in a recorded request is not for us to send, by the words of the error that says so, or of the body.
BEYOND = {
    "openai": {
        "reasoning_details": "encrypted reasoning of one server",
        "prompt_cache_breakpoint": "a mark of one server's cache",
    },
    "openai_responses": {
        "search_call_1": "a function's result for a call of the vendor's own tool",
    },
    "anthropic": {
        '"type": "(server_tool_use|mcp_tool_use|tool_reference|search_result)"': "traces of its own tools",
        "unknown type `(container_upload|tool_addition|file)`": "files and tools that were uploaded to the vendor",
        "unknown type `content`": "a document that is made of parts",
        "unknown key `citations`": "a wish for citations, which replies do not show",
        "has no result before this message": "a call that was dropped half way, which other vendors refuse",
        '"role": "system"': "a system message further down, which joins the others at the top",
    },
    "gemini": {
        '"(toolCall|toolResponse|executableCode|codeExecutionResult)"': "traces of the vendor's own tools",
        "which no message before it makes": "results without calls",
    },
    "ollama": {"which no message before it makes": "results without calls"},
    "dashscope": {
        "the list is empty": "a prompt in the old form, without messages",
        "media by an address that is not http": "frames of a film, or files on the vendor's own store",
    },
}
LEAST = {"openai": 320, "openai_responses": 200, "anthropic": 140, "gemini": 180, "ollama": 25, "dashscope": 20}
"""How many conversations must have been compared, of all."""


def own(kind, recorded):
    """The recorded requests to *kind* that it has answered, with the place in which they are kept."""
    for one in recorded:
        if (
            one["provider"] == kind.removesuffix("_responses")
            and one["endpoint"] in ENDPOINTS[kind]
            and one["status"] == 200
        ):
            body = one["request"]
            if body and not one.get("truncated") and (kind != "dashscope" or "messages" in body["input"]):
                yield one["id"], body


def as_given(kind, body, wire):
    """The conversation of *body* as a caller would write it: as it is, where that is a dialect we read."""
    if kind == "openai":
        return body["messages"]
    if kind == "openai_responses":
        system = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
        given = body["input"]
        return [*system, *([{"role": "user", "content": given}] if isinstance(given, str) else given)]
    if kind == "anthropic":
        system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
        return [*system, *body["messages"]]
    return wire.neutral(kind, body)


@table("kind", KINDS)
async def test_a_vendors_own_conversations_come_back_to_it(kind, recorded, rules, wire, listening):
    """What was sent to a vendor once, read and written again, says the same to it, thinking and signatures included."""
    compared, wrong = 0, []
    async with listening(kind) as vendor:
        model = vendor.model()
        for name, body in itertools.islice(own(kind, recorded), 0, None, EVERY):
            if is_beyond(kind, json.dumps(body)):
                continue
            found = [one async for one in unlike(kind, vendor, model, body, rules, wire)]
            if is_beyond(kind, "\n".join(found)):
                continue
            compared += 1
            wrong += [f"{name}: {one}" for one in found]
        await model.aclose()
    assert wrong == []
    assert compared >= LEAST[kind] // EVERY


def is_beyond(kind, text):
    """Whether *text*, a recorded request or what was found of it, shows one of the things that are not compared."""
    return any(re.search(words, text) for words in BEYOND[kind])


async def unlike(kind, vendor, model, body, rules, wire):
    """What is sent otherwise than *body*, or why nothing is sent."""
    try:
        await model(as_given(kind, body, wire), stream=False, **continuation(body))
    except (UnsupportedFeature, InvalidRequest) as error:
        yield f"refused: {error}"
        return
    # xAI's items lack what OpenAI's have, and some are younger than the SDK: they go back as they are.
    is_formed = kind != "openai_responses" or not has_old_items(body)
    for one in rules.problems(kind, vendor.body, vendor.target) if is_formed else ():
        if "which no call waits for" not in one or not continuation(body):
            yield one
    for reading in (lambda given: wire.essence(wire.read(kind, given)), lambda given: signed(kind, given, wire)):
        if reading(body) != reading(vendor.body):
            yield f"{reading(vendor.body)}, not {reading(body)}"


NOT_SIGNED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""Google's own word for a call without a signature, in base64."""


def continuation(body):
    """What of *body* names a conversation that the vendor keeps."""
    return {name: body[name] for name in ("previous_response_id", "conversation") if body.get(name)}


def has_old_items(body):
    """Whether a request of the Responses API has items of another form than the SDK's types."""
    items = body["input"] if isinstance(body["input"], list) else []
    kinds = {item.get("type") for item in items}
    return any(item.get("type") == "reasoning" and "id" not in item for item in items) or bool(
        kinds & {"additional_tools", "configuration_update"}
    )


READ_OTHERWISE = ("message", "function_call", "function_call_output")


def is_kept(item):
    """Whether *item* of a request can be sent again by who stores nothing."""
    return item["type"] != "reasoning" or item.get("encrypted_content")


def signed(kind, body, wire):
    """The thinking that must go back as it came, and the signatures, in order."""
    if kind == "openai_responses":
        given = body["input"] if isinstance(body["input"], list) else []
        return [item for item in given if item.get("type", "message") not in READ_OTHERWISE and is_kept(item)]
    items = [item for _, items in wire.read(kind, body) for item in items]
    if kind == "anthropic":
        return [item for item in items if item[0] == "thinking" and item[2]]
    if kind == "gemini":
        found = [item[-1] for item in items if len(item) > {"text": 2, "thinking": 2, "call": 4}.get(item[0], 9)]
        return [signature for signature in found if signature not in (None, NOT_SIGNED)]
    return []


@table("kind", KINDS)
async def test_a_large_image_arrives_whole_each_time(kind, listening):
    """Whether the SDK writes the request or not: the same body, with all of the image and nothing else in its place."""
    data = base64.b64encode(random.Random(1).randbytes(600_000)).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    message = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}
    async with listening(kind) as vendor:
        model, bodies = vendor.model(), []
        for _ in range(4):
            await model([message], stream=False)
            bodies.append(json.dumps(vendor.body, sort_keys=True))
        await model.aclose()
    assert bodies[0].count(data) == 1
    assert set(bodies) == {bodies[0]}
