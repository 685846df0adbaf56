"""Requests to OpenAI's Responses API: the neutral conversation, tools and wishes as its parameters."""

from __future__ import annotations

import json
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
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from modelhub.providers.openai.models import find_model
from modelhub.providers.openai.request import (
    ask_in_words,
    encode_tools,
    write_audio,
    write_cache_mark,
    write_call_id,
    write_file_id,
)
from modelhub.providers.openai.response import PROVIDER
from modelhub.providers.openai.schema import is_object, write_schema
from modelhub.providers.openai.servers import Quirks
from modelhub.providers.structured_output import Structured

__all__ = ["SPELLINGS", "encode_request", "says_nothing"]

Json = dict[str, Any]

_MAX_CALL_ID = 64
_IN_RESULTS = ("image", "document")
"""The media that the result of a tool may hold."""
ENCRYPTED_REASONING = "reasoning.encrypted_content"
SPELLINGS: Mapping[str, str] = {
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
}
"""What neutral parameters are called here that have another name than in chat completions."""


def encode_request(
    model: str, request: ChatRequest, structured: Structured | None, stream: bool, quirks: Quirks, *, host: str
) -> Json:
    """Return the parameters of a response; the caller's own are in the request's options; *host* is where it is sent.

    Nothing is stored at the server unless the caller says so, and reasoning is asked for in its encrypted form.
    """
    payload: Json = {"model": model, "store": False, **_spell_parameters(request.options)}
    payload["input"] = _encode_conversation(request.messages, quirks, host, is_stored=payload["store"] is True)
    if find_model(model).reasons or "reasoning" in payload:
        payload["include"] = list(dict.fromkeys([*payload.get("include", ()), ENCRYPTED_REASONING]))
    own_tools = payload.pop("tools", None) or []
    if request.tools:
        payload |= _flatten_tools(encode_tools(request.tools, request.tool_choice, quirks))
    if own_tools:
        payload["tools"] = [*payload.get("tools", ()), *own_tools]
    if structured is not None:
        _ask_structured(payload, structured, quirks)
    payload["stream"] = stream
    return payload


# -- parameters --------------------------------------------------------------------------------------------------------


def _spell_parameters(parameters: Mapping[str, Any]) -> Json:
    """Return *parameters* by the names of this API, those of chat completions too; those that say nothing left out."""
    spelled = {name: value for name, value in parameters.items() if not says_nothing(name, value)}
    for name in ("max_completion_tokens", "max_tokens"):  # see `SPELLINGS`
        if name in spelled:
            limit = spelled.pop(name)
            spelled.setdefault("max_output_tokens", limit)
    if (effort := spelled.pop("reasoning_effort", None)) is not None:
        spelled["reasoning"] = {"effort": effort, **spelled.get("reasoning", {})}
    text: Json = {}
    if (verbosity := spelled.pop("verbosity", None)) is not None:
        text["verbosity"] = verbosity
    if (form := spelled.pop("response_format", None)) is not None:
        text["format"] = _flatten_form(form)
    if text:
        spelled["text"] = {**text, **spelled.get("text", {})}
    options = spelled.pop("stream_options", None)
    # Usage always comes here, and may not be asked for.
    if isinstance(options, Mapping) and (kept := {key: options[key] for key in options if key != "include_usage"}):
        spelled["stream_options"] = kept
    return spelled


def says_nothing(name: str, value: Any) -> bool:
    """Whether the parameter *name* with *value* asks for nothing but what chat completions do without it."""
    return value is None or (name in _NEUTRAL and value == _NEUTRAL[name])


_NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "logprobs": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "stop": [],
    "logit_bias": {},
}


def _flatten_form(form: Any) -> Any:
    """Return a `response_format` as the format of a text: what is in `json_schema` there stands beside the type."""
    if isinstance(form, Mapping) and isinstance(schema := form.get("json_schema"), Mapping):
        return {"type": "json_schema", **schema}
    return form


# -- tools and structure -----------------------------------------------------------------------------------------------


