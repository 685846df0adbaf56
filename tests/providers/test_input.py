"""What callers pass, to all five vendors: what is sent, what is adapted, and what is refused before anything is."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhub import Hub
from modelhub.core.errors import CallError, InvalidRequest, UnsupportedFeature
from modelhub.registry import load_provider_options
from tests.tables import table

KINDS = ["anthropic", "dashscope", "gemini", "ollama", "openai"]
NAMES = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-flash", "dashscope": "qwen-plus"}


def answer(kind, text="ok", calls=()):
    """A whole answer in the vendor's form; *calls* are names and arguments."""
    if kind == "anthropic":
        used = [{"type": "tool_use", "id": f"c{i}", "name": n, "input": a} for i, (n, a) in enumerate(calls)]
        content = [*([{"type": "text", "text": text}] if text else []), *used]
        usage = {"input_tokens": 1, "output_tokens": 1}
        stop = "tool_use" if calls else "end_turn"
        return {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "c",
            "content": content,
            "stop_reason": stop,
            "usage": usage,
        }
    if kind == "gemini":
        parts = [*([{"text": text}] if text else []), *({"functionCall": {"name": n, "args": a}} for n, a in calls)]
        return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}
    if kind == "ollama":
        used = [{"function": {"name": n, "arguments": a}} for n, a in calls]
        message = {"role": "assistant", "content": text or "", **({"tool_calls": used} if used else {})}
        return {"model": "o", "message": message, "done": True, "done_reason": "stop"}
    used = [
        {"id": f"c{i}", "type": "function", "index": i, "function": {"name": n, "arguments": json.dumps(a)}}
        for i, (n, a) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text or "", **({"tool_calls": used} if used else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if used else "stop"}
    if kind == "dashscope":
        return {
            "request_id": "r",
            "output": {"choices": [choice]},
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    return {"id": "c", "model": "m", "choices": [choice]}


def make(kind, loopback, **more):
    """A model of *kind* that asks the loopback server."""
    cls = load_provider_options(kind)
    key = {"api_key": "k-of-nobody"} if "api_key" in cls.model_fields else {}
    suffix = {"openai": "/v1", "dashscope": "/api/v1"}.get(kind, "")
    return cls(model_name=NAMES.get(kind, "m"), base_url=loopback.url + suffix, **key, **more).connect()


async def sent(kind, loopback, messages, *args, reply=None, more=None, **call):
    """The body that a call sends, and its reply."""
    loopback.answers(reply or answer(kind))
    async with make(kind, loopback, **(more or {})) as model:
        got = await model(messages, *args, stream=False, **call)
    return loopback.asked.pop().json, got


def asked(loopback):
    """Every request so far, as text."""
    return [one.body.decode() for one in loopback.asked]


# -- what cannot be written -------------------------------------------------------------------------------------------


def deep(levels):
    """An object in an object in an object."""
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def user(*parts):
    """One user message of *parts*."""
    return [{"role": "user", "content": list(parts)}]


LOOP = []
LOOP.append(LOOP)
HALF = "half \ud83d of it"
TOOL_LOOP = [
    {"role": "user", "content": "x"},
    {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
]
UNWRITABLE = {
    "text": ({"messages": HALF}, r"^messages\[0\]\.content: character 5"),
    "system": (
        {"messages": [{"role": "system", "content": HALF}, {"role": "user", "content": "x"}]},
        r"^messages\[0\]",
    ),
    "part": ({"messages": user({"type": "text", "text": HALF})}, r"^messages\[0\]\.content\[0\]"),
    "result": ({"messages": [*TOOL_LOOP, {"role": "tool", "tool_call_id": "a", "content": HALF}]}, r"^messages\[2\]"),
    "name": ({"messages": [{"role": "user", "name": HALF, "content": "x"}]}, r"^messages\[0\]\.name"),
    "address": ({"messages": user({"type": "image_url", "image_url": f"https://x/{HALF}"})}, r"^messages\[0\]"),
    "base64": (
        {"messages": user({"type": "image_url", "image_url": f"data:image/png;base64,{HALF}"})},
        r"^messages\[0\]",
    ),
    "tool name": ({"tools": [{"name": HALF}]}, r"^tools\[0\]\.name"),
    "description": ({"tools": [{"name": "f", "description": HALF}]}, r"^tools\[0\]\.description"),
    "schema": ({"tools": [{"name": "f", "parameters": {"title": HALF}}]}, r"^tools\[0\]\.parameters"),
    "deep schema": ({"tools": [{"name": "f", "parameters": deep(3000)}]}, r"^tools\[0\]\.parameters"),
    "option": ({"user": HALF}, "^user: character 5"),
    "metadata": ({"metadata": {"a": [HALF]}}, r"^metadata\.a\[0\]"),
    "key": ({"metadata": {HALF: 1}}, "surrogate"),
    "nan": ({"temperature": float("nan")}, "^temperature: expected a JSON number"),
    "infinity": ({"metadata": {"a": float("inf")}}, r"^metadata\.a: expected a JSON number"),
    "bytes": ({"user": b"x"}, "^user: expected a JSON value, got bytes"),
    "set": ({"stop": {1, 2}}, "^stop: expected a JSON value, got set: give a list"),
    "object": ({"metadata": {"a": object()}}, r"^metadata\.a: expected a JSON value, got object"),
    "integer": ({"seed": 10**5000}, "^seed: an integer of"),
    "deep": ({"metadata": deep(3000)}, "^metadata: is nested"),
    "cycle": ({"metadata": LOOP}, "^metadata: is nested"),
    "header": ({"extra_headers": {"X": "a\r\nY: z"}}, r"^extra_headers\.X"),
    "path": ({"messages": user({"type": "image", "source": {"type": "path", "path": "/a\0b.png"}})}, r"^messages\[0\]"),
    "no class": ({"structured_model": 7}, "^structured_model: expected a pydantic class or a JSON Schema"),
    "no schema": ({"structured_model": {}}, "^structured_model: the JSON Schema is empty"),
}


@table("name", UNWRITABLE)
async def test_what_cannot_be_written_is_refused_alike_before_any_vendor_is_asked(loopback, name):
    """It is the caller's mistake, with its place; no model is asked, no attempt made, and nobody else notices."""
    call, words = UNWRITABLE[name]
    loopback.answers(answer("openai"))
    entry = {"model_name": "m", "api_key": "k", "base_url": f"{loopback.url}/v1"}
    models = {kind: {"provider": kind, **entry} for kind in ("openai", "gemini")}
    breaker = {"breaker": {"failures": 1}}
    hub = Hub.from_dict({"version": 1, "defaults": breaker, "models": models, "chains": {"all": {"models": [*models]}}})
    async with hub:
        with pytest.raises(InvalidRequest, match=words) as caught:
            await hub.get("all")(**{"messages": "x", **call})
        assert (loopback.asked, list(caught.value.attempts)) == ([], [])
        assert (await hub.get("openai")("x")).text == "ok"


async def test_halves_that_belong_together_are_joined(loopback):
    """Text that was put together from pieces may hold both halves of a character, which make one."""
    body, _ = await sent("openai", loopback, "an \ud83d" + "\ude00 emoji")
    assert body["messages"][0]["content"] == "an \U0001f600 emoji"


EARLIER = {
    "half": {"content": HALF},
    "thinking": {"reasoning_content": HALF, "content": "x"},
    "name": {"tool_calls": [{"id": "a", "function": {"name": HALF, "arguments": "{}"}}]},
    "id": {"tool_calls": [{"id": "\ud800", "function": {"name": "f", "arguments": "{}"}}]},
    "escape": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"a": "\\ud800"}'}}]},
    "not JSON": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{'a': 1}"}}]},
    "no object": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[1]"}}]},
    "nan": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"a": NaN}'}}]},
    "overflow": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"a": 1e999}'}}]},
    "deep": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"a":' * 500 + "1" + "}" * 500}}]},
    "too deep": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"a":' * 3000 + "1"}}]},
    "deep input": {"content": [{"type": "tool_use", "id": "a", "name": "f", "input": deep(3000)}]},
    "two of one id": {
        "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"id": "a", "function": {"name": "g", "arguments": "{}"}},
        ]
    },
    "a long id": {"tool_calls": [{"id": "x/" * 200, "function": {"name": "f", "arguments": "{}"}}]},
}


