"""What each vendor demands of a request: its SDK's own types as the form, and the rules that its manual adds.

`problems(kind, body)` is a list of what is wrong with a captured body, empty for one that the vendor would take. The
types are copied before they are made strict, so that the SDKs are left as they are.
"""

import base64
import binascii
import collections.abc
import inspect
import json
import re
import types
import typing
from functools import cache
from itertools import pairwise

import pydantic
import typing_extensions
from pydantic import ConfigDict, TypeAdapter

# -- the form: the SDK's types, with nothing besides -------------------------------------------------------------------

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def strict(tp, known=None):
    """A copy of *tp* in which no TypedDict takes unknown keys, and an Iterable is a list, which is looked into."""
    known = {} if known is None else known
    if typing_extensions.is_typeddict(tp):
        return known[tp] if tp in known else _strict_dict(tp, known)
    origin, parts = typing.get_origin(tp), typing.get_args(tp)
    if origin is None or origin is typing.Literal:
        return tp
    if origin is typing.Annotated:
        return typing.Annotated[(strict(parts[0], known), *tp.__metadata__)]
    parts = tuple(strict(part, known) for part in parts if not _is_reply(part)) or parts
    if origin in (typing.Union, types.UnionType):
        return typing.Union[parts]  # noqa: UP007 - made of what is only known here
    if origin is collections.abc.Iterable:
        return list[parts]
    return origin[parts] if isinstance(origin, type) else tp


def _is_reply(tp):
    """Whether *tp* is a class of the SDK's replies, which are accepted in requests too, whatever else is in them."""
    if typing.get_origin(tp) is typing.Annotated or typing.get_origin(tp) in (typing.Union, types.UnionType):
        parts = typing.get_args(tp)[:1] if typing.get_origin(tp) is typing.Annotated else typing.get_args(tp)
        return all(map(_is_reply, parts))
    return isinstance(tp, type) and issubclass(tp, pydantic.BaseModel)


def _strict_dict(tp, known):
    made = typing_extensions.TypedDict(tp.__name__, {})  # noqa: UP013 - its fields come below, some of them itself
    known[tp] = made
    required = set(tp.__required_keys__)
    for name, given in typing_extensions.get_type_hints(tp, include_extras=True).items():
        hint = given
        while (origin := typing_extensions.get_origin(hint)) in _WRAPPERS:
            # The SDKs' annotations are text: when their classes were made, nobody saw what is `Required` in it.
            (required.add if origin in _REQUIRED else required.discard)(name)
            (hint,) = typing_extensions.get_args(hint)
        wrapper = typing_extensions.Required if name in required else typing_extensions.NotRequired
        made.__annotations__[name] = wrapper[strict(hint, known)]
    made.__required_keys__ = frozenset(required)
    made.__optional_keys__ = frozenset(made.__annotations__) - required
    made.__pydantic_config__ = _STRICT
    return made


_REQUIRED = (typing.Required, typing_extensions.Required)
_WRAPPERS = (*_REQUIRED, typing.NotRequired, typing_extensions.NotRequired)


def _openai_form():
    from openai.types.chat import completion_create_params as params

    return params.CompletionCreateParamsNonStreaming, params.CompletionCreateParamsStreaming


def _openai_responses_form():
    from openai.types.responses import response_create_params as params

    return params.ResponseCreateParamsNonStreaming, params.ResponseCreateParamsStreaming


def _anthropic_form():
    from anthropic.types import message_create_params as params

    return params.MessageCreateParamsNonStreaming, params.MessageCreateParamsStreaming


def _gemini_form():
    from google.genai import types as google

    class Body(pydantic.BaseModel):
        """The REST body; the SDK has it only in pieces."""

        model_config = ConfigDict(extra="forbid")

        contents: list[google.Content]
        systemInstruction: google.Content | None = None  # noqa: N815
        generationConfig: google.GenerationConfig | None = None  # noqa: N815
        tools: list[google.Tool] | None = None
        toolConfig: google.ToolConfig | None = None  # noqa: N815
        safetySettings: list[google.SafetySetting] | None = None  # noqa: N815
        serviceTier: google.ServiceTier | None = None  # noqa: N815

    return Body, Body


