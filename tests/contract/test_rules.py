"""The rules themselves: what breaks one is found, and what the vendors have taken is not called wrong."""

import copy

from tests.tables import table

USER = {"role": "user", "content": "hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASKS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "3"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
USE = {"type": "tool_use", "id": "c1", "name": "f", "input": {}}
USED = {"type": "tool_result", "tool_use_id": "c1", "content": "3"}
SAYS = {"text": "hello"}
FCALL = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2lnbmVk"}
FRESULT = {"functionResponse": {"name": "f", "response": {"output": "3"}}}
PIXEL = "iVBORw0KGgo="


def openai(*messages, **more):
    """A body for OpenAI."""
    return {"model": "m", "messages": list(messages), **more}


def responses(*items, **more):
    """A body for OpenAI's Responses."""
    return {"model": "m", "store": False, "input": list(items), **more}


def anthropic(*messages, **more):
    """A body for Anthropic; the messages are contents, the user's first and then in turn."""
    roles = ("user", "assistant")
    return {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": roles[place % 2], "content": content} for place, content in enumerate(messages)],
        **more,
    }


def gemini(*turns, **more):
    """A body for Gemini; the turns are lists of parts, the user's first and then in turn."""
    roles = ("user", "model")
    return {"contents": [{"role": roles[n % 2], "parts": parts} for n, parts in enumerate(turns)], **more}


def dashscope(*messages, **parameters):
    """A body for DashScope's text endpoint."""
    return {
        "model": "m",
        "input": {"messages": list(messages)},
        "parameters": {"result_format": "message", **parameters},
    }


def ollama(*messages, **more):
    """A body for Ollama."""
    return {"model": "m", "messages": list(messages), "stream": False, **more}


def image(url):
    """A user's message with an image, for OpenAI."""
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


OCALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {}}}]}
ORESULT = {"role": "tool", "content": "3", "tool_name": "f", "tool_call_id": "c1"}
DCALL = {**ASKS, "content": ""}
RCALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
RRESULT = {"type": "function_call_output", "call_id": "c1", "output": "3"}
RTOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VhbGVk"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
SOURCE = {"type": "base64", "media_type": "image/png", "data": PIXEL}

GOOD = [
    ("openai", openai(USER, ASKS, RESULT, tools=[TOOL])),
    ("openai", openai(image(f"data:image/png;base64,{PIXEL}"), stream=True, stream_options={"include_usage": True})),
    (
        "openai_responses",
        responses(USER, THOUGHT, RCALL, RRESULT, tools=[RTOOL], include=["reasoning.encrypted_content"]),
    ),
    ("openai_responses", responses(USER, THOUGHT, SEARCH, {"role": "assistant", "content": "hi"}, USER)),
    ("anthropic", anthropic("hello", [USE], [USED], tools=[{"name": "f", "input_schema": {"type": "object"}}])),
    ("anthropic", anthropic([{"type": "image", "source": SOURCE}], system="be brief", temperature=0.5)),
    ("gemini", gemini([SAYS], [FCALL], [FRESULT])),
    ("gemini", gemini([{"inlineData": {"mimeType": "image/png", "data": PIXEL}}], systemInstruction={"parts": [SAYS]})),
    ("dashscope", dashscope(USER, DCALL, RESULT, tools=[TOOL])),
    ("ollama", ollama(USER, OCALL, ORESULT, tools=[TOOL])),
    ("ollama", ollama({**USER, "images": [PIXEL]}, think=True)),
]

