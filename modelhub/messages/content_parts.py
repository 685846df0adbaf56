"""Convert the parts of a message's content, in all dialects, to blocks.

The dialects are OpenAI's (chat completions and Responses), Anthropic's, AgentScope's, Gemini's, DashScope's (whose
parts have no `type`) and MCP's. A reader takes one part and its path (`messages[2].content[0]`) and returns a block, or
None for a part with nothing to send. Unknown keys are left out. A malformed part raises `InvalidRequest` with the path,
what was expected, and the type of the value.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable, Mapping
from functools import partial
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
from modelhub.messages.media_sources import get_media_kind, is_address, parse_data_url, parse_url, read_source
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
    format_type_name,
    get_first_alias,
    get_optional_text,
    get_required_name,
    get_required_text,
    make_type_error,
    make_unknown_error,
)

Located = list[tuple[str, "ContentBlock"]]
Reader = Callable[[Json, str], "ContentBlock | None"]


def read_cache(block: Json, path: str) -> Json | None:
    """Return the prompt-cache mark of a part, a message or a tool, in Anthropic's form, or None."""
    mark = block.get("cache_control")
    if mark is None:
        return {"type": "ephemeral"} if block.get("prompt_cache_breakpoint") is not None else None
    return copy_json(mark, f"{path}.cache_control") if isinstance(mark, Mapping) else None


def _read_signature(block: Json, path: str, default_provider: str) -> tuple[str | None, str | None]:
    # A signature without a provider does not come from our replies: it is the vendor's who writes this type of block.
    signature = get_optional_text(block, get_first_alias(block, "signature", "thought_signature", path), path)
    return signature, get_optional_text(block, "provider", path) or (default_provider if signature else None)


def _read_text(block: Json, path: str) -> TextBlock | None:
    text = get_required_text(block, "text", path)
    signature, provider = _read_signature(block, path, "gemini")
    block_read = TextBlock(text, signature, provider, read_cache(block, path)) if text or signature else None
    return read_phase(block, block_read)


def _read_refusal(block: Json, path: str) -> TextBlock | None:
    text = get_required_text(block, "refusal", path)
    return TextBlock(text) if text else None


def _read_thinking(block: Json, path: str) -> ThinkingBlock | None:
    text = get_required_text(block, "thinking", path)
    data = get_optional_text(block, "data", path)
    signature, provider = _read_signature(block, path, "anthropic")
    item = copy_json(block["item"], f"{path}.item") if isinstance(block.get("item"), Mapping) else None
    host = get_optional_text(block, "host", path)
    return ThinkingBlock(text, signature, data, provider, item, host) if text or signature or data or item else None


def _read_redacted_thinking(block: Json, path: str) -> ThinkingBlock:
    provider = get_optional_text(block, "provider", path) or "anthropic"
    return ThinkingBlock("", data=get_required_name(block, "data", path), provider=provider)


def read_tool_use(block: Json, path: str) -> ToolUseBlock:
    """Return the tool call in *block*."""
    signature, provider = _read_signature(block, path, "gemini")
    key = get_first_alias(block, "input", get_first_alias(block, "args", "arguments", path), path)
    arguments, raw = read_arguments(block.get(key), get_optional_text(block, "raw_input", path), f"{path}.{key}")
    call = ToolUseBlock(
        get_optional_text(block, "call_id" if block.get("call_id") else "id", path) or "",
        get_required_name(block, "name", path),
        arguments,
        signature,
        provider,
        raw,
        read_cache(block, path),
    )
    return read_call_item(block, call, path)


def read_arguments(value: object, text: str | None, path: str) -> tuple[dict[str, Any], str | None]:
    """Return the arguments of a call and None; or, if they are not a valid JSON object, an empty dict and their text.

    *value* is a dict or JSON text; *text* is the model's original text, if it is known.
    """
    if isinstance(value, str):
        return parse_arguments(value)
    return copy_arguments({} if value is None else value, text, path)


def _read_tool_result(block: Json, path: str) -> ToolResultBlock:
    key = get_first_alias(block, "output", "content", path)
    call_id = next((key for key in ("tool_use_id", "call_id", "tool_call_id") if block.get(key)), "id")
    return ToolResultBlock(
        get_optional_text(block, call_id, path) or "",
        get_optional_text(block, "name", path) or "",
        read_output(block.get(key), f"{path}.{key}"),
        read_is_error(block, path),
        read_cache(block, path),
    )


def read_is_error(result: Json, path: str) -> bool:
    """Return whether *result* is an error: Anthropic's `is_error`, MCP's `isError`, LangChain's `status`."""
    failed = result.get(get_first_alias(result, "is_error", "isError", path))
    if failed is not None and not isinstance(failed, bool):
        raise make_type_error(f"{path}.is_error", "true or false", failed)
    return failed if failed is not None else result.get("status") == "error"