def _ollama_form():
    from ollama._types import ChatRequest

    return ChatRequest, ChatRequest


_FORMS = {
    "openai": _openai_form,
    "openai_responses": _openai_responses_form,
    "anthropic": _anthropic_form,
    "gemini": _gemini_form,
    "ollama": _ollama_form,
}


# What the API takes, though the SDK has no parameter for it any more.
_BESIDE = {"anthropic": ("temperature", "top_p", "top_k")}


@cache
def _adapter(kind, stream):
    return TypeAdapter(strict(_FORMS[kind]()[stream]))


def form_problems(kind, body):
    """Where *body* departs from the types of the vendor's SDK."""
    if kind not in _FORMS:
        return []
    known = {name: value for name, value in body.items() if name not in _BESIDE.get(kind, ())}
    try:
        # As JSON: then bytes are base64, as they are on the wire.
        _adapter(kind, bool(body.get("stream"))).validate_json(json.dumps(known))
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        return [f"form: {'.'.join(map(str, one['loc']))[-120:]}: {one['msg']}" for one in found][:4]
    return []


# -- the rules ---------------------------------------------------------------------------------------------------------


def problems(kind, body, target=""):
    """What is wrong with *body* for the vendor *kind*; *target* is the path it was sent to."""
    form = form_problems(kind, body)
    if form:
        return form
    return list(RULES[kind](body, target))


def is_base64(data):
    """Whether *data* is base64, and no URL."""
    try:
        return bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return False


def pairing(turns, *, once=False):
    """What is wrong with calls and results: *turns* are lists of ("call", id), ("result", id) and ("other", what).

    With *once*, no id may occur again in the whole conversation, not even when its call is answered.
    """
    waiting, seen = [], set()
    for number, turn in enumerate(turns):
        results = [value for what, value in turn if what == "result"]
        rest = [pair for pair in turn if pair[0] != "result"]
        for result in results:
            if result not in waiting:
                yield f"turn {number}: a result for `{result}`, which no call waits for"
            else:
                waiting.remove(result)
        if rest and waiting:
            yield f"turn {number}: {waiting} have no result before something else comes"
            waiting.clear()
        for call in (value for what, value in rest if what == "call"):
            if call in (seen if once else waiting):
                yield f"turn {number}: the id `{call}` is used twice"
            seen.add(call)
            waiting.append(call)


def choice_problems(name, tools):
    """A tool that is demanded must be there."""
    if name is not None and name not in tools:
        yield f"tool_choice names `{name}`, which is no tool"
    if len(set(tools)) != len(tools):
        yield "two tools have one name"


# OpenAI


def _openai(body, _target):
    messages = body["messages"]
    if not messages:
        yield "no messages"
    for number, message in enumerate(messages):
        for one in _openai_message(message):
            yield f"messages[{number}]: {one}"
    yield from pairing([_openai_turn(message) for message in messages])
    yield from _openai_tools(body)
    if "stream_options" in body and not body.get("stream"):
        yield "stream_options without a stream"
    if schema := (body.get("response_format") or {}).get("json_schema"):
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", schema["name"]):
            yield f"the schema's name `{schema['name']}`"
        if schema.get("strict"):
            yield from _strict_schema(schema["schema"], "schema")


def _openai_tools(body):
    tools = [tool["function"]["name"] for tool in body.get("tools", ())]
    for name in tools:
        if not re.fullmatch(r"[a-zA-Z0-9_.:-]{1,128}", name):
            yield f"tool name `{name}`"
    choice = body.get("tool_choice")
    yield from choice_problems(choice["function"]["name"] if isinstance(choice, dict) else None, tools)
    if not tools and ("tool_choice" in body or "parallel_tool_calls" in body):
        yield "tool_choice without tools"


def _openai_turn(message):
    if message["role"] == "tool":
        return [("result", message["tool_call_id"])]
    return [("other", message["role"])] + [("call", call["id"]) for call in message.get("tool_calls") or ()]


