"""Requests to Anthropic's Messages API: blocks, turns, tools and schemas, as the API takes them.

* The system prompt stands at the top of a request. System messages further down join it, in order: the models that
  would take one in between are few, and the others refuse it.
* Turns alternate: neighbours of one role become one, and in a user's turn the tool results come first.
* Call ids are made of letters, digits, `_` and `-` and occur once: others are replaced, the same on both sides.
* Thinking goes back unchanged and in its place if it is Anthropic's and signed (or redacted); all other is left out.
* An assistant's turn at the end is the beginning of the answer (prefill), which models from 4.6 on refuse.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelhub.core.errors import InvalidRequest, UnsupportedFeature
from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    FileSource,
    MediaBlock,
    Message,
    Source,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from modelhub.providers.anthropic.parameters import find_native_schema, model_version
from modelhub.providers.anthropic.schema import native_schema
from modelhub.providers.structured_output import Structured, offer_tools
from modelhub.providers.tool_schema import plain_root

__all__ = ["PROVIDER_NAME", "encode_request", "thinks"]

Json = dict[str, Any]

PROVIDER_NAME = "anthropic"

# -- models ----------------------------------------------------------------------------------------------------------


def thinks(options: Mapping[str, Any], *, adaptively: bool = False) -> bool:
    """Whether *options* switch thinking on with a budget (or, *adaptively*, in any way).

    A budget excludes forced tools and prefill. The adaptive kind goes with a forced tool on some models; on others the
    API refuses it, or the model may not call the tool after all.
    """
    thinking = options.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, Mapping) else None
    return kind not in (None, "disabled") if adaptively else kind == "enabled"


# -- blocks ----------------------------------------------------------------------------------------------------------


class _CallIds:
    """Call ids as the API takes them."""

    _BAD = re.compile(r"[^a-zA-Z0-9_-]")

    def __init__(self) -> None:
        self._sent: dict[str, str] = {}
        self._used: set[str] = set()

    def write_call(self, call_id: str) -> str:
        """Return the id of a call, which no earlier call has."""
        plain = wire = self._plain(call_id)
        count = 1
        while wire in self._used:  # some servers count from call_0 again in every turn
            count += 1
            wire = f"{plain}_{count}"
        self._used.add(wire)
        self._sent[call_id] = wire
        return wire

    def write_result(self, call_id: str) -> str:
        """Return the id of the last call that had *call_id*, for its result."""
        return self._sent.get(call_id) or self._plain(call_id)

    def _plain(self, call_id: str) -> str:
        if call_id and not self._BAD.search(call_id):
            return call_id
        digest = hashlib.blake2s(call_id.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        return f"{self._BAD.sub('_', call_id)[:40]}-{digest}"


def _mark(block: Json, cache: Mapping[str, Any] | None) -> Json:
    """Return *block* with the mark for the prompt cache, if it has one."""
    return block if cache is None else {**block, "cache_control": dict(cache)}


def _write_block(block: ContentBlock, ids: _CallIds) -> Json | None:
    """Return *block* as the API takes it; None for what is left out, such as another vendor's own items."""
    match block:
        case TextBlock():
            return _mark({"type": "text", "text": block.text}, block.cache) if block.text.strip() else None
        case ToolUseBlock():
            call = {"type": "tool_use", "id": ids.write_call(block.id), "name": block.name, "input": block.arguments}
            return _mark(call, block.cache)
        case ToolResultBlock():
            return _mark(_write_result(block, ids), block.cache)
        case MediaBlock():
            return _mark(_write_media(block), block.cache)
        case ThinkingBlock() if block.provider != PROVIDER_NAME:
            return None
        case ThinkingBlock() if block.data is not None:
            return {"type": "redacted_thinking", "data": block.data}
        case ThinkingBlock() if block.signature is not None:
            return {"type": "thinking", "thinking": block.thinking, "signature": block.signature}
    return None


def _write_result(block: ToolResultBlock, ids: _CallIds) -> Json:
    result: Json = {"type": "tool_result", "tool_use_id": ids.write_result(block.id)}
    output = [part for piece in block.output if (part := _write_block(piece, ids)) is not None]
    if len(output) == 1 and output[0].keys() == {"type", "text"}:
        result["content"] = output[0]["text"]
    elif output:
        result["content"] = output
    if block.is_error:
        result.setdefault("content", "error")  # the API wants words with a failure
        result["is_error"] = True
    return result


