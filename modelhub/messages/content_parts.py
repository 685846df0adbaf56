"""The parts of a message's content, as each dialect writes them, to blocks.

Understood are OpenAI's parts (of chat completions and of the Responses API), Anthropic's and the seed's blocks,
Gemini's parts, DashScope's (which have no `type`) and MCP's. A reader takes one part and its place
(`messages[2].content[0]`) and gives a block, or None for a part with nothing to send. Keys that it does not know are
left out. A wrong shape raises `InvalidRequest` with the place, what was expected and the type of what was found.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable, Mapping
from typing import Any

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    FileSource,
    MediaBlock,
    MediaKind,
    Source,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from modelhub.messages.gemini_parts import read_gemini_part
from modelhub.messages.media_sources import from_data_url, from_url, is_address, read_source
from modelhub.messages.responses_items import (
    PROVIDER_ITEMS,
    read_call_item,
    read_custom_call,
    read_kept_item,
    read_phase,
    read_provider_item,
    read_reasoning,
)
from modelhub.messages.sanitize import copy_arguments, copy_json, parse_arguments
from modelhub.messages.validation import (
    Json,
    as_mapping,
    as_sequence,
    either,
    named,
    optional_text,
    required_name,
    required_text,
    unknown,
    wrong,
)

Located = list[tuple[str, "ContentBlock"]]
Reader = Callable[[Json, str], "ContentBlock | None"]


def read_cache(block: Json, at: str) -> Json | None:
    """The mark of a prompt cache on a part, a message or a tool: Anthropic's, or OpenAI's for the same place."""
    mark = block.get("cache_control")
    if mark is None and block.get("prompt_cache_breakpoint") is not None:
        return {"type": "ephemeral"}
    return copy_json(mark, f"{at}.cache_control") if isinstance(mark, Mapping) else None


def _signed(block: Json, at: str, usual: str) -> tuple[str | None, str | None]:
    # A signature without its provider was not written by us: then only the vendor who writes this kind is meant.
    signature = optional_text(block, either(block, "signature", "thought_signature", at), at)
    return signature, optional_text(block, "provider", at) or (usual if signature else None)


def _text(block: Json, at: str) -> TextBlock | None:
    text = required_text(block, "text", at)
    signature, provider = _signed(block, at, "gemini")
    read = TextBlock(text, signature, provider, read_cache(block, at)) if text or signature else None
    return read_phase(block, read)


def _refusal(block: Json, at: str) -> TextBlock | None:
    text = required_text(block, "refusal", at)
    return TextBlock(text) if text else None


def _thinking(block: Json, at: str) -> ThinkingBlock | None:
    text = required_text(block, "thinking", at)
    data = optional_text(block, "data", at)
    signature, provider = _signed(block, at, "anthropic")
    item = copy_json(block["item"], f"{at}.item") if isinstance(block.get("item"), Mapping) else None
    host = optional_text(block, "host", at)
    return ThinkingBlock(text, signature, data, provider, item, host) if text or signature or data or item else None


def _redacted_thinking(block: Json, at: str) -> ThinkingBlock:
    provider = optional_text(block, "provider", at) or "anthropic"
    return ThinkingBlock("", data=required_name(block, "data", at), provider=provider)


def read_tool_use(block: Json, at: str) -> ToolUseBlock:
    """A call of a tool, written as a block."""
    signature, provider = _signed(block, at, "gemini")
    key = either(block, "input", either(block, "args", "arguments", at), at)
    arguments, raw = read_arguments(block.get(key), optional_text(block, "raw_input", at), f"{at}.{key}")
    call = ToolUseBlock(
        optional_text(block, "call_id" if block.get("call_id") else "id", at) or "",
        required_name(block, "name", at),
        arguments,
        signature,
        provider,
        raw,
        read_cache(block, at),
    )
    return read_call_item(block, call, at)


def read_arguments(value: object, text: str | None, at: str) -> tuple[dict[str, Any], str | None]:
    """The arguments of a call and None; or an empty dict and their text, where they are no object that can be sent.

    *value* is a dict or JSON text, *text* what the model wrote if that is known too.
    """
    if isinstance(value, str):
        return parse_arguments(value)
    return copy_arguments({} if value is None else value, text, at)


def _tool_result(block: Json, at: str) -> ToolResultBlock:
    key = either(block, "output", "content", at)
    call_id = next((key for key in ("tool_use_id", "call_id", "tool_call_id") if block.get(key)), "id")
    return ToolResultBlock(
        optional_text(block, call_id, at) or "",
        optional_text(block, "name", at) or "",
        read_output(block.get(key), f"{at}.{key}"),
        read_failed(block, at),
        read_cache(block, at),
    )


def read_failed(result: Json, at: str) -> bool:
    """Whether *result* says that the tool failed: Anthropic's `is_error`, MCP's `isError`, LangChain's `status`."""
    failed = result.get(either(result, "is_error", "isError", at))
    if failed is not None and not isinstance(failed, bool):
        raise wrong(f"{at}.is_error", "true or false", failed)
    return failed if failed is not None else result.get("status") == "error"