def _openai_message(message):
    role, content, calls = message["role"], message.get("content"), message.get("tool_calls") or ()
    if content in (None, "", []) and not (calls or role == "tool"):
        yield f"a {role} message without content"
    if "tool_calls" in message and not calls:
        yield "an empty list of calls"
    for call in calls:
        if not 0 < len(call["id"]) <= 40:
            yield f"a call's id of {len(call['id'])} characters"
    if not re.fullmatch(r"[^\s<|\\/>]{1,64}", message.get("name", "x")):
        yield f"the name `{message['name']}`"
    for part in content if isinstance(content, list) else ():
        yield from _openai_part(part, role)


def _openai_part(part, role):
    kind = part["type"]
    if role != "user" and kind not in ("text", "refusal"):
        yield f"{kind} in a {role} message"
    elif kind == "text" and not part["text"]:
        yield "an empty text part"
    elif kind == "image_url" and not _is_media_url(part["image_url"]["url"], "image/"):
        yield "an image that is no address and no data URL"
    elif kind == "input_audio" and not is_base64(part["input_audio"]["data"]):
        yield "sound that is not base64"
    elif kind == "file":
        if "file_data" in part["file"] and not _is_data_url(part["file"]["file_data"], ""):
            yield "a file that is no data URL"
        if "file_data" in part["file"] and "filename" not in part["file"]:
            yield "a file without a name"


def _is_data_url(url, kind):
    match = re.fullmatch(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=.-]+)*;base64,(.*)", url, re.DOTALL)
    return bool(match and match[1].startswith(kind) and is_base64(match[2]))


def _is_media_url(url, kind):
    return url.startswith(("https://", "http://")) or _is_data_url(url, kind)


def _strict_schema(schema, at):
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            yield f"{at}: strict, but additionalProperties is not false"
        if set(schema.get("required", ())) != set(schema.get("properties", {})):
            yield f"{at}: strict, but not all properties are required"
    if "default" in schema:
        yield f"{at}: strict, but has a default"
    for key in ("properties", "$defs"):
        for name, value in schema.get(key, {}).items():
            yield from _strict_schema(value, f"{at}.{name}")
    for key in ("anyOf", "allOf"):
        for value in schema.get(key, ()):
            yield from _strict_schema(value, f"{at}.{key}")
    yield from _strict_schema(schema.get("items"), f"{at}.items")


# OpenAI's Responses


def _openai_responses(body, _target):
    items = [{"role": "user", "content": body["input"]}] if isinstance(body["input"], str) else body["input"]
    if not items:
        yield "no input"
    for number, item in enumerate(items):
        for one in _responses_item(item, body):
            yield f"input[{number}]: {one}"
    yield from pairing(_responses_turns(items))
    yield from _responses_order(items)
    yield from _responses_tools(body)
    form = (body.get("text") or {}).get("format") or {}
    if form.get("strict"):
        yield from _strict_schema(form["schema"], "schema")


def _responses_item(item, body):
    kind, role = item.get("type", "message"), item.get("role")
    if kind == "message" and item["content"] in ("", []):
        yield f"a {role} message without content"
    for part in item["content"] if kind == "message" and isinstance(item["content"], list) else ():
        if (part["type"] == "output_text") != (role == "assistant"):
            yield f"{part['type']} in a {role} message"
        yield from _responses_part(part)
    for part in item["output"] if kind == "function_call_output" and isinstance(item["output"], list) else ():
        yield from _responses_part(part)
    if not 0 < len(item.get("call_id") or "x") <= 64:
        yield f"a call's id of {len(item['call_id'])} characters"
    if kind == "reasoning" and body.get("store") is False and not item.get("encrypted_content"):
        yield "reasoning that is neither stored nor encrypted"


def _responses_part(part):
    if part["type"] in ("input_text", "output_text") and not part["text"]:
        yield "an empty text part"
    elif part["type"] == "input_image" and "image_url" in part and not _is_media_url(part["image_url"], "image/"):
        yield "an image that is no address and no data URL"
    elif part["type"] == "input_file" and "file_data" in part:
        if not _is_data_url(part["file_data"], ""):
            yield "a file that is no data URL"
        if "filename" not in part:
            yield "a file without a name"