_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_TEXT_TYPES = frozenset({"application/json", "application/xml", "application/yaml", "application/x-yaml"})


def _write_media(block: MediaBlock) -> Json:
    source = block.source
    if block.kind not in ("image", "document"):
        raise UnsupportedFeature(f"anthropic cannot take {block.kind}")
    if isinstance(source, FileSource):
        if source.provider != PROVIDER_NAME:
            raise UnsupportedFeature(f"anthropic does not know a file that was uploaded to {source.provider}")
        written = {"type": "file", "file_id": source.file_id}
    else:
        media_type = (source.media_type or "").partition(";")[0].strip().lower()
        write_source = _write_image if block.kind == "image" else _write_document
        written = write_source(source, media_type)
    title = {"title": block.name} if block.kind == "document" and block.name is not None else {}
    return {"type": block.kind, "source": written, **title}


def _write_image(source: Source, media_type: str) -> Json:
    if isinstance(source, UrlSource):
        return {"type": "url", "url": source.url}
    media_type = "image/jpeg" if media_type == "image/jpg" else media_type
    if not isinstance(source, Base64Source) or media_type not in _IMAGE_TYPES:
        raise UnsupportedFeature(f"anthropic cannot take an image of type {media_type}: png, jpeg, gif and webp only")
    return {"type": "base64", "media_type": media_type, "data": source.data}