@table("kind", KINDS)
async def test_what_a_model_wrote_earlier_is_always_accepted(loopback, kind):
    """Nobody could mend it: what cannot be sent is replaced, and arguments that are no JSON object are wrapped."""
    loopback.answers(answer(kind))
    async with make(kind, loopback) as model:
        for name, message in EARLIER.items():
            talk = [{"role": "user", "content": "x"}, {"role": "assistant", **message}]
            calls = message.get("tool_calls") or [part for part in message["content"] if isinstance(part, dict)]
            talk += [{"role": "tool", "tool_call_id": call["id"], "content": "no"} for call in calls]
            if not calls:
                talk.append({"role": "user", "content": "go on"})
            await model(talk, stream=False)
            text = loopback.asked[-1].body.decode()
            assert json.loads(text), name
            if name == "not JSON":
                assert "INVALID_JSON" in text
    assert len(loopback.asked) == len(EARLIER)


texts = st.text(st.characters(exclude_categories=[]), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(scalars, lambda one: st.lists(one, max_size=2) | st.dictionaries(texts, one, max_size=2))
blocks = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}),
    st.fixed_dictionaries(
        {"type": st.just("thinking"), "thinking": texts},
        optional={"signature": texts, "data": texts, "provider": st.sampled_from(KINDS)},
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": texts,
            "name": texts.filter(bool),
            "input": st.dictionaries(texts, values, max_size=2),
            "raw_input": texts,
        },
        optional={"error": texts, "signature": texts, "provider": st.sampled_from(KINDS)},
    ),
)