def _responses_turns(items):
    """The items as turns: calls one after the other are one, whatever their own tools did stands beside them."""
    kinds = {"function_call": "call", "custom_tool_call": "call"}
    kinds |= {"function_call_output": "result", "custom_tool_call_output": "result"}
    turns = []
    for item in items:
        what = kinds.get(item.get("type"))
        if what == "call" and turns and turns[-1][-1][0] == "call":
            turns[-1].append((what, item["call_id"]))
        elif what:
            turns.append([(what, item["call_id"])])
        elif item.get("type", "message") == "message":
            turns.append([("other", item["role"])])
    return turns


def _responses_order(items):
    after = [*items[1:], {"role": "user"}]
    for number, (item, following) in enumerate(zip(items, after, strict=True)):
        is_output = following.get("role") in (None, "assistant") and not following.get("type", "").endswith("_output")
        if item.get("type") == "reasoning" and not is_output:
            yield f"input[{number}]: reasoning without the item that follows it"


def _responses_tools(body):
    tools = body.get("tools") or ()
    names = [tool.get("name", tool["type"]) for tool in tools]
    for tool in tools:
        if tool["type"] == "function" and not isinstance(tool.get("strict"), bool):
            yield "a tool that does not say whether it is strict"
        if tool["type"] == "function" and not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
            yield f"tool name `{tool['name']}`"
    choice = body.get("tool_choice")
    yield from choice_problems(choice.get("name", choice["type"]) if isinstance(choice, dict) else None, names)
    if not tools and "tool_choice" in body:
        yield "tool_choice without tools"


# Anthropic


def _anthropic(body, _target):
    messages, thinking = body["messages"], body.get("thinking", {}).get("type")
    yield from _anthropic_roles(messages, thinking)
    if isinstance(body.get("system"), str) and not body["system"].strip():
        yield "an empty system prompt"
    for block in body["system"] if isinstance(body.get("system"), list) else ():
        yield from _anthropic_block(block, "system")
    for message in messages:
        yield from _anthropic_message(message)
    yield from pairing([_anthropic_turn(message) for message in messages], once=True)
    yield from _anthropic_tools(body, thinking)
    if body["max_tokens"] < 1 or (thinking == "enabled" and body["thinking"]["budget_tokens"] < 1024):
        yield "max_tokens or the thinking budget is too small"


def _anthropic_roles(messages, thinking):
    roles = [message["role"] for message in messages]
    if not roles:
        yield "no messages"
    if not set(roles) <= {"user", "assistant"}:
        yield f"roles {set(roles)}"
    if any(one == other for one, other in pairwise(roles)):
        yield "roles do not alternate"
    if roles and roles[-1] == "assistant":
        if thinking == "enabled":
            yield "prefill while thinking"
        last = messages[-1]["content"]
        if isinstance(last, list) and last[-1]["type"] == "text" and last[-1]["text"] != last[-1]["text"].rstrip():
            yield "white space at the end of a prefill"


def _anthropic_tools(body, thinking):
    tools = [tool["name"] for tool in body.get("tools", ())]
    for tool in body.get("tools", ()):
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
            yield f"tool name `{tool['name']}`"
        if "input_schema" in tool and tool["input_schema"].get("type") != "object":
            yield "a tool's schema is no object"
    choice = body.get("tool_choice") or {}
    yield from choice_problems(choice.get("name"), tools)
    if choice and not tools:
        yield "tool_choice without tools"
    if thinking == "enabled" and choice.get("type") in ("any", "tool"):
        yield "a forced tool while thinking"


def _anthropic_turn(message):
    content = message["content"] if isinstance(message["content"], list) else [{"type": "text"}]
    kinds = {"tool_use": ("call", "id"), "tool_result": ("result", "tool_use_id")}
    return [
        (kinds[block["type"]][0], block[kinds[block["type"]][1]])
        if block["type"] in kinds
        else ("other", block["type"])
        for block in content
    ]


def _anthropic_message(message):
    content = message["content"]
    if isinstance(content, str):
        if not content.strip():
            yield "an empty message"
        return
    if not content:
        yield "a message without content"
    kinds = [block["type"] for block in content]
    if "tool_result" in kinds and kinds != sorted(kinds, key=lambda kind: kind != "tool_result"):
        yield "tool results do not come first"
    for block in content:
        yield from _anthropic_block(block, message["role"])


