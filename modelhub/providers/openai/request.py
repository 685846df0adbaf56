"""Requests in OpenAI's dialect: the neutral conversation, tools and wishes as parameters of chat completions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from modelhub.core.errors import UnsupportedFeature
from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    FileSource,
    MediaBlock,
    Message,
    ProviderItemBlock,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from modelhub.messages.json_schema import get_schema
from modelhub.providers.openai.response import PROVIDER
from modelhub.providers.openai.schema import is_object, is_strict, write_schema
from modelhub.providers.openai.servers import Quirks
from modelhub.providers.parameters import EFFORT_BUDGETS, merge_objects
from modelhub.providers.structured_output import Method, Structured
from modelhub.providers.tool_schema import plain_root

__all__ = [
    "ask_in_words",
    "encode_request",
    "encode_tools",
    "structured_method",
    "write_audio",
    "write_cache_mark",
    "write_call_id",
    "write_file_id",
]

Json = dict[str, Any]

_MAX_CALL_ID = 40


def encode_request(
    model: str, request: ChatRequest, structured: Structured | None, stream: bool, quirks: Quirks
) -> Json:
    """Return the parameters of a completion; the caller's own are in the request's options, by the vendor's names."""
    payload: Json = {"model": model, **_spell_parameters(request.options, quirks)}
    payload["messages"] = _encode_messages(request.messages, quirks)
    for tool in request.tools:
        if tool.native is not None:
            raise UnsupportedFeature(f"openai runs the tool `{tool.name}` in its Responses API only (`api: responses`)")
    if request.tools:
        payload |= encode_tools(request.tools, request.tool_choice, quirks)
    if structured is not None:
        _ask_structured(payload, structured, quirks)
    extra = payload.get("extra_body")
    if extra and isinstance(extra, Mapping):
        ours = {name: payload[name] for name in _MERGED if name in payload and name in extra}
        payload["extra_body"] = {**extra, **merge_objects(ours, {name: extra[name] for name in ours})}
    payload["stream"] = stream
    if not stream:
        payload.pop("stream_options", None)
    elif quirks.stream_options:
        payload["stream_options"] = {"include_usage": True, **payload.get("stream_options", {})}
    return payload


_MERGED = ("chat_template_kwargs", "reasoning", "thinking", "stream_options")
"""Objects of `extra_body` in which the caller's keys stand beside ours."""


def _spell_parameters(parameters: Mapping[str, Any], quirks: Quirks) -> Json:
    """Return *parameters* without those that say nothing, and what has several names by the one the server knows."""
    spelled = {name: value for name, value in parameters.items() if value is not None}
    known = quirks.max_tokens
    other = "max_tokens" if known == "max_completion_tokens" else "max_completion_tokens"
    if known is not None and other in spelled and known not in spelled:
        spelled[known] = spelled.pop(other)
    effort = spelled.pop("reasoning_effort", None)
    return spelled if effort is None else merge_objects(_spell_effort(effort, quirks.thinking), spelled)


def _spell_effort(effort: str, thinking: str) -> Json:
    """Return how much to think, by the parameters that *thinking* names in the server's quirks."""
    switch, _, beside = thinking.partition("+")
    is_on = effort != "none"
    forms: dict[str, Json] = {
        "reasoning_effort": {"reasoning_effort": effort},
        "reasoning": {"reasoning": {"effort": effort}},
        "thinking": {"thinking": {"type": "enabled" if is_on else "disabled"}},
        "chat_template_kwargs": {"chat_template_kwargs": {"enable_thinking": is_on}},
        "enable_thinking": {"enable_thinking": is_on},
    }
    spelled = forms[switch]
    if beside and is_on:
        spelled["reasoning_effort"] = effort
    if switch == "enable_thinking" and effort != "max" and effort in EFFORT_BUDGETS:
        spelled["thinking_budget"] = EFFORT_BUDGETS[effort]  # type: ignore[index]  # any text
    return spelled


# -- messages ----------------------------------------------------------------------------------------------------------


def _encode_messages(messages: Iterable[Message], quirks: Quirks) -> list[Json]:
    """Return *messages*. Media in the results of tools, which only a user may send, follow all results of the turn."""
    written: list[Json] = []
    shown: list[Json] = []
    for message in messages:
        for result in (block for block in message.blocks if isinstance(block, ToolResultBlock)):
            written.append(_tool_message(result, quirks))
            media = [_part(part, quirks) for part in result.output if isinstance(part, MediaBlock)]
            if media:
                shown += [{"type": "text", "text": f"From the result of {result.name} ({result.id}):"}, *media]
        content = [block for block in message.blocks if not isinstance(block, (ToolResultBlock, ProviderItemBlock))]
        if not content:
            continue
        if message.role == "assistant":
            _flush(shown, written)
            if (answer := _assistant_message(message, quirks)) is not None:
                written.append(answer)
        else:
            parts = [_part(block, quirks) for block in content]
            if message.role == "user":
                parts, shown = shown + parts, []
            else:
                _flush(shown, written)
            written.append({"role": message.role, **_named(message, quirks), "content": _content(parts, quirks)})
    _flush(shown, written)
    return written