def _flatten_tools(parameters: Json) -> Json:
    """Return the *parameters* of chat completions that are about tools, in the form of this API."""
    flat: Json = {}
    if "tools" in parameters:
        flat["tools"] = [  # left out, `strict` means true here
            {"type": "function", "strict": False, **tool["function"]} if "function" in tool else tool
            for tool in parameters["tools"]
        ]
    if "tool_choice" in parameters:
        choice, types = parameters["tool_choice"], {tool["type"] for tool in flat["tools"]}
        if isinstance(choice, dict):
            name = choice["function"]["name"]
            is_function = any(tool.get("name") == name for tool in flat["tools"])
            choice = {"type": name} if not is_function and name in types else {"type": "function", "name": name}
        flat["tool_choice"] = choice
    return flat


def _ask_structured(payload: Json, structured: Structured, quirks: Quirks) -> None:
    if structured.method == "native":
        form = _flatten_form(write_schema(structured, quirks))
        payload["text"] = {**payload.get("text", {}), "format": form}
    elif structured.method == "tool":
        payload |= _flatten_tools(encode_tools([structured.tool()], structured.tool_choice(), quirks))
    else:
        ask_in_words(payload["input"], structured.prompt(), "input_text")
        if quirks.structured == "json_object" and is_object(structured.schema):
            payload["text"] = {**payload.get("text", {}), "format": {"type": "json_object"}}


# -- the conversation --------------------------------------------------------------------------------------------------


def _encode_conversation(messages: Iterable[Message], quirks: Quirks, host: str, *, is_stored: bool) -> list[Json]:
    """Return the input items for *messages*.

    Reasoning and a vendor's own items go back to the *host* that wrote them; reasoning that is not encrypted only where
    the server keeps it (*is_stored*). Raises UnsupportedFeature for media that the API cannot take.
    """
    conversation = _Conversation(quirks, host, is_stored)
    for message in messages:
        if message.role == "assistant":
            conversation.add_answer(message)
        else:
            conversation.add_input(message)
    conversation.flush()
    return conversation.items