_ANTHROPIC_PLACES = {
    "user": {"text", "image", "document", "tool_result"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use"},
    "system": {"text"},
}


def _anthropic_block(block, role):
    kind = block["type"]
    if kind not in _ANTHROPIC_PLACES[role]:
        yield f"{kind} in a {role} message"
    elif kind == "text" and not block["text"].strip():
        yield "empty text"
    elif kind == "thinking" and not block.get("signature"):
        yield "thinking without a signature"
    elif kind == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
        yield f"the id `{block['id']}`"
    elif kind == "tool_result":
        if block.get("is_error") and not block.get("content"):
            yield "a failure without words"
        for part in block["content"] if isinstance(block.get("content"), list) else ():
            yield from _anthropic_block(part, "user")
    elif kind in ("image", "document"):
        yield from _anthropic_source(kind, block["source"])


def _anthropic_source(kind, source):
    types_ = {"image": r"image/(png|jpeg|gif|webp)", "document": "application/pdf|text/plain"}[kind]
    if source["type"] == "base64":
        if not re.fullmatch(types_, source["media_type"]):
            yield f"{kind} of type {source['media_type']}"
        if not is_base64(source["data"]):
            yield f"{kind} that is not base64"
    elif source["type"] == "url" and not source["url"].startswith(("https://", "http://")):
        yield f"{kind} at {source['url'][:20]}"


# Gemini


def _gemini(body, target):
    contents = body["contents"]
    yield from _gemini_roles(contents)
    if contents[0] == {"role": "user", "parts": [{"text": ""}]}:
        contents = contents[1:]  # as the vendor takes it before a call that nobody asked for
    for number, content in enumerate(contents):
        if not content.get("parts"):
            yield f"contents[{number}]: no parts"
        for part in content.get("parts") or ():
            for one in _gemini_part(part, content["role"]):
                yield f"contents[{number}]: {one}"
    yield from _gemini_pairing(contents)
    if not re.search(r"gemini-[12]\b|gemma", target):
        yield from _gemini_signatures(contents)
    for part in (body.get("systemInstruction") or {"parts": []})["parts"]:
        if set(part) != {"text"} or not part["text"]:
            yield "a system instruction that is not text"
    yield from _gemini_tools(body)


def _gemini_roles(contents):
    roles = [content.get("role") for content in contents]
    if not roles or (roles[0] != "user" and any("functionCall" in part for part in contents[0]["parts"])):
        yield "a call that does not come after a user's turn"
    if not set(roles) <= {"user", "model"}:
        yield f"roles {set(roles)}"
    if any(one == other for one, other in pairwise(roles)):
        yield "roles do not alternate"


def _gemini_part(part, role):
    kinds = set(part) - {"thought", "thoughtSignature"}
    if len(kinds) != 1:
        yield f"a part of {sorted(kinds)}"
        return
    (kind,) = kinds
    mine = {
        "user": {"text", "inlineData", "fileData", "functionResponse"},
        "model": {"text", "inlineData", "functionCall"},
    }
    if kind not in mine.get(role, ()):
        yield f"{kind} in a {role}'s turn"
    if kind == "text" and not part["text"] and "thoughtSignature" not in part:
        yield "an empty text part"
    if kind == "inlineData" and not part[kind].get("mimeType"):
        yield "data without a type"
    if kind == "fileData" and not part[kind]["fileUri"].startswith(("https://", "http://", "gs://")):
        yield "a file that cannot be fetched"
    if kind == "functionResponse" and not isinstance(part[kind]["response"], dict):
        yield "a response that is no object"
    if role == "user" and ("thought" in part or "thoughtSignature" in part):
        yield "a user that thinks"


def _gemini_pairing(contents):
    """All responses of a turn's calls stand in the next content, as many, and in the calls' order."""
    for number, content in enumerate(contents):
        calls = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
        after = contents[number + 1]["parts"] if number + 1 < len(contents) else None
        answers = [part["functionResponse"] for part in after or () if "functionResponse" in part]
        before = [part for part in contents[number - 1]["parts"] if "functionCall" in part] if number else []
        if any("functionResponse" in part for part in content["parts"]) and not before:
            yield f"contents[{number}]: responses without calls before them"
        if calls and after is not None:
            if [call["name"] for call in calls] != [answer["name"] for answer in answers]:
                yield f"contents[{number}]: calls and responses differ"
            if [call.get("id") for call in calls] != [answer.get("id") for answer in answers]:
                yield f"contents[{number}]: ids of calls and responses differ"


def _gemini_signatures(contents):
    for number, content in enumerate(contents):
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls and not calls[0].get("thoughtSignature"):
            yield f"contents[{number}]: the first call is not signed"


_GEMINI_KEYWORDS = {
    "$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems",
    "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties", "required",
    "propertyOrdering", "default",
}  # fmt: skip


def _gemini_tools(body):
    declared = [one for tool in body.get("tools", ()) for one in tool.get("functionDeclarations", ())]
    for one in declared:
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}", one["name"]):
            yield f"tool name `{one['name']}`"
        yield from _gemini_schema(one.get("parametersJsonSchema", {}), one["name"])
    yield from _gemini_schema((body.get("generationConfig") or {}).get("responseJsonSchema", {}), "the response")
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    for name in calling.get("allowedFunctionNames", ()):
        yield from choice_problems(name, [one["name"] for one in declared])
        if calling["mode"] not in ("ANY", "VALIDATED"):
            yield "names that are allowed in a mode that has none"