def _media(kind: MediaKind) -> Reader:
    def read(block: Json, at: str) -> MediaBlock:
        if isinstance(block.get(kind), (str, Mapping)) and block.get("source") is None:
            return _url(kind, kind)(block, at)
        name = optional_text(block, either(block, "name", "title", at), at)
        return MediaBlock(kind, read_source(block, at), name, optional_text(block, "detail", at), read_cache(block, at))

    return read


def _file(block: Json, at: str) -> MediaBlock:
    if either(block, "file", "source", at) == "file":
        return _openai_file(block, "file", at)
    source = read_source(block, at)
    name = optional_text(block, either(block, "name", "filename", at), at)
    return MediaBlock(_kind_of(source), source, name, cache=read_cache(block, at))


def _kind_of(source: Source) -> MediaKind:
    return _KINDS.get((source.media_type or "").partition("/")[0], "document")


def _openai_file(block: Json, key: str, at: str) -> MediaBlock:
    inner = f"{at}.{key}" if key else at
    found = as_mapping(block[key], inner, '{"file_data": ..., "filename": ...}') if key else block
    name = optional_text(found, "filename", inner)
    if found.get("file_data") is None and found.get("file_id") is not None:
        source: Source = FileSource(required_name(found, "file_id", inner), "openai")
    elif found.get("file_data") is None and found.get("file_url") is not None:
        source = from_url(found["file_url"], f"{inner}.file_url")
    else:
        data = required_name(found, "file_data", inner)
        if not data.startswith("data:"):  # some servers take bare base64, and the name says what it is
            data = f"data:{mimetypes.guess_type(name or '', strict=False)[0] or 'application/pdf'};base64,{data}"
        source = from_data_url(data, f"{inner}.file_data")
    return MediaBlock(_kind_of(source), source, name, cache=read_cache(block, at))


def _url(key: str, kind: MediaKind) -> Callable[[Json, str], MediaBlock]:
    def read(block: Json, at: str) -> MediaBlock:
        inner, found = f"{at}.{key}", block.get(key)
        if key == "image_url" and found is None and block.get("file_id") is not None:
            return MediaBlock(kind, FileSource(required_name(block, "file_id", at), "openai"))
        if not isinstance(found, Mapping) and not hasattr(found, "model_dump"):
            found = {"url": found, "detail": block.get("detail")} if found is not None else None
        found = as_mapping(found, inner, '{"url": ...}')
        source = from_url(found.get("url"), f"{inner}.url")
        return MediaBlock(kind, source, detail=optional_text(found, "detail", inner), cache=read_cache(block, at))

    return read


def _input_audio(block: Json, at: str) -> MediaBlock:
    inner = f"{at}.input_audio"
    found = as_mapping(block.get("input_audio"), inner, '{"data": ..., "format": ...}')
    data, written = required_name(found, "data", inner), optional_text(found, "format", inner)
    media_type = written and {"mp3": "audio/mpeg"}.get(written, f"audio/{written}")
    if is_address(data):
        return MediaBlock("audio", from_url(data, f"{inner}.data", media_type), cache=read_cache(block, at))
    if media_type is None:
        raise wrong(f"{inner}.format", "a string", None)
    return MediaBlock("audio", Base64Source(data, media_type), cache=read_cache(block, at))


def _resource(block: Json, at: str) -> ContentBlock | None:
    """What an MCP server gives in the place of a file: its text, or its data."""
    inner = f"{at}.resource"
    found = as_mapping(block.get("resource"), inner, '{"uri": ..., "text": ...}')
    if (text := optional_text(found, "text", inner)) is not None or found.get("blob") is None:
        return TextBlock(text) if text else None
    return _file({"type": "file", "source": {"type": "base64", "data": found["blob"], **_mime(found)}}, inner)


def _resource_link(block: Json, at: str) -> TextBlock:
    """What an MCP server names without giving it: its address in words, which the model may ask for."""
    name = optional_text(block, either(block, "title", "name", at), at)
    return TextBlock(f"{name}: {required_name(block, 'uri', at)}" if name else required_name(block, "uri", at))


def _pass_over(block: Json, at: str) -> None:
    """What a vendor's own tools did on its servers: no other vendor takes it, and the answer's text tells of it."""


def _mime(found: Json) -> Json:
    return {"media_type": found.get("mimeType") or found.get("mime_type") or "application/octet-stream"}