BAD = [
    ("openai", openai(USER, bogus=1), "bogus"),
    ("openai", openai({"role": "user", "content": [{"type": "text", "text": "x", "foo": 1}]}), "foo"),
    ("openai", openai(USER, ASKS, USER), "no result"),
    ("openai", openai(USER, RESULT), "which no call waits for"),
    ("openai", openai(USER, {**ASKS, "tool_calls": [CALL, CALL]}, RESULT), "used twice"),
    ("openai", openai({"role": "user", "content": ""}), "without content"),
    ("openai", openai({"role": "user", "content": [{"type": "text", "text": ""}]}), "empty text"),
    ("openai", openai({**USER, "name": "bob smith"}), "the name"),
    ("openai", openai(image("/tmp/cat.png")), "no address"),
    ("openai", openai({"role": "system", "content": image("https://x/y.png")["content"]}), "form"),
    ("openai", openai(USER, tool_choice="auto"), "without tools"),
    ("openai", openai(USER, stream_options={"include_usage": True}), "without a stream"),
    ("openai", openai(USER, {**ASKS, "tool_calls": [{**CALL, "id": "c" * 41}]}), "41 characters"),
    ("openai_responses", responses(USER, bogus=1), "bogus"),
    ("openai_responses", responses(USER, stop=["x"]), "stop"),
    ("openai_responses", responses({**USER, "name": "bob"}), "form"),
    ("openai_responses", responses(USER, RCALL, USER), "no result"),
    ("openai_responses", responses(USER, RRESULT), "which no call waits for"),
    ("openai_responses", responses(USER, RCALL, RCALL, RRESULT), "used twice"),
    ("openai_responses", responses(USER, THOUGHT, USER), "without the item"),
    ("openai_responses", responses(USER, THOUGHT), "without the item"),
    ("openai_responses", responses(USER, {**THOUGHT, "encrypted_content": None}, RCALL, RRESULT), "neither stored"),
    ("openai_responses", responses({"role": "user", "content": ""}), "without content"),
    ("openai_responses", responses(USER, tools=[{**RTOOL, "strict": None}]), "strict"),
    ("openai_responses", responses(USER, tools=[TOOL]), "form"),
    ("openai_responses", responses(USER, tool_choice="auto"), "without tools"),
    ("anthropic", anthropic("hello", frequency_penalty=1), "frequency_penalty"),
    ("anthropic", {"model": "m", "messages": [USER]}, "max_tokens"),
    ("anthropic", anthropic([{"type": "text", "text": " "}]), "empty text"),
    ("anthropic", anthropic("hello", [USE], "and?"), "no result"),
    ("anthropic", anthropic("hello", [USE], [{"type": "text", "text": "x"}, USED]), "do not come first"),
    ("anthropic", anthropic("hello", [{**USE, "id": "a.b"}], [{**USED, "tool_use_id": "a.b"}]), "the id"),
    ("anthropic", anthropic("hello", [USE], [USED], [USE], [USED]), "used twice"),
    ("anthropic", anthropic("hello", [{"type": "thinking", "thinking": "x", "signature": ""}], "x"), "signature"),
    ("anthropic", anthropic("hello", [{"type": "text", "text": "so "}]), "white space"),
    ("anthropic", {**anthropic(), "messages": [USER, USER]}, "alternate"),
    ("anthropic", {**anthropic(), "messages": [{"role": "system", "content": "x"}]}, "roles"),
    ("anthropic", anthropic([{"type": "image", "source": {**SOURCE, "data": "@"}}]), "base64"),
    (
        "anthropic",
        anthropic(
            "hello",
            thinking={"type": "enabled", "budget_tokens": 1024},
            tools=[{"name": "f", "input_schema": {"type": "object"}}],
            tool_choice={"type": "any"},
        ),
        "while thinking",
    ),
    ("gemini", gemini([SAYS], bogus=1), "bogus"),
    ("gemini", gemini([{"text": ""}, SAYS]), "empty text"),
    ("gemini", gemini([SAYS], [FCALL], [SAYS]), "differ"),
    ("gemini", gemini([SAYS], [FCALL, FCALL], [FRESULT]), "differ"),
    ("gemini", gemini([SAYS], [SAYS], [FRESULT]), "without calls"),
    ("gemini", gemini([SAYS], [{"functionCall": {"name": "f", "args": {}}}], [FRESULT]), "not signed"),
    ("gemini", gemini([{"inlineData": {"mimeType": "image/png", "data": "@"}}]), "base64"),
    ("gemini", gemini([{"fileData": {"fileUri": "/tmp/cat.png"}}]), "fetched"),
    ("gemini", {"contents": [{"role": "system", "parts": [SAYS]}]}, "roles"),
    ("gemini", gemini([FRESULT]), "without calls"),
    (
        "gemini",
        gemini(
            [SAYS],
            tools=[{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object", "not": {}}}]}],
        ),
        "not",
    ),
    ("dashscope", dashscope(USER, {"role": "system", "content": "x"}), "not the first"),
    ("dashscope", dashscope(USER, ASKS, RESULT), "None"),
    ("dashscope", dashscope({"role": "user", "content": [{"text": "x"}]}), "text endpoint"),
    ("dashscope", dashscope(USER, {**DCALL, "name": "x"}, RESULT), "keys"),
    ("dashscope", dashscope(USER, tools=[TOOL], tool_choice="required"), "required"),
    ("dashscope", dashscope(USER, DCALL, USER), "no result"),
    ("ollama", ollama(USER, USER), "neighbours"),
    ("ollama", ollama(USER, tool_choice="auto"), "tool_choice"),
    ("ollama", ollama({"role": "user", "content": [{"type": "text", "text": "x"}]}), "form"),
    ("ollama", ollama({**USER, "images": [f"data:image/png;base64,{PIXEL}"]}), "base64"),
    ("ollama", ollama(USER, OCALL, {"role": "tool", "content": "3", "tool_call_id": "c1"}), "tool's name"),
    ("ollama", ollama(USER, {**OCALL, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}), "form"),
]


@table(("kind", "body"), GOOD, ids=[kind for kind, _ in GOOD])
def test_a_good_body_has_no_problem(kind, body, rules):
    """What the manuals show as right is right, and is not changed by looking at it."""
    before = copy.deepcopy(body)
    assert rules.problems(kind, body) == []
    assert body == before


@table(("kind", "body", "words"), BAD, ids=[f"{kind}-{words}" for kind, _, words in BAD])
def test_a_broken_rule_is_found(kind, body, words, rules):
    """Each rule is there: a body that breaks it has a problem, which says so."""
    assert any(words in one for one in rules.problems(kind, body))


@table(
    ("kind", "endpoints", "least"),
    [
        ("openai", ("chat",), 0.85),
        ("openai_responses", ("responses",), 0.8),
        ("anthropic", ("messages",), 0.7),
        ("gemini", ("generateContent", "streamGenerateContent"), 0.8),
        ("dashscope", ("generation",), 0.6),
    ],
)
def test_what_the_vendors_took_is_mostly_right(kind, endpoints, least, recorded, rules):
    """The rules are not of our own making: recorded requests that were answered obey them, but for what is not ours.

    The others use what we do not send: parameters of other servers, the vendors' own tools, names of old.
    """
    bodies = [
        (one["request"], one["path"])
        for one in recorded
        if one["provider"] == kind.removesuffix("_responses") and one["endpoint"] in endpoints and one["status"] == 200
        if one["request"] and not one.get("truncated") and "prompt" not in (one["request"].get("input") or {})
    ]
    right = [body for body, path in bodies if not wrong(rules, kind, body, path)]
    assert len(right) >= least * len(bodies)


def wrong(rules, kind, body, path):
    """The problems of a recorded body, which may lack what the rules look at."""
    try:
        return rules.problems(kind, body, path)
    except KeyError as error:
        return [f"lacks {error}"]


def test_the_sdks_types_are_left_as_they_are(rules):
    """The SDK itself goes by its types: they are copied before they are made strict."""
    from openai.types.chat import ChatCompletionUserMessageParam, completion_create_params

    # The SDK may have marked its types itself by now, in a call of another test.
    marked = getattr(ChatCompletionUserMessageParam, "__pydantic_config__", None)
    before = dict(completion_create_params.CompletionCreateParamsBase.__annotations__)
    assert rules.problems("openai", openai(USER)) == []
    assert completion_create_params.CompletionCreateParamsBase.__annotations__ == before
    assert getattr(ChatCompletionUserMessageParam, "__pydantic_config__", None) == marked