def _gemini_schema(schema, at):
    if not isinstance(schema, dict):
        return
    if unknown := set(schema) - _GEMINI_KEYWORDS:
        yield f"{at}: {sorted(unknown)} in a schema"
    if "$ref" in schema and [key for key in schema if not key.startswith("$")]:
        yield f"{at}: something beside $ref"
    for key in ("properties", "$defs"):
        for name, value in schema.get(key, {}).items():
            yield from _gemini_schema(value, f"{at}.{name}")
    for key in ("anyOf", "oneOf", "prefixItems"):
        for value in schema.get(key, ()):
            yield from _gemini_schema(value, f"{at}.{key}")
    for key in ("items", "additionalProperties"):
        yield from _gemini_schema(schema.get(key), f"{at}.{key}")


# DashScope: its SDK has no types for the native body


def _dashscope(body, target):
    if set(body) != {"model", "input", "parameters"} or set(body["input"]) != {"messages"}:
        yield f"keys {sorted(body)}, {sorted(body['input'])}"
    messages, parameters = body["input"]["messages"], body["parameters"]
    multimodal = "multimodal-generation" in target
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        yield "a system message that is not the first"
    if not roles:
        yield "no messages"
    for number, message in enumerate(messages):
        for one in _dashscope_message(message, multimodal):
            yield f"messages[{number}]: {one}"
    yield from pairing([_openai_turn(message) for message in messages])
    if parameters.get("result_format") != "message":
        yield "result_format"
    yield from _dashscope_parameters(parameters)


_DASHSCOPE_KEYS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "reasoning_content", "partial"},
    "tool": {"role", "content", "tool_call_id", "name"},
}


def _dashscope_message(message, multimodal):
    role, content = message["role"], message.get("content")
    if not set(message) <= _DASHSCOPE_KEYS[role]:
        yield f"keys {sorted(message)}"
    if not isinstance(content, (str, list)):
        yield f"content is {content!r}"
    elif not content and role in ("user", "system"):
        yield f"an empty {role} message"
    elif isinstance(content, list) is not multimodal and not any("cache_control" in part for part in content):
        yield f"content is a {type(content).__name__} for the {'multimodal' if multimodal else 'text'} endpoint"
    for part in content if isinstance(content, list) else ():
        yield from _dashscope_part(part)
    for index, call in enumerate(message.get("tool_calls") or ()):
        if not call["id"] or call["type"] != "function" or call.get("index", index) != index:
            yield f"the call {call}"
        if not isinstance(json.loads(call["function"]["arguments"]), dict):
            yield "arguments that are no object"