@given(content=st.lists(blocks, max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_reply_is_accepted_as_the_next_message(content):
    """Whatever a vendor made of its answer, all five are sent JSON in UTF-8 that has it as an earlier message."""
    assert_all_encode(content)


noise = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from([b"", b"0", b"\\ud800", b"\x00", b"null"])), max_size=2
)


@table("kind", KINDS)
@given(text=texts, calls=st.lists(st.tuples(texts, values), max_size=3), noise=noise)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
async def test_what_is_read_from_fuzzed_bytes_is_accepted_as_the_next_message(kind, loopback, text, calls, noise):
    """A reply that a provider makes of an odd answer can be sent to all five; what cannot be read is no reply."""
    body = json.dumps(answer(kind, text, calls)).encode()
    for place, piece in noise:
        body = body[: place % len(body)] + piece + body[place % len(body) + 1 :]
    loopback.answers(body)
    async with make(kind, loopback) as model:
        try:
            reply = await model("x", stream=False)
        except CallError:
            return
    assert_all_encode(reply.content)


def assert_all_encode(content):
    """Each vendor is sent JSON in UTF-8 that has *content* as an earlier message, with a result for every call."""
    from modelhub.core.context import CallContext, Services
    from modelhub.core.request import ChatRequest
    from modelhub.messages.normalize import normalise_messages
    from modelhub.providers.json_text import dump_json
    from modelhub.providers.tool_names import with_vendor_names

    ids = [block["id"] for block in content if block["type"] == "tool_use"]
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]
    results = [{"type": "tool_result", "id": one, "output": "done"} for one in ids if one]
    names = [block["name"] for block in content if block["type"] == "tool_use" and not block["id"]]
    results += [{"type": "tool_result", "name": one, "output": "done"} for one in names]
    talk.append({"role": "user", "content": [*results, {"type": "text", "text": "go on"}]})
    request = ChatRequest(normalise_messages(talk), (), None, None, None, {}, CallContext(Services(), "m"))
    for model in MODELS:
        renamed, _ = with_vendor_names(request, model.tool_name_pattern)
        assert json.loads(dump_json(model.build_request(renamed, None, stream=False).body))


class _Nowhere:
    url = "http://127.0.0.1:9"


MODELS = [make(kind, _Nowhere) for kind in KINDS]


# -- tools that a vendor refuses --------------------------------------------------------------------------------------

TITLE, BODY = {"type": "string", "maxLength": 9}, {"type": "string"}
ONE_OF_THESE = {
    "type": "object",
    "properties": {"title": TITLE, "body": BODY},
    "anyOf": [{"required": ["title"]}, {"required": ["body"]}],
}
BY_REFERENCE = {
    "$ref": "#/$defs/Update",
    "$defs": {"Update": {"type": "object", "properties": {"title": TITLE}, "required": ["title"]}},
}
EITHER = {
    "oneOf": [
        {"type": "object", "properties": {"kind": {"const": "a"}, "title": TITLE}, "required": ["kind", "title"]},
        {"type": "object", "properties": {"kind": {"const": "b"}, "body": BODY}, "required": ["kind", "body"]},
    ]
}
BOTH = {"allOf": [{"properties": {"title": TITLE}, "required": ["title"]}, {"properties": {"body": BODY}}]}
ROOTS = {
    "anyOf": (ONE_OF_THESE, {"title", "body"}, [], '{"required": ["title"]}'),
    "$ref": (BY_REFERENCE, {"title"}, ["title"], ""),
    "oneOf": (EITHER, {"kind", "title", "body"}, ["kind"], "exactly one of"),
    "allOf": (BOTH, {"title", "body"}, ["title"], ""),
    "null": ({"type": ["object", "null"], "properties": None, "required": None}, set(), [], ""),
    "MCP": ({"type": "object", "required": ["title"]}, {"title"}, ["title"], ""),
}