class _Conversation:
    """The input items so far, the calls in them, and media of results that only a user may send."""

    def __init__(self, quirks: Quirks, host: str, is_stored: bool) -> None:
        self.items: list[Json] = []
        self._quirks = quirks
        self._host = host
        self._is_stored = is_stored
        self._calls: dict[str, Mapping[str, Any]] = {}
        self._shown: list[Json] = []

    def add_answer(self, message: Message) -> None:
        """Add the items of a model's message, in their order."""
        self.flush()
        reasoning: list[Json] = []
        first = len(self.items)
        for block in message.blocks:
            if isinstance(block, ThinkingBlock):
                reasoning += self._reasoning(block)
                continue
            if (item := self._answer_item(block)) is None:
                continue
            # Reasoning is only taken with what came of it.
            self.items += reasoning
            reasoning = []
            last = self.items[-1] if len(self.items) > first else {}
            if "role" in last and "role" in item and last.get("phase") == item.get("phase"):
                last["content"] += item["content"]  # parts of one text
            else:
                self.items.append(item)

    def _reasoning(self, block: ThinkingBlock) -> list[Json]:
        if block.item is None or not self._is_from_here(block):
            return []
        if block.signature:
            return [{**block.item, "encrypted_content": block.signature}]
        return [dict(block.item)] if self._is_stored and block.item.get("id") else []

    def _answer_item(self, block: ContentBlock) -> Json | None:
        match block:
            case TextBlock():
                phase = {"phase": block.phase} if block.phase else {}
                return {"role": "assistant", "content": block.text, **phase} if block.text else None
            case ToolUseBlock():
                kept = self._calls[block.id] = dict(block.item or {})
                call = {**kept, "call_id": write_call_id(block.id, _MAX_CALL_ID, self._quirks), "name": block.name}
                if kept.get("type") == "custom_tool_call":
                    return {**call, "input": str(block.input.get("input", ""))}
                return {"type": "function_call", **call, "arguments": json.dumps(block.arguments, ensure_ascii=False)}
            case ProviderItemBlock():
                return dict(block.item) if self._is_from_here(block) else None
        kind = block.kind if isinstance(block, MediaBlock) else type(block).__name__
        raise UnsupportedFeature(f"openai cannot take {kind} in an assistant's message")

    def _is_from_here(self, block: ThinkingBlock | ProviderItemBlock) -> bool:
        return block.provider == PROVIDER and block.host in (None, self._host)

    def add_input(self, message: Message) -> None:
        """Add the items of a user's or the system's message, the results of tools first."""
        parts: list[Json] = []
        own_items: list[Json] = []
        for block in message.blocks:
            if isinstance(block, ToolResultBlock):
                self.items.append(self._result(block))
            elif not isinstance(block, ProviderItemBlock):
                parts.append(_part(block, self._quirks))
            elif self._is_from_here(block):
                own_items.append(dict(block.item))
        if parts and message.role == "user":
            parts, self._shown = self._shown + parts, []
        if parts:
            self.flush()
            is_plain = len(parts) == 1 and parts[0].keys() == {"type", "text"} and parts[0]["type"] == "input_text"
            self.items.append({"role": message.role, "content": parts[0]["text"] if is_plain else parts})
        self.items += own_items

    def _result(self, result: ToolResultBlock) -> Json:
        call = self._calls.get(result.id, {})
        outside = [part for part in result.output if isinstance(part, MediaBlock) and part.kind not in _IN_RESULTS]
        parts = [_part(part, self._quirks) for part in result.output if part not in outside]
        if outside:
            words = f"({', '.join(part.kind for part in outside)}: see the next message of the user)"
            parts.append({"type": "input_text", "text": words})
            heading = {"type": "input_text", "text": f"From the result of {result.name} ({result.id}):"}
            self._shown += [heading, *(_part(part, self._quirks) for part in outside)]
        output: str | list[Json] = [{"type": "input_text", "text": "Error:"}, *parts] if result.is_error else parts
        if all(part["type"] == "input_text" for part in parts):
            text = "\n".join(part["text"] for part in parts)
            output = f"Error: {text}" if result.is_error else text
        kind = "custom_tool_call_output" if call.get("type") == "custom_tool_call" else "function_call_output"
        written = {"type": kind, "call_id": write_call_id(result.id, _MAX_CALL_ID, self._quirks), "output": output}
        return {**written, "caller": call["caller"]} if "caller" in call else written

    def flush(self) -> None:
        """Add a user's message with the media of results that are not shown yet."""
        if self._shown:
            self.items.append({"role": "user", "content": self._shown})
            self._shown = []


def _part(block: ContentBlock, quirks: Quirks) -> Json:
    if isinstance(block, TextBlock):
        return {"type": "input_text", "text": block.text, **write_cache_mark(block, quirks)}
    if not isinstance(block, MediaBlock):
        raise UnsupportedFeature(f"openai cannot take a {type(block).__name__} here")
    if quirks.text_only or block.kind == "video":
        raise UnsupportedFeature(f"openai cannot take {block.kind} through its Responses API")
    return {**_media(block, quirks), **write_cache_mark(block, quirks)}


def _media(block: MediaBlock, quirks: Quirks) -> Json:
    if block.kind == "audio":
        if not quirks.responses_audio:
            raise UnsupportedFeature(
                "openai cannot take audio through its Responses API, only through chat completions"
            )
        return write_audio(block, quirks)
    source = block.source
    part: Json = {"type": "input_image", "detail": block.detail or "auto"}
    if block.kind == "document":
        part = {"type": "input_file"}
    if isinstance(source, FileSource):
        return part | write_file_id(source)
    if not isinstance(source, UrlSource | Base64Source):
        raise UnsupportedFeature(f"openai cannot take the {block.kind} from where it is: send the {block.kind} itself")
    if block.kind == "image":
        return {**part, "image_url": source.url}
    if isinstance(source, UrlSource):
        return {**part, "file_url": source.url}
    return {**part, "filename": block.name or "document.pdf", "file_data": source.url}