def _write_document(source: Source, media_type: str) -> Json:
    if isinstance(source, UrlSource) and media_type in ("", "application/pdf"):
        return {"type": "url", "url": source.url}
    if isinstance(source, Base64Source) and media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": source.data}
    if isinstance(source, Base64Source) and (media_type.startswith("text/") or media_type in _TEXT_TYPES):
        try:
            text = base64.b64decode(source.data, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidRequest("a text document is not UTF-8 in base64") from None
        return {"type": "text", "media_type": "text/plain", "data": text}
    where = " at an address" if isinstance(source, UrlSource) else ""
    raise UnsupportedFeature(f"anthropic cannot take a document of type {media_type}{where}: PDF and plain text only")


# -- turns -----------------------------------------------------------------------------------------------------------


def _write_turns(messages: Sequence[Message]) -> list[Json]:
    turns: list[Json] = []
    ids = _CallIds()
    for message in messages:
        if message.role == "system":
            continue
        media = [block.kind for block in message.blocks if isinstance(block, MediaBlock)]
        if media and message.role == "assistant":
            raise UnsupportedFeature(f"anthropic cannot take {media[0]} in an assistant message")
        content = [written for block in message.blocks if (written := _write_block(block, ids)) is not None]
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": message.role, "content": content})
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    # The API refuses white space at the end of a prefill. Text that is nothing else was left out before.
    last = turns[-1]["content"] if turns and turns[-1]["role"] == "assistant" else ()
    if last and last[-1]["type"] == "text":
        last[-1] = {**last[-1], "text": last[-1]["text"].rstrip()}
    return turns


def _write_system(messages: Sequence[Message], given: Any, instruction: str | None) -> str | list[Json] | None:
    """Return the system prompt: the one *given* as a parameter, those of *messages*, and the *instruction*."""
    blocks = [{"type": "text", "text": given}] if isinstance(given, str) else list(given or ())
    for block in (block for message in messages if message.role == "system" for block in message.blocks):
        if not isinstance(block, TextBlock):
            raise UnsupportedFeature("anthropic takes text only in a system message")
        blocks.append(_mark({"type": "text", "text": block.text}, block.cache))
    blocks = [block for block in blocks if block["text"].strip()]
    if instruction is not None:
        blocks.append({"type": "text", "text": instruction})
    if any(block.keys() != {"type", "text"} for block in blocks):
        return blocks
    return "\n\n".join(block["text"] for block in blocks) or None


# -- tools -----------------------------------------------------------------------------------------------------------

_PROPERTY_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


def _write_tool(tool: Tool, model_name: str) -> Json:
    schema, description = plain_root(tool)
    for name in schema["properties"]:
        if not _PROPERTY_NAME.fullmatch(name):
            raise UnsupportedFeature(f"anthropic cannot take the argument name `{name}` of the tool `{tool.name}`")
    written: Json = {"name": tool.name, "input_schema": schema}
    if description:
        written["description"] = description
    # Strictness is a guarantee on top: where the model or its grammar cannot give it, the tool works without.
    if tool.strict and (strict := find_native_schema(model_name, schema)) is not None:
        written |= {"input_schema": strict, "strict": True}
    return _mark(written, tool.cache)


_CHOICES = {"auto": "auto", "none": "none", "required": "any", "tool": "tool"}


# -- requests --------------------------------------------------------------------------------------------------------

_HEADERS = {"user_profile_id": "anthropic-user-profile-id", "workspace_id": "anthropic-workspace-id"}
"""Parameters that are sent as headers."""


def encode_request(
    request: ChatRequest,
    structured: Structured | None,
    *,
    model_name: str,
    options: Mapping[str, Any],
    interleaved: bool = False,
) -> Json:
    """Return the parameters of *request*. *options* are some by the API's names; what must fit together is checked.

    *interleaved* thinking has a budget for all its parts together, which may be over `max_tokens`.

    Raises UnsupportedFeature for what Anthropic cannot take, InvalidRequest for a thinking budget that leaves no room.
    """
    payload: Json = {"model": model_name, **options}
    if not _HEADERS.keys().isdisjoint(payload):
        headers = {header: payload.pop(name) for name, header in _HEADERS.items() if name in payload}
        payload["extra_headers"] = headers | (payload.get("extra_headers") or {})
    tools, choice, instruction = offer_tools(request, structured)
    if (system := _write_system(request.messages, payload.pop("system", None), instruction)) is not None:
        payload["system"] = system
    payload["messages"] = _write_turns(request.messages)
    if tools:
        payload["tools"] = [_write_tool(tool, model_name) for tool in tools] + list(payload.get("tools") or ())
    if choice is not None:
        parameter = payload.get("tool_choice")
        kept = parameter if isinstance(parameter, Mapping) else {}  # such as `disable_parallel_tool_use`
        name = {} if choice.name is None else {"name": choice.name}
        payload["tool_choice"] = {**kept, "type": _CHOICES[choice.mode], **name}
    if structured is not None and structured.method == "native":
        form = {"type": "json_schema", "schema": native_schema(structured.schema)}
        payload["output_config"] = {**(payload.get("output_config") or {}), "format": form}
    if thinks(payload) and _lacks_thinking(payload["messages"]):
        del payload["thinking"]
    _check(payload, interleaved)
    return payload


def _lacks_thinking(turns: Sequence[Json]) -> bool:
    """Whether a call that is being answered was made without thinking: by another model, or while it was off.

    The API then refuses thinking with a budget until the tools' results are answered; the adaptive kind it takes.
    """
    for turn in reversed(turns):
        kinds = [block["type"] for block in turn["content"]]
        if turn["role"] == "user" and "tool_result" not in kinds:
            return False
        if turn["role"] == "assistant" and kinds[0] not in ("thinking", "redacted_thinking"):
            return "tool_use" in kinds
    return False


def _check(payload: Json, interleaved: bool) -> None:
    """Raise UnsupportedFeature, or InvalidRequest, for what the API refuses."""
    if not payload["messages"]:
        raise UnsupportedFeature("anthropic needs a user message beside the system prompt")
    thinking = thinks(payload)
    choice = payload.get("tool_choice")
    if thinking and isinstance(choice, Mapping) and choice.get("type") in ("any", "tool"):
        raise UnsupportedFeature("anthropic cannot force a tool while thinking is enabled")
    if payload["messages"][-1]["role"] == "assistant":
        if thinking:
            raise UnsupportedFeature("anthropic cannot continue an assistant message while thinking is enabled")
        if model_version(payload["model"]) >= (4, 6):
            raise UnsupportedFeature(f"{payload['model']} cannot continue an assistant message: end with a user's")
    budget, limit = payload["thinking"].get("budget_tokens") if thinking else None, payload["max_tokens"]
    if isinstance(budget, int) and isinstance(limit, int) and budget >= limit and not interleaved:
        raise InvalidRequest(
            f"thinking.budget_tokens ({budget}) must be less than max_tokens ({limit}): raise max_tokens or lower it"
        )
