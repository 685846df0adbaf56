"""One conversation in the forms of five vendors and of agent frameworks: each vendor is sent the same."""

import json

from modelhub.registry import load_provider_options
from tests.tables import table

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
DATA = f"data:image/png;base64,{PNG}"
ASKED = {"name": "weather", "arguments": '{"city": "Rome"}'}
CALL = {"id": "c1", "type": "function", "function": ASKED}
SYSTEM, QUESTION, SAID, RESULT, ANSWER = "Be brief.", "Here?", "I look.", "sunny", "It is sunny."

CHAT = [
    {"role": "system", "content": SYSTEM},
    {
        "role": "user",
        "content": [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": DATA}}],
    },
    {"role": "assistant", "content": SAID, "tool_calls": [CALL], "refusal": None, "audio": None, "x": 1},
    {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": RESULT, "x": {"y": []}},
    {"role": "assistant", "content": ANSWER, "annotations": [], "parsed": {"a": 1}},
    {"role": "user", "content": [{"type": "text", "text": "Thanks.", "id": "block_1", "x": 1}]},
]
BLOCKS = [
    {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": QUESTION},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        ],
    },
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": SAID, "citations": None},
            {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}, "caller": {"type": "x"}},
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": RESULT}]}],
    },
    {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
    {"role": "user", "content": [{"type": "text", "text": "Thanks."}]},
]
RESPONSES = [
    {"role": "developer", "content": [{"type": "input_text", "text": SYSTEM}]},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": QUESTION},
            {"type": "input_image", "image_url": DATA, "detail": None},
        ],
    },
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
    {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": SAID}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c1", **ASKED, "status": "completed"},
    {"type": "function_call_output", "call_id": "c1", "output": RESULT},
    {"role": "assistant", "content": [{"type": "output_text", "text": ANSWER, "annotations": []}]},
    {"role": "user", "content": [{"type": "input_text", "text": "Thanks."}]},
]
GEMINI = [
    {"role": "system", "parts": [{"text": SYSTEM}]},
    {"role": "user", "parts": [{"text": QUESTION}, {"inline_data": {"mime_type": "image/png", "data": PNG}}]},
    {
        "role": "model",
        "parts": [{"text": SAID}, {"function_call": {"id": None, "name": "weather", "args": {"city": "Rome"}}}],
    },
    {
        "role": "user",
        "parts": [{"function_response": {"id": "c1", "name": "weather", "response": {"output": RESULT}}}],
    },
    {"role": "model", "parts": [{"text": ANSWER}]},
    {"role": "user", "parts": [{"text": "Thanks."}]},
]
GEMINI_CAMEL = [
    GEMINI[0],
    {"role": "user", "parts": [{"text": QUESTION}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]},
    {
        "role": "model",
        "parts": [{"text": SAID}, {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Rome"}}}],
    },
    {
        "role": "function",
        "parts": [{"functionResponse": {"id": "c1", "name": "weather", "response": {"result": RESULT}}}],
    },
    *GEMINI[4:],
]
DASHSCOPE = [
    {"role": "system", "content": [{"text": SYSTEM}]},
    {"role": "user", "content": [{"text": QUESTION}, {"image": DATA}]},
    {"role": "assistant", "content": [{"text": SAID}], "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": RESULT, "name": "weather"},
    {"role": "assistant", "content": ANSWER},
    {"role": "user", "content": [{"text": "Thanks."}]},
]
OLLAMA = [
    CHAT[0],
    {"role": "user", "content": QUESTION, "images": [PNG]},
    {
        "role": "assistant",
        "content": SAID,
        "tool_calls": [{**CALL, "function": {**ASKED, "arguments": {"city": "Rome"}}}],
    },
    {"role": "tool", "tool_call_id": "c1", "tool_name": "weather", "content": RESULT},
    *CHAT[4:],
]
LANGCHAIN = [
    *CHAT[:2],
    {"role": "assistant", "content": SAID, "tool_calls": [{"id": "c1", "name": "weather", "args": {"city": "Rome"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": RESULT, "status": "success", "artifact": None},
    *CHAT[4:],
]
LANGCHAIN_OBJECTS = [
    {"type": "system", "content": SYSTEM, "additional_kwargs": {}, "response_metadata": {}, "id": None},
    {"type": "human", "content": CHAT[1]["content"], "additional_kwargs": {}, "example": False},
    {
        "type": "ai",
        "content": [
            {"type": "text", "text": SAID},
            {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
        ],
        "tool_calls": [{"type": "tool_call", "id": "c1", "name": "weather", "args": {"city": "Rome"}}],
        "invalid_tool_calls": [],
        "usage_metadata": None,
    },
    {"type": "tool", "tool_call_id": "c1", "content": RESULT, "status": "success", "artifact": None},
    {"role": "ai", "content": ANSWER},
    {"role": "human", "content": "Thanks."},
]
FORMS = {
    "blocks": BLOCKS,
    "responses": RESPONSES,
    "gemini": GEMINI,
    "gemini camelCase": GEMINI_CAMEL,
    "dashscope": DASHSCOPE,
    "ollama": OLLAMA,
    "langchain": LANGCHAIN,
    "langchain's objects": LANGCHAIN_OBJECTS,
}
ENTRIES = {
    "openai": {"model_name": "m"},
    "anthropic": {"model_name": "claude-sonnet-4-5"},
    "gemini": {"model_name": "gemini-3-flash"},
    "dashscope": {"model_name": "qwen-vl-plus"},
    "ollama": {"model_name": "m"},
}


@table("kind", ENTRIES)
def test_every_form_says_the_same(kind):
    """Whatever wrote the messages, a vendor gets one body; further keys make no difference."""
    from modelhub.core.context import CallContext, Services
    from modelhub.core.request import ChatRequest
    from modelhub.messages.normalize import normalise_messages

    cls = load_provider_options(kind)
    key = {"api_key": "k-of-nobody"} if "api_key" in cls.model_fields else {}
    model = cls(base_url="http://127.0.0.1:9", **key, **ENTRIES[kind]).connect()

    def body(messages):
        request = ChatRequest(normalise_messages(messages), (), None, None, None, {}, CallContext(Services(), "m"))
        return json.dumps(model.build_request(request, None, stream=False).body).replace("call_1", "c1")

    wanted = body(CHAT)
    assert {name for name, form in FORMS.items() if body(form) != wanted} == set()


TAKEN = {
    "DashScope's null": [{"role": "user", "content": [{"text": None}, {"text": "x"}]}],
    "Gemini's null": [{"role": "user", "parts": [{"text": None, "thought": None}, {"text": "x"}]}],
    "Gemini without a role": [{"parts": [{"text": "x"}]}],
    "a vendor's own tools": [
        {"role": "user", "content": [{"type": "server_tool_use", "id": "s", "name": "s", "input": {}}, "x"]},
    ],
}


@table("messages", TAKEN.values(), ids=list(TAKEN))
def test_what_says_nothing_is_left_out(messages):
    """Null texts, and what a vendor's own tools did on its servers."""
    from modelhub.messages.normalize import normalise_messages

    assert normalise_messages(messages) == normalise_messages("x")


SEARCH = {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search", "query": "x"}}


@table("kind", [*ENTRIES, "openai"])
def test_an_item_of_openais_is_sent_to_nobody_else(kind):
    """What OpenAI's own tools did is left out for the other vendors, and for its chat completions."""
    from modelhub.core.context import CallContext, Services
    from modelhub.core.request import ChatRequest
    from modelhub.messages.normalize import normalise_messages

    fields = ENTRIES.get(kind, {"model_name": "m"})
    model = load_provider_options(kind)(base_url="http://127.0.0.1:9", **fields).connect()
    asked = [{"role": "user", "content": "x"}, SEARCH, {"role": "assistant", "content": "y"}]
    kept = [
        asked[0],
        {"role": "assistant", "content": [{"type": "provider_item", "provider": "openai", "item": SEARCH}]},
    ]
    for messages in (asked, [*kept, {"role": "user", "content": "z"}]):
        request = ChatRequest(normalise_messages(messages), (), None, None, None, {}, CallContext(Services(), "m"))
        body = json.dumps(model.build_request(request, None, stream=False).body)
        assert "web_search_call" not in body
        assert "x" in body


def test_a_link_in_a_result_is_its_address():
    """MCP servers name what they do not send."""
    from modelhub.messages.normalize import normalise_messages

    link = {"type": "resource_link", "uri": "https://x/y", "name": "report"}
    talk = normalise_messages([*CHAT[:3], {**CHAT[3], "content": [link]}])
    assert talk[-1].blocks[0].output[0].text == "report: https://x/y"


@table("result", [{"is_error": True}, {"status": "error"}, {"isError": True}])
def test_a_tool_that_failed_is_understood(result):
    """As Anthropic, LangChain and MCP say it."""
    from modelhub.messages.normalize import normalise_messages

    talk = normalise_messages([*CHAT[:3], {**CHAT[3], **result}])
    assert talk[-1].blocks[0].is_error is True


def test_tools_of_mcp_and_of_gemini_are_tools():
    """With the keys that they have beside a name and a schema."""
    from modelhub.messages.tools import normalise_tools

    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    plain = normalise_tools([{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}}])
    about = {"name": "f", "description": "d"}
    upper = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
    forms = [
        {**about, "inputSchema": schema, "title": "F", "annotations": {"readOnlyHint": True}, "outputSchema": {}},
        {"function": {**about, "parameters": schema, "requires_confirmation": True}, "title": "F"},
        {"function_declarations": [{**about, "parameters": upper}]},
        {"functionDeclarations": [{**about, "parametersJsonSchema": schema}]},
    ]
    assert [normalise_tools([form]) for form in forms] == [plain] * len(forms)