def declared(kind, body):
    """Each tool's name, description and schema, as the vendor was sent them."""
    if kind == "anthropic":
        return [(one["name"], one.get("description", ""), one["input_schema"]) for one in body["tools"]]
    tools = body["parameters"]["tools"] if kind == "dashscope" else body["tools"]
    return [
        (one["function"]["name"], one["function"].get("description", ""), one["function"]["parameters"])
        for one in tools
    ]


@table("root", ROOTS)
@table("kind", ["anthropic", "dashscope", "ollama", "openai"])
async def test_a_schema_with_alternatives_at_its_root_becomes_a_plain_object(loopback, kind, root):
    """All its properties are in it, and what an object cannot say is said in words."""
    schema, names, required, words = ROOTS[root]
    before = json.dumps(schema)
    tool = {"type": "function", "function": {"name": "update", "description": "Updates.", "parameters": schema}}
    body, _ = await sent(kind, loopback, "x", [tool])
    ((_, description, parameters),) = declared(kind, body)
    assert parameters["type"] == "object"
    assert not parameters.keys() & {"anyOf", "oneOf", "allOf", "$ref", "not", "enum"}
    assert (set(parameters["properties"]), parameters.get("required") or []) == (names, required)
    assert description.startswith("Updates.")
    assert words in description
    assert json.dumps(schema) == before


async def test_a_strict_tool_that_cannot_be_strict_is_sent_without(loopback):
    """The server would refuse the request: strictness is a guarantee on top."""
    closed = {"type": "object", "properties": {"a": BODY}, "required": ["a"], "additionalProperties": False}
    tools = [
        {"name": name, "parameters": schema, "strict": True} for name, schema in (("f", closed), ("g", ROOTS["MCP"][0]))
    ]
    body, _ = await sent("openai", loopback, "x", tools)
    assert [tool["function"]["strict"] for tool in body["tools"]] == [True, False]


ODD_NAMES = ["files.read", "files/read", "weather_" * 20, "天气", "1st", "plain"]


@table("kind", ["anthropic", "dashscope", "gemini", "openai"])
async def test_names_that_a_vendor_refuses_are_replaced_and_put_back(loopback, kind):
    """In tools, in the choice, in earlier calls and in the reply: the caller sees the names that he gave."""
    tools = [{"type": "function", "function": {"name": name}} for name in ODD_NAMES]
    talk = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "files/read", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "ok"},
    ]
    body, _ = await sent(kind, loopback, talk, tools)
    if kind == "gemini":
        names = [one["name"] for one in body["tools"][0]["functionDeclarations"]]
    else:
        names = [name for name, _, _ in declared(kind, body)]
    assert len(set(names)) == len(ODD_NAMES)
    assert all(name.isascii() and len(name) <= 64 and re.fullmatch(r"[\w.-]+", name) for name in names)
    assert names[5] == "plain"
    assert json.dumps(body).count(f'"name": "{names[1]}"') >= 2
    assert "files/read" not in json.dumps(
        body["messages" if "messages" in body else "contents" if kind == "gemini" else "input"]
    )
    loopback.answers(answer(kind, None, [(names[3], {"city": "x"})]))
    async with make(kind, loopback) as model:
        reply = await model("x", tools, "天气", stream=False)
    assert names[3] in loopback.asked[-1].body.decode()
    assert [call["name"] for call in reply.tool_calls] == ["天气"]


# -- a tool loop goes on with another vendor --------------------------------------------------------------------------