def _read_media(kind: MediaKind, block: Json, path: str) -> MediaBlock:
    if isinstance(block.get(kind), (str, Mapping)) and block.get("source") is None:
        return _read_url(kind, kind, block, path)
    name = get_optional_text(block, get_first_alias(block, "name", "title", path), path)
    source, detail = read_source(block, path), get_optional_text(block, "detail", path)
    return MediaBlock(kind, source, name, detail, read_cache(block, path))


def _read_file(block: Json, path: str) -> MediaBlock:
    if get_first_alias(block, "file", "source", path) == "file":
        return _read_openai_file("file", block, path)
    source = read_source(block, path)
    name = get_optional_text(block, get_first_alias(block, "name", "filename", path), path)
    return MediaBlock(get_media_kind(source.media_type), source, name, cache=read_cache(block, path))


def _read_openai_file(key: str, block: Json, path: str) -> MediaBlock:
    inner = f"{path}.{key}" if key else path
    file = as_mapping(block[key], inner, '{"file_data": ..., "filename": ...}') if key else block
    name = get_optional_text(file, "filename", inner)
    if file.get("file_data") is None and file.get("file_id") is not None:
        source: Source = FileSource(get_required_name(file, "file_id", inner), "openai")
    elif file.get("file_data") is None and file.get("file_url") is not None:
        source = parse_url(file["file_url"], f"{inner}.file_url")
    else:
        data = get_required_name(file, "file_data", inner)
        if not data.startswith("data:"):  # some servers accept bare base64, whose type the file name shows
            data = f"data:{mimetypes.guess_type(name or '', strict=False)[0] or 'application/pdf'};base64,{data}"
        source = parse_data_url(data, f"{inner}.file_data")
    return MediaBlock(get_media_kind(source.media_type), source, name, cache=read_cache(block, path))


def _read_url(key: str, kind: MediaKind, block: Json, path: str) -> MediaBlock:
    """Return the media whose address is under *key*, alone or with more in a dict."""
    inner, media = f"{path}.{key}", block.get(key)
    if key == "image_url" and media is None and block.get("file_id") is not None:
        return MediaBlock(kind, FileSource(get_required_name(block, "file_id", path), "openai"))
    if not isinstance(media, Mapping) and not hasattr(media, "model_dump"):
        media = {"url": media, "detail": block.get("detail")} if media is not None else None
    media = as_mapping(media, inner, '{"url": ...}')
    source = parse_url(media.get("url"), f"{inner}.url")
    return MediaBlock(kind, source, detail=get_optional_text(media, "detail", inner), cache=read_cache(block, path))


def _read_input_audio(block: Json, path: str) -> MediaBlock:
    inner = f"{path}.input_audio"
    audio = as_mapping(block.get("input_audio"), inner, '{"data": ..., "format": ...}')
    data, audio_format = get_required_name(audio, "data", inner), get_optional_text(audio, "format", inner)
    media_type = audio_format and {"mp3": "audio/mpeg"}.get(audio_format, f"audio/{audio_format}")
    if is_address(data):
        return MediaBlock("audio", parse_url(data, f"{inner}.data", media_type), cache=read_cache(block, path))
    if media_type is None:
        raise make_type_error(f"{inner}.format", "a string", None)
    return MediaBlock("audio", Base64Source(data, media_type), cache=read_cache(block, path))


def _read_resource(block: Json, path: str) -> ContentBlock | None:
    """Return the text or the data of an MCP resource."""
    inner = f"{path}.resource"
    resource = as_mapping(block.get("resource"), inner, '{"uri": ..., "text": ...}')
    if (text := get_optional_text(resource, "text", inner)) is not None or resource.get("blob") is None:
        return TextBlock(text) if text else None
    media_type = resource.get("mimeType") or resource.get("mime_type") or "application/octet-stream"
    return _read_file({"source": {"type": "base64", "data": resource["blob"], "media_type": media_type}}, inner)


def _read_resource_link(block: Json, path: str) -> TextBlock:
    """Return an MCP resource link as text: its name and its address."""
    name = get_optional_text(block, get_first_alias(block, "title", "name", path), path)
    uri = get_required_name(block, "uri", path)
    return TextBlock(f"{name}: {uri}" if name else uri)


def _skip(block: Json, path: str) -> None:
    """Skip the report of a tool that ran on a vendor's server: no other vendor accepts it."""


SERVER_TOOLS = (
    *("server_tool_use", "mcp_tool_use", "mcp_tool_result", "web_search_tool_result", "web_fetch_tool_result"),
    *("code_execution_tool_result", "bash_code_execution_tool_result", "text_editor_code_execution_tool_result"),
)
"""Anthropic's blocks about tools that ran on its servers."""