def _dashscope_part(part):
    kinds = set(part) - {"cache_control"}
    if len(kinds) != 1 or not kinds <= {"text", "image", "audio", "video"}:
        yield f"a part of {sorted(kinds)}"
        return
    (kind,) = kinds
    if not isinstance(part[kind], str) or not part[kind]:
        yield "a part without text"
    elif kind != "text" and not _is_media_url(part[kind], f"{kind}/"):
        yield f"{kind} that is no address and no data URL"


@cache
def _dashscope_names():
    """The parameters that the SDK has, and those that it sets itself."""
    from dashscope.v2.protocols.native import NativeProtocol

    names = inspect.signature(NativeProtocol.build_chat_request).parameters
    return {*names, "result_format", "incremental_output"} - {"self", "model", "messages", "stream", "path"}


def _dashscope_parameters(parameters):
    tools = [tool["function"]["name"] for tool in parameters.get("tools", ())]
    if unknown := set(parameters) - _dashscope_names():
        yield f"{sorted(unknown)} among the parameters"
    if "tools" in parameters and not tools:
        yield "an empty list of tools"
    choice = parameters.get("tool_choice", "auto")
    if isinstance(choice, dict):
        yield from choice_problems(choice["function"]["name"], tools)
        if parameters.get("enable_thinking"):
            yield "a forced tool while thinking"
    elif choice not in ("auto", "none"):
        yield f"tool_choice {choice}"
    if "tool_choice" in parameters and not tools:
        yield "tool_choice without tools"


# Ollama: its SDK's types leave out what older servers do not know


class _Ollama(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid")


class _OllamaFunction(_Ollama):
    name: str
    arguments: dict[str, typing.Any]


class _OllamaCall(_Ollama):
    id: str | None = None
    function: _OllamaFunction


class _OllamaMessage(_Ollama):
    role: typing.Literal["system", "user", "assistant", "tool"]
    content: str
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_OllamaCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _OllamaBody(_Ollama):
    model: str
    messages: list[_OllamaMessage]
    stream: bool
    keep_alive: str | float | None = None
    think: bool | typing.Literal["low", "medium", "high"] | None = None
    tools: list[dict[str, typing.Any]] | None = None
    format: dict[str, typing.Any] | typing.Literal["json"] | None = None
    options: dict[str, typing.Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


def _ollama(body, _target):
    try:
        _OllamaBody.model_validate(body)
    except pydantic.ValidationError as error:
        yield from (f"form: {one['loc']}: {one['msg']}" for one in error.errors(include_url=False)[:4])
        return
    from ollama._types import Options

    if unknown := set(body.get("options") or ()) - {*Options.model_fields, "min_p"}:
        yield f"options {sorted(unknown)}"
    messages = body["messages"]
    if not messages:
        yield "no messages"
    roles = [message["role"] for message in messages]
    if any(one == other != "tool" for one, other in pairwise(roles)):
        yield "neighbours of one role, of which the server keeps the text only"
    for number, message in enumerate(messages):
        for one in _ollama_message(message):
            yield f"messages[{number}]: {one}"
    yield from pairing([_ollama_turn(message) for message in messages])
    tools = body.get("tools") or ()
    yield from choice_problems(None, [tool["function"]["name"] for tool in tools])
    if any(tool["type"] != "function" or tool["function"]["parameters"].get("type") != "object" for tool in tools):
        yield "a tool of another form"


def _ollama_message(message):
    if not (message["content"] or message.get("images") or message.get("tool_calls") or message["role"] == "tool"):
        yield "empty"
    for image in message.get("images", ()):
        if not is_base64(image):
            yield "an image that is not bare base64"
    if message["role"] == "tool" and not message.get("tool_name"):
        yield "a result without the tool's name"


def _ollama_turn(message):
    if message["role"] == "tool":
        return [("result", message.get("tool_call_id"))]
    return [("other", message["role"])] + [("call", call.get("id")) for call in message.get("tool_calls") or ()]


RULES = {
    "openai": _openai,
    "openai_responses": _openai_responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "dashscope": _dashscope,
    "ollama": _ollama,
}