@table(
    ("earlier", "thinks"),
    [
        ([], False),
        ([{"type": "thinking", "thinking": "t", "signature": "c2ln", "provider": "anthropic"}], True),
        ([{"type": "thinking", "thinking": "t", "provider": "openai"}], False),
    ],
)
async def test_claude_thinks_only_in_a_loop_that_began_with_its_thoughts(loopback, earlier, thinks):
    """Without them the API refuses thinking until the results are answered; the call is made without it."""
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    loop = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [*earlier, call]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096}
    body, _ = await sent("anthropic", loopback, loop, more=more)
    assert ("thinking" in body) is thinks
    body, _ = await sent("anthropic", loopback, [*loop, {"role": "assistant", "content": "y"}, *user("z")], more=more)
    assert "thinking" in body
    body, _ = await sent("anthropic", loopback, loop, more={"thinking": {"type": "adaptive"}})
    assert "thinking" in body


async def test_gemini_behind_openais_dialect_gets_its_word_for_foreign_calls(loopback):
    """Its endpoint demands a signature of the first call of a turn, and takes a documented word in its place."""
    calls = [{"id": one, "function": {"name": "f", "arguments": "{}"}} for one in "ab"]
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": calls}]
    talk += [{"role": "tool", "tool_call_id": one, "content": "1"} for one in "ab"]
    body, _ = await sent("openai", loopback, talk, more={"compat": "gemini"})
    first, second = body["messages"][1]["tool_calls"]
    assert first["extra_content"] == {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert "extra_content" not in second
    calls[0]["extra_content"] = {"google": {"thought_signature": "c2ln"}}
    body, _ = await sent("openai", loopback, talk, more={"compat": "gemini"})
    assert body["messages"][1]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "c2ln"}}


# -- what servers with a grammar are sent -----------------------------------------------------------------------------

WHOLE = {
    "type": "object",
    "properties": {"code": {"type": "string", "maxLength": 5, "pattern": "[A-Z]+"}, "n": {"type": "integer"}},
    "required": ["code"],
}


@table(("compat", "pattern"), [("vllm", True), ("lmstudio", True), ("llamacpp", False)])
async def test_a_server_with_a_grammar_gets_the_whole_schema(loopback, compat, pattern):
    """It can hold an answer to bounds that OpenAI's strict mode refuses; llama.cpp takes patterns of whole texts."""
    reply = answer("openai", '{"code": "ABC"}')
    body, got = await sent("openai", loopback, "x", structured_model=WHOLE, reply=reply, more={"compat": compat})
    schema = body["response_format"]["json_schema"]["schema"]
    assert (schema["properties"]["code"]["maxLength"], schema["required"]) == (5, ["code"])
    assert ("pattern" in schema["properties"]["code"]) is pattern
    assert got.metadata == {"code": "ABC"}


@pytest.mark.parametrize(
    "own", [{"extra_body": {"chat_template_kwargs": {"mine": 1}}}, {"chat_template_kwargs": {"mine": 1}}]
)
async def test_the_callers_template_arguments_stand_beside_ours(loopback, own):
    """Nobody's wish is lost."""
    more = {"compat": "vllm", "reasoning_effort": "none"}
    body, _ = await sent("openai", loopback, "x", more=more, **own)
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "mine": 1}


@table("text", ['{"code": "ABCDEF"}', '{"n": 1}', '{"code": "abc"}', '{"code": "A", "n": "1"}', "[]"])
async def test_an_answer_must_fit_the_schema_that_was_given(loopback, text):
    """A JSON Schema is validated like a class."""
    from modelhub.core.errors import BadReply

    with pytest.raises(BadReply):
        await sent("openai", loopback, "x", structured_model=WHOLE, reply=answer("openai", text))


# -- files that were uploaded to a vendor -----------------------------------------------------------------------------


UPLOADED = {
    "openai": {"type": "file", "file": {"file_id": "file-1"}},
    "anthropic": {"type": "document", "source": {"type": "file", "file_id": "file-1"}},
}


@table("kind", KINDS)
@table("owner", UPLOADED)
async def test_an_uploaded_file_is_named_to_its_own_vendor_only(kind, owner, loopback):
    """Another vendor does not know the id: that is a feature it lacks, and the next model may be asked."""
    messages = [{"role": "user", "content": ["Read it.", UPLOADED[owner]]}]
    if kind == owner:
        body, _ = await sent(kind, loopback, messages)
        assert '"file-1"' in json.dumps(body)
    else:
        with pytest.raises(UnsupportedFeature):
            await sent(kind, loopback, messages)