def _flush(shown: list[Json], written: list[Json]) -> None:
    if shown:
        written.append({"role": "user", "content": list(shown)})
        shown.clear()


def _named(message: Message, quirks: Quirks) -> Json:
    if message.name is None or not quirks.names:
        return {}
    return {"name": re.sub(r"[\s<|\\/>]", "_", message.name)[:64]}


def _content(parts: list[Json], quirks: Quirks) -> str | list[Json]:
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        text: str = parts[0]["text"]
        return text
    if quirks.text_only:
        return "\n\n".join(part["text"] for part in parts)
    return parts


def _assistant_message(message: Message, quirks: Quirks) -> Json | None:
    """The model's own message; None if there is nothing in it but thinking, which alone cannot be sent."""
    for block in message.blocks:
        if isinstance(block, MediaBlock):
            raise UnsupportedFeature(f"openai cannot take {block.kind} in an assistant's message")
    texts = [_part(block, quirks) for block in message.blocks if isinstance(block, TextBlock) and block.text]
    calls = [_call(block, quirks) for block in message.blocks if isinstance(block, ToolUseBlock)]
    if calls and quirks.thought_signatures:
        # Only the first call of a turn must be signed, and this one was made elsewhere.
        calls[0].setdefault("extra_content", {"google": {"thought_signature": _SKIP_SIGNATURE}})
    if not texts and not calls:
        return None
    written: Json = {"role": "assistant", **_named(message, quirks)}
    written["content"] = _content(texts, quirks) if texts else None
    if calls:
        written["tool_calls"] = calls
        written |= _reasoning([block for block in message.blocks if isinstance(block, ThinkingBlock)], quirks)
    return written


_NO_REASONING = "(no reasoning is known)"
"""Stands for the thinking of another model; some servers take an empty text for none, and refuse the call."""


def _reasoning(blocks: list[ThinkingBlock], quirks: Quirks) -> Json:
    """What the model thought before it called a tool, for servers that want it back; only what came from here."""
    ours = [block for block in blocks if block.provider in (None, PROVIDER)]
    if quirks.reasoning == "reasoning_content":
        # Demanded of every message with calls, also of one that another model wrote.
        return {"reasoning_content": "".join(block.thinking for block in ours) or _NO_REASONING}
    if quirks.reasoning == "reasoning_details":
        kept = [detail for block in ours if block.data for detail in json.loads(block.data)]
        return {"reasoning_details": kept} if kept else {}
    return {}


_SKIP_SIGNATURE = "skip_thought_signature_validator"
"""Google's documented word for a call that its models did not make."""


def _call(block: ToolUseBlock, quirks: Quirks) -> Json:
    function = {"name": block.name, "arguments": json.dumps(block.arguments, ensure_ascii=False)}
    call = {"id": write_call_id(block.id, _MAX_CALL_ID, quirks), "type": "function", "function": function}
    if block.signature and block.provider == PROVIDER:
        call["extra_content"] = {"google": {"thought_signature": block.signature}}
    return call


def write_call_id(call_id: str, max_length: int, quirks: Quirks) -> str:
    """Return an id that the server takes; the same for a call and its result, whoever made it."""
    if quirks.tool_ids == "nine":
        is_taken = re.fullmatch(r"[a-zA-Z0-9]{9}", call_id) is not None
        return call_id if is_taken else hashlib.sha256(call_id.encode()).hexdigest()[:9]
    return call_id if len(call_id) <= max_length else "call_" + hashlib.sha256(call_id.encode()).hexdigest()[:32]


def _tool_message(result: ToolResultBlock, quirks: Quirks) -> Json:
    texts = [part.text for part in result.output if isinstance(part, TextBlock)]
    kinds = [part.kind for part in result.output if isinstance(part, MediaBlock)]
    if kinds:
        texts.append(f"({', '.join(kinds)}: see the next message of the user)")
    content = "\n".join(texts)
    if result.is_error:
        content = f"Error: {content}"
    return {"role": "tool", "tool_call_id": write_call_id(result.id, _MAX_CALL_ID, quirks), "content": content}


# -- parts -------------------------------------------------------------------------------------------------------------


def _part(block: ContentBlock, quirks: Quirks) -> Json:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text, **write_cache_mark(block, quirks)}
    if not isinstance(block, MediaBlock):
        raise UnsupportedFeature(f"openai cannot take a {type(block).__name__} here")
    if quirks.text_only:
        raise UnsupportedFeature(f"this server cannot take {block.kind}: it knows text only")
    return {**_media(block, quirks), **write_cache_mark(block, quirks)}


