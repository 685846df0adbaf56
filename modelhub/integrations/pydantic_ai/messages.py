"""Messages of Pydantic AI as messages of modelhub, and replies of modelhub as parts of Pydantic AI's responses."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    CachePoint,
    DocumentUrl,
    FilePart,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    RetryPromptPart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models import ModelRequestParameters

from modelhub.core.response import Block
from modelhub.integrations.replies import get_details

__all__ = ["PROVIDER_NAME", "make_messages", "make_parts"]

PROVIDER_NAME: Final = "modelhub"
"""How Pydantic AI names where a part comes from."""

Json = dict[str, Any]


def make_messages(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> list[Json]:
    """Return *messages* for a call, the instructions after the system prompts. Raises UserError for unknown parts."""
    made: list[Json] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            made += [item for part in message.parts for item in _make_request_message(part)]
        else:
            made.append({"role": "assistant", "content": [*_make_blocks(message)]})
    if parameters.instruction_parts is not None:
        instructions = [part.content for part in parameters.instruction_parts]
    else:
        requests = (message for message in reversed(messages) if isinstance(message, ModelRequest))
        instructions = [text for request in requests if (text := request.instructions)][:1]
    position = next((index for index, item in enumerate(made) if item["role"] != "system"), len(made))
    made[position:position] = [{"role": "system", "content": text} for text in instructions]
    return made


def _make_request_message(part: ModelRequestPart) -> Iterator[Json]:
    if isinstance(part, SystemPromptPart):
        yield {"role": "system", "content": part.content}
    elif isinstance(part, UserPromptPart):
        yield {"role": "user", "content": _make_content(part.content)}
    elif isinstance(part, ToolReturnPart):
        text = part.model_response_str(wrap_if_error=False)
        content = [{"type": "text", "text": text}, *map(_make_media, part.files)] if part.files else text
        yield _make_result(part.tool_call_id, part.tool_name, content, is_error=part.outcome in ("failed", "retried"))
    elif isinstance(part, RetryPromptPart):
        if part.tool_name is None:
            yield {"role": "user", "content": part.model_response()}
        else:
            yield _make_result(part.tool_call_id, part.tool_name, part.model_response(), is_error=True)
    else:
        raise UserError(f"modelhub cannot send a part of the kind {part.part_kind!r}")


def _make_result(call_id: str, name: str, content: Any, *, is_error: bool) -> Json:
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": content, "is_error": is_error}


def _make_content(content: str | Sequence[Any]) -> str | list[Json]:
    if isinstance(content, str):
        return content
    parts: list[Json] = []
    for item in content:
        if isinstance(item, CachePoint):
            if parts:
                parts[-1]["cache_control"] = {"type": "ephemeral"}
        elif isinstance(item, str | TextContent):
            parts.append({"type": "text", "text": item if isinstance(item, str) else item.content})
        else:
            parts.append(_make_media(item))
    return parts


_MEDIA_URLS: Final[dict[type, str]] = {ImageUrl: "image", AudioUrl: "audio", VideoUrl: "video", DocumentUrl: "document"}


def _make_media(item: Any) -> Json:
    if isinstance(item, BinaryContent):
        source = {"type": "base64", "media_type": item.media_type, "data": base64.b64encode(item.data).decode()}
        kind = item.media_type.partition("/")[0]
        return {"type": kind if kind in ("image", "audio", "video") else "document", "source": source}
    if isinstance(item, UploadedFile):
        if item.provider_name != "openai":
            raise UserError(f"modelhub cannot send a file that was uploaded to {item.provider_name!r}")
        return {"type": "file", "file": {"file_id": item.file_id}}
    kind = next((name for cls, name in _MEDIA_URLS.items() if isinstance(item, cls)), "")
    if not kind:
        raise UserError(f"modelhub cannot send a {type(item).__name__}")
    return {"type": kind, "source": {"type": "url", "url": item.url}}


def _make_blocks(response: ModelResponse) -> Iterator[Json]:
    """Yield the blocks of a *response*; what only another vendor understands is left out."""
    for part in response.parts:
        details = (part.provider_details or {}) if getattr(part, "provider_name", None) == PROVIDER_NAME else {}
        if isinstance(part, TextPart):
            yield {"type": "text", "text": part.content, **details}
        elif isinstance(part, ThinkingPart):
            yield {"type": "thinking", "thinking": part.content, **details}
        elif isinstance(part, ToolCallPart):
            arguments = part.args_as_json_str()
            yield {"type": "tool_use", "id": part.tool_call_id, "name": part.tool_name, "input": arguments, **details}


def make_parts(content: Sequence[Block]) -> Iterator[ModelResponsePart]:
    """Yield the parts of a complete reply's *content*."""
    for block in content:
        details = get_details(block) or None
        common: Json = {"provider_details": details, "provider_name": PROVIDER_NAME if details else None}
        if block["type"] == "text":
            yield TextPart(block["text"], **common)
        elif block["type"] == "thinking":
            yield ThinkingPart(block["thinking"], signature=block.get("signature"), **common)
        elif block["type"] == "tool_use":
            yield ToolCallPart(block["name"], block["raw_input"] or block["input"], block["id"], **common)
        elif (source := block.get("source")) and source.get("type") == "base64":
            data = base64.b64decode(source["data"])
            yield FilePart(BinaryContent(data, media_type=source["media_type"]), provider_name=PROVIDER_NAME)