_PART_READERS: dict[str, Reader] = {
    "text": _read_text,
    "refusal": _read_refusal,
    "thinking": _read_thinking,
    "redacted_thinking": _read_redacted_thinking,
    "tool_use": read_tool_use,
    "tool_result": _read_tool_result,
    "image": partial(_read_media, "image"),
    "audio": partial(_read_media, "audio"),
    "video": partial(_read_media, "video"),
    "document": partial(_read_media, "document"),
    "file": _read_file,
    "image_url": partial(_read_url, "image_url", "image"),
    "video_url": partial(_read_url, "video_url", "video"),
    "input_audio": _read_input_audio,
}
_ALIAS_READERS: dict[str, Reader] = {
    "input_text": _read_text,
    "output_text": _read_text,
    "summary_text": _read_text,
    "reasoning": read_reasoning,
    "provider_item": read_kept_item,
    "tool_call": read_tool_use,
    "function_call": read_tool_use,
    "custom_tool_call": read_custom_call,
    "function_call_output": _read_tool_result,
    "custom_tool_call_output": _read_tool_result,
    "input_image": partial(_read_url, "image_url", "image"),
    "input_file": partial(_read_openai_file, ""),
    "audio_url": partial(_read_url, "audio_url", "audio"),
    "data": _read_file,
    "resource": _read_resource,
    "resource_link": _read_resource_link,
    **dict.fromkeys(SERVER_TOOLS, _skip),
    **dict.fromkeys(PROVIDER_ITEMS, read_provider_item),
}


_READERS = {**_PART_READERS, **_ALIAS_READERS}


def read_part(part: object, path: str) -> ContentBlock | None:
    """Return the block of one part of content, or None for a part with nothing to send. Raises InvalidRequest."""
    if isinstance(part, str):
        return TextBlock(part) if part else None
    mapping = as_mapping(part, path, "a string or a dict with `type`")
    kind = mapping.get("type")
    if kind is None and (read := _find_untyped_reader(mapping)) is not None:
        return read(mapping, path)
    if not isinstance(kind, str) or kind not in _READERS:
        raise make_unknown_error(f"{path}.type", "type", kind, _PART_READERS)
    return _READERS[kind](mapping, path)


def _find_untyped_reader(part: Json) -> Reader | None:
    """Return the reader of a part without `type`, as DashScope and Gemini write them, or None."""
    for key in ("text", "image", "audio", "video"):
        if isinstance(part.get(key), str):
            is_thought = key == "text" and not part.keys().isdisjoint(_THOUGHT_KEYS)
            return read_gemini_part if is_thought else _PART_READERS[key]
    return None if part.keys().isdisjoint(_GEMINI_KEYS) else read_gemini_part


_THOUGHT_KEYS = ("thought", "thoughtSignature", "thought_signature")
_GEMINI_KEYS = frozenset(
    {
        *("text", "inline_data", "inlineData", "file_data", "fileData"),
        *("function_call", "functionCall", "function_response", "functionResponse"),
        *("executable_code", "executableCode", "code_execution_result", "codeExecutionResult"),
    }
)


def read_content(content: object, path: str) -> Located:
    """Return the blocks of *content* with their paths; parts with nothing to send are left out."""
    if content is None or isinstance(content, str):
        return [(path, TextBlock(content))] if content else []
    if isinstance(content, Mapping):
        content = [content]
    located: Located = []
    for index, part in enumerate(as_sequence(content, path, "a string or a list of parts")):
        place = f"{path}[{index}]"
        if (block := read_part(part, place)) is not None:
            located.append((place, block))
    return located


def read_output(output: object, path: str) -> tuple[TextBlock | MediaBlock, ...]:
    """Return a tool's output as text and media blocks; other JSON values become text."""
    if _is_plain_json(output):
        try:
            return (TextBlock(json.dumps(output, ensure_ascii=False)),)
        except (TypeError, ValueError, RecursionError):
            got = format_type_name(output)
            raise InvalidRequest(f"{path}: expected text, parts or JSON values, got {got}") from None
    blocks: list[TextBlock | MediaBlock] = []
    for place, block in read_content(output, path):
        if not isinstance(block, (TextBlock, MediaBlock)):
            raise InvalidRequest(f"{place}: a tool result holds text and media only")
        blocks.append(block)
    return tuple(blocks)


def _is_plain_json(output: object) -> bool:
    """Return whether *output* is a JSON value and not a list of parts."""
    if isinstance(output, (list, tuple)):
        return any(_is_plain_json(item) for item in output)
    if isinstance(output, Mapping):
        return "type" not in output and _find_untyped_reader(output) is None
    return isinstance(output, (int, float))
