"""The parts of a message's content, as each dialect writes them, to blocks.

A reader takes one part and its place (`messages[2].content[0]`) and gives a block, or None for a part with nothing to
send. A wrong shape raises `InvalidRequest` with the place, what was expected and the type of what was found.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable

from modelhub._shapes import (
    Json,
    as_mapping,
    as_sequence,
    check_keys,
    copied,
    either,
    optional_text,
    required_name,
    required_text,
    unknown,
    wrong,
)
from modelhub._sources import from_data_url, from_url, has_scheme, read_source
from modelhub.blocks import (
    Base64Source,
    ContentBlock,
    MediaBlock,
    MediaKind,
    Source,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from modelhub.errors import InvalidRequest

Placed = list[tuple[str, "ContentBlock"]]


def _cache(block: Json, at: str) -> Json | None:
    mark = block.get("cache_control")
    if mark is None and block.get("prompt_cache_breakpoint") is not None:
        return {"type": "ephemeral"}  # OpenAI's way of marking the same place
    return None if mark is None else copied(mark, f"{at}.cache_control")


def _signed(block: Json, at: str, usual: str) -> tuple[str | None, str | None]:
    # A signature without its provider was not written by us: then only the vendor who writes this kind is meant.
    signature = optional_text(block, either(block, "signature", "thought_signature", at), at)
    return signature, optional_text(block, "provider", at) or (usual if signature else None)


def _text(block: Json, at: str) -> TextBlock | None:
    text = required_text(block, "text", at)
    signature, provider = _signed(block, at, "gemini")
    return TextBlock(text, signature, provider, _cache(block, at)) if text or signature else None


def _refusal(block: Json, at: str) -> TextBlock | None:
    text = required_text(block, "refusal", at)
    return TextBlock(text) if text else None


def _thinking(block: Json, at: str) -> ThinkingBlock | None:
    text = required_text(block, "thinking", at)
    data = optional_text(block, "data", at)
    signature, provider = _signed(block, at, "anthropic")
    return ThinkingBlock(text, signature, data, provider) if text or signature or data else None


def _redacted_thinking(block: Json, at: str) -> ThinkingBlock:
    provider = optional_text(block, "provider", at) or "anthropic"
    return ThinkingBlock("", data=required_name(block, "data", at), provider=provider)


def _tool_use(block: Json, at: str) -> ToolUseBlock:
    signature, provider = _signed(block, at, "gemini")
    return ToolUseBlock(
        optional_text(block, "id", at) or "",
        required_name(block, "name", at),
        copied(block.get("input"), f"{at}.input"),
        signature,
        provider,
        optional_text(block, "raw_input", at),
        _cache(block, at),
    )


def _tool_result(block: Json, at: str) -> ToolResultBlock:
    key = either(block, "output", "content", at)
    failed = block.get("is_error")
    if failed is not None and not isinstance(failed, bool):
        raise wrong(f"{at}.is_error", "true or false", failed)
    return ToolResultBlock(
        optional_text(block, either(block, "tool_use_id", "id", at), at) or "",
        optional_text(block, "name", at) or "",
        read_output(block.get(key), f"{at}.{key}"),
        failed or False,
        _cache(block, at),
    )


def _media(kind: MediaKind) -> Reader:
    def read(block: Json, at: str) -> MediaBlock:
        name = optional_text(block, either(block, "name", "title", at), at)
        return MediaBlock(kind, read_source(block, at), name, optional_text(block, "detail", at), _cache(block, at))

    return read


def _file(block: Json, at: str) -> MediaBlock:
    if either(block, "file", "source", at) == "file":
        return _openai_file(block, at)
    source = read_source(block, at)
    name = optional_text(block, either(block, "name", "filename", at), at)
    return MediaBlock(_kind_of(source), source, name, cache=_cache(block, at))


def _kind_of(source: Source) -> MediaKind:
    return _KINDS.get((source.media_type or "").partition("/")[0], "document")


def _openai_file(block: Json, at: str) -> MediaBlock:
    inner = f"{at}.file"
    found = as_mapping(block["file"], inner, '{"file_data": ..., "filename": ...}')
    check_keys(found, frozenset({"file_data", "filename"}), inner)
    data, name = required_name(found, "file_data", inner), optional_text(found, "filename", inner)
    if not data.startswith("data:"):  # some servers take bare base64, and the name says what it is
        data = f"data:{mimetypes.guess_type(name or '', strict=False)[0] or 'application/pdf'};base64,{data}"
    source = from_data_url(data, f"{inner}.file_data")
    return MediaBlock(_kind_of(source), source, name, cache=_cache(block, at))


def _openai_url(key: str, kind: MediaKind) -> Reader:
    def read(block: Json, at: str) -> MediaBlock:
        inner, found = f"{at}.{key}", block.get(key)
        if isinstance(found, str):
            found = {"url": found}
        found = as_mapping(found, inner, '{"url": ...}')
        check_keys(found, frozenset({"url", "detail"}), inner)
        source = from_url(required_name(found, "url", inner), f"{inner}.url")
        return MediaBlock(kind, source, detail=optional_text(found, "detail", inner), cache=_cache(block, at))

    return read


def _input_audio(block: Json, at: str) -> MediaBlock:
    inner = f"{at}.input_audio"
    found = as_mapping(block.get("input_audio"), inner, '{"data": ..., "format": ...}')
    check_keys(found, frozenset({"data", "format"}), inner)
    data, written = required_name(found, "data", inner), optional_text(found, "format", inner)
    media_type = written and {"mp3": "audio/mpeg"}.get(written, f"audio/{written}")
    if data.startswith("data:") or has_scheme(data):
        return MediaBlock("audio", from_url(data, f"{inner}.data", media_type), cache=_cache(block, at))
    if media_type is None:
        raise wrong(f"{inner}.format", "a string", None)
    return MediaBlock("audio", Base64Source(data, media_type), cache=_cache(block, at))


_KINDS: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}
Reader = Callable[[Json, str], "ContentBlock | None"]
_SIGNED = {"type", "signature", "thought_signature", "provider"}
_CACHE = ("cache_control", "prompt_cache_breakpoint")
_MEDIA = frozenset({"type", "source", "name", "title", "detail", "cache_control"})

# `annotations` and `citations` say where a model's text came from; `error` says why its arguments were unreadable.
_PARTS: dict[str, tuple[frozenset[str], Reader]] = {
    "text": (frozenset({*_SIGNED, "text", *_CACHE, "annotations", "citations"}), _text),
    "refusal": (frozenset({"type", "refusal"}), _refusal),
    "thinking": (frozenset({*_SIGNED, "thinking", "data"}), _thinking),
    "redacted_thinking": (frozenset({"type", "data", "provider"}), _redacted_thinking),
    "tool_use": (frozenset({*_SIGNED, "id", "name", "input", "raw_input", "error", "cache_control"}), _tool_use),
    "tool_result": (
        frozenset({"type", "id", "tool_use_id", "name", "output", "content", "is_error", "cache_control"}),
        _tool_result,
    ),
    "image": (_MEDIA, _media("image")),
    "audio": (_MEDIA, _media("audio")),
    "video": (_MEDIA, _media("video")),
    "document": (_MEDIA, _media("document")),
    "file": (frozenset({"type", "source", "file", "name", "filename", "cache_control"}), _file),
    "image_url": (frozenset({"type", "image_url", "cache_control"}), _openai_url("image_url", "image")),
    "video_url": (frozenset({"type", "video_url", "cache_control"}), _openai_url("video_url", "video")),
    "input_audio": (frozenset({"type", "input_audio", "cache_control"}), _input_audio),
}


def _part(part: object, at: str) -> ContentBlock | None:
    if isinstance(part, str):
        return TextBlock(part) if part else None
    found = as_mapping(part, at, "a string or a dict with `type`")
    kind = found.get("type")
    if not isinstance(kind, str) or kind not in _PARTS:
        raise unknown(f"{at}.type", "type", kind, _PARTS)
    keys, read = _PARTS[kind]
    check_keys(found, keys, at)
    return read(found, at)


def read_content(content: object, at: str) -> Placed:
    """The blocks of *content*, each with its place; parts with nothing to send are left out."""
    if content is None or isinstance(content, str):
        return [(at, TextBlock(content))] if content else []
    parts = as_sequence(content, at, "a string or a list of parts")
    places = [f"{at}[{index}]" for index in range(len(parts))]
    read = [(place, _part(part, place)) for place, part in zip(places, parts, strict=True)]
    return [(place, block) for place, block in read if block is not None]


def read_output(output: object, at: str) -> tuple[TextBlock | MediaBlock, ...]:
    """What a tool gave back: text and media only."""
    blocks: list[TextBlock | MediaBlock] = []
    for place, block in read_content(output, at):
        if not isinstance(block, (TextBlock, MediaBlock)):
            raise InvalidRequest(f"{place}: a tool result holds text and media only")
        blocks.append(block)
    return tuple(blocks)