SERVER_TOOLS = (
    *("server_tool_use", "mcp_tool_use", "mcp_tool_result", "web_search_tool_result", "web_fetch_tool_result"),
    *("code_execution_tool_result", "bash_code_execution_tool_result", "text_editor_code_execution_tool_result"),
)
"""Blocks of Anthropic that report what its own tools did."""
_KINDS: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}

_PARTS: dict[str, Reader] = {
    "text": _text,
    "refusal": _refusal,
    "thinking": _thinking,
    "redacted_thinking": _redacted_thinking,
    "tool_use": read_tool_use,
    "tool_result": _tool_result,
    "image": _media("image"),
    "audio": _media("audio"),
    "video": _media("video"),
    "document": _media("document"),
    "file": _file,
    "image_url": _url("image_url", "image"),
    "video_url": _url("video_url", "video"),
    "input_audio": _input_audio,
}
_OTHER_NAMES: dict[str, Reader] = {
    "input_text": _text,
    "output_text": _text,
    "summary_text": _text,
    "reasoning": read_reasoning,
    "provider_item": read_kept_item,
    "tool_call": read_tool_use,
    "function_call": read_tool_use,
    "custom_tool_call": read_custom_call,
    "function_call_output": _tool_result,
    "custom_tool_call_output": _tool_result,
    "input_image": _url("image_url", "image"),
    "input_file": lambda block, at: _openai_file(block, "", at),
    "audio_url": _url("audio_url", "audio"),
    "data": _file,
    "resource": _resource,
    "resource_link": _resource_link,
    **dict.fromkeys(SERVER_TOOLS, _pass_over),
    **dict.fromkeys(PROVIDER_ITEMS, read_provider_item),
}


def read_part(part: object, at: str) -> ContentBlock | None:
    """The block of one part of content; None for a part with nothing to send."""
    if isinstance(part, str):
        return TextBlock(part) if part else None
    found = as_mapping(part, at, "a string or a dict with `type`")
    kind = found.get("type")
    if kind is None and (read := _reader_of_untyped(found)) is not None:
        return read(found, at)
    if not isinstance(kind, str) or (kind not in _PARTS and kind not in _OTHER_NAMES):
        raise unknown(f"{at}.type", "type", kind, _PARTS)
    return (_PARTS.get(kind) or _OTHER_NAMES[kind])(found, at)


def _reader_of_untyped(part: Json) -> Reader | None:
    """How to read a part that its only key describes: DashScope's and Gemini's have no `type`."""
    for key in ("text", "image", "audio", "video"):
        if isinstance(part.get(key), str):
            return read_gemini_part if key == "text" and any(mark in part for mark in _THOUGHTS) else _PARTS[key]
    return None if part.keys().isdisjoint(_GEMINI_KEYS) else read_gemini_part


_THOUGHTS = ("thought", "thoughtSignature", "thought_signature")
_GEMINI_KEYS = frozenset(
    {
        *("text", "inline_data", "inlineData", "file_data", "fileData"),
        *("function_call", "functionCall", "function_response", "functionResponse"),
        *("executable_code", "executableCode", "code_execution_result", "codeExecutionResult"),
    }
)


def read_content(content: object, at: str) -> Located:
    """The blocks of *content*, each with its place; parts with nothing to send are left out."""
    if content is None or isinstance(content, str):
        return [(at, TextBlock(content))] if content else []
    if isinstance(content, Mapping):
        content = [content]
    parts = as_sequence(content, at, "a string or a list of parts")
    places = [f"{at}[{index}]" for index in range(len(parts))]
    read = [(place, read_part(part, place)) for place, part in zip(places, parts, strict=True)]
    return [(place, block) for place, block in read if block is not None]


def read_output(output: object, at: str) -> tuple[TextBlock | MediaBlock, ...]:
    """What a tool gave back: text and media; other JSON values are written as text."""
    if _is_plain_json(output):
        return (TextBlock(_json_text(output, at)),)
    blocks: list[TextBlock | MediaBlock] = []
    for place, block in read_content(output, at):
        if not isinstance(block, (TextBlock, MediaBlock)):
            raise InvalidRequest(f"{place}: a tool result holds text and media only")
        blocks.append(block)
    return tuple(blocks)


def _is_plain_json(output: object) -> bool:
    """Whether *output* is JSON that a tool returned, and not a list of parts."""
    if isinstance(output, (list, tuple)):
        return any(_is_plain_json(item) for item in output)
    if isinstance(output, Mapping):
        return "type" not in output and _reader_of_untyped(output) is None
    return isinstance(output, (int, float))


def _json_text(output: object, at: str) -> str:
    try:
        return json.dumps(output, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(f"{at}: expected text, parts or JSON values, got {named(output)}") from None