def _media(block: MediaBlock, quirks: Quirks) -> Json:
    source = block.source
    match block.kind:
        case "audio":
            return write_audio(block, quirks)
        case "document":
            if isinstance(source, FileSource):
                return {"type": "file", "file": write_file_id(source)}
            if not isinstance(source, Base64Source):
                raise UnsupportedFeature("openai cannot take a document by its address: give the data or a file")
            return {"type": "file", "file": {"filename": block.name or "document.pdf", "file_data": source.url}}
        case "video" if not quirks.video:
            raise UnsupportedFeature("openai cannot take video")
    if not isinstance(source, UrlSource | Base64Source):
        raise UnsupportedFeature(f"openai takes an uploaded file as a document only: send the {block.kind} itself")
    detail = {"detail": block.detail} if block.kind == "image" and block.detail else {}
    return {"type": f"{block.kind}_url", f"{block.kind}_url": {"url": source.url, **detail}}


def write_cache_mark(block: TextBlock | MediaBlock, quirks: Quirks) -> Json:
    """Return the key that marks *block* for the prompt cache, as this server writes it; {} for none.

    OpenAI's: developers.openai.com/api/docs/guides/prompt-caching; OpenRouter's:
    openrouter.ai/docs/features/prompt-caching.
    """
    if block.cache is None or quirks.cache_marks is None:
        return {}
    if quirks.cache_marks == "breakpoint":
        return {"prompt_cache_breakpoint": {"mode": "explicit"}}
    return {"cache_control": dict(block.cache)}


_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


def write_audio(block: MediaBlock, quirks: Quirks) -> Json:
    """Return the part for a sound. Raises UnsupportedFeature for all but the data of wav and mp3."""
    if not isinstance(block.source, Base64Source):
        raise UnsupportedFeature("openai cannot take audio by its address: give the data or a file")
    written = _AUDIO.get(block.source.media_type)
    if written is None:
        raise UnsupportedFeature(f"openai cannot take audio of type {block.source.media_type}: only wav and mp3")
    data = f"data:;base64,{block.source.data}" if quirks.audio == "data_url" else block.source.data
    return {"type": "input_audio", "input_audio": {"data": data, "format": written}}


def write_file_id(source: FileSource) -> Json:
    """Return the key that names an uploaded file. Raises UnsupportedFeature for one that another vendor has."""
    if source.provider != PROVIDER:
        raise UnsupportedFeature(f"openai does not know a file that was uploaded to {source.provider}")
    return {"file_id": source.file_id}


# -- tools and structure -----------------------------------------------------------------------------------------------


def encode_tools(tools: Iterable[Tool], choice: ToolChoice | None, quirks: Quirks) -> Json:
    """The tools and which may be called; what the server does not obey is had by offering fewer, or refused."""
    offered = list(tools)
    if choice is None:
        return {"tools": [_tool(tool) for tool in offered]}
    if choice.mode == "none" and "none" not in quirks.tool_choices:
        return {}
    if choice.mode == "tool" and "tool" not in quirks.tool_choices:
        offered = [tool for tool in offered if tool.name == choice.name]
        choice = ToolChoice("required")
    if choice.mode == "required" and "required" not in quirks.tool_choices and len(offered) == 1:
        choice = ToolChoice("tool", offered[0].name)
    if choice.mode not in quirks.tool_choices:
        raise UnsupportedFeature(f"this server cannot be made to call a tool: tool_choice {choice.mode} is not for it")
    named = {"type": "function", "function": {"name": choice.name}}
    return {"tools": [_tool(tool) for tool in offered], "tool_choice": named if choice.mode == "tool" else choice.mode}


def _tool(tool: Tool) -> Json:
    if tool.native is not None:
        return dict(tool.native)
    schema, description = plain_root(tool)
    function: Json = {"name": tool.name, "parameters": schema}
    if description:
        function["description"] = description
    if tool.strict is not None:
        # Strictness is a guarantee on top: a schema that cannot have it is refused with it, and taken without.
        function["strict"] = tool.strict and is_strict(schema)
    return {"type": "function", "function": function}


def structured_method(request: ChatRequest, quirks: Quirks) -> Method:
    """How the server is asked for structured output; a JSON mode gives objects only."""
    model = request.structured_model
    if quirks.structured == "prompt" or (model is not None and not is_object(get_schema(model))):
        return "prompt"
    methods: dict[str, Method] = {"json_schema": "native", "json_object": "prompt", "tool": "tool"}
    return methods[quirks.structured]


def _ask_structured(payload: Json, structured: Structured, quirks: Quirks) -> None:
    if structured.method == "native":
        payload["response_format"] = write_schema(structured, quirks)
    elif structured.method == "tool":
        payload |= encode_tools([structured.tool()], structured.tool_choice(), quirks)
    else:
        ask_in_words(payload["messages"], structured.prompt(), "text")
        if quirks.structured == "json_object" and is_object(structured.schema):
            payload["response_format"] = {"type": "json_object"}


def ask_in_words(messages: list[Json], wish: str, text_type: str) -> None:
    """Add *wish* to the last of *messages* if it is the user's, else as a message; *text_type* is that of its parts."""
    last = messages[-1] if messages else {}
    if last.get("role") != "user":
        messages.append({"role": "user", "content": wish})
    elif isinstance(last["content"], str):  # some servers take no two messages of a user in a row
        last["content"] += "\n\n" + wish
    else:
        last["content"] = [*last["content"], {"type": text_type, "text": wish}]
