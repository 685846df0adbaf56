"""The neutral conversation as the input items of OpenAI's Responses API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from modelhub.core.errors import UnsupportedFeature
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
from modelhub.providers.openai.request import write_audio, write_cache_mark, write_call_id, write_file_id
from modelhub.providers.openai.responses_items import PROVIDER
from modelhub.providers.openai.servers import Quirks

__all__ = ["encode_conversation"]

Json = dict[str, Any]

MAX_CALL_ID = 64


def encode_conversation(messages: Iterable[Message], quirks: Quirks, host: str, *, is_stored: bool) -> list[Json]:
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

    # -- what the model wrote ------------------------------------------------------------------------------------------

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

    def _answer_item(self, block: ContentBlock) -> Json | None:
        if isinstance(block, TextBlock):
            phase = {"phase": block.phase} if block.phase else {}
            return {"role": "assistant", "content": block.text, **phase} if block.text else None
        if isinstance(block, ToolUseBlock):
            return self._call(block)
        if isinstance(block, ProviderItemBlock):
            return self._own_item(block)
        kind = block.kind if isinstance(block, MediaBlock) else type(block).__name__
        raise UnsupportedFeature(f"openai cannot take {kind} in an assistant's message")

    def _reasoning(self, block: ThinkingBlock) -> list[Json]:
        if block.item is None or block.provider != PROVIDER or not self._is_from_here(block.host):
            return []
        if block.signature:
            return [{**block.item, "encrypted_content": block.signature}]
        return [dict(block.item)] if self._is_stored and block.item.get("id") else []

    def _call(self, block: ToolUseBlock) -> Json:
        kept = dict(block.item or {})
        self._calls[block.id] = kept
        call = {"call_id": write_call_id(block.id, MAX_CALL_ID), "name": block.name}
        if kept.get("type") == "custom_tool_call":
            return {**kept, **call, "input": str(block.input.get("input", ""))}
        return {"type": "function_call", **kept, **call, "arguments": json.dumps(block.arguments, ensure_ascii=False)}

    def _own_item(self, block: ProviderItemBlock) -> Json | None:
        if block.provider != PROVIDER or not self._is_from_here(block.host):
            return None
        return dict(block.item)

    def _is_from_here(self, host: str | None) -> bool:
        return host is None or host == self._host

    # -- what the caller wrote -----------------------------------------------------------------------------------------

    def add_input(self, message: Message) -> None:
        """Add the items of a user's or the system's message, the results of tools first."""
        parts: list[Json] = []
        own_items: list[Json] = []
        for block in message.blocks:
            if isinstance(block, ToolResultBlock):
                self.items.append(self._result(block))
            elif isinstance(block, ProviderItemBlock):
                own_items += filter(None, [self._own_item(block)])
            else:
                parts.append(_part(block, self._quirks))
        if parts and message.role == "user":
            parts, self._shown = self._shown + parts, []
        if parts:
            self.flush()
            self.items.append({"role": message.role, "content": _content(parts)})
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
        if result.is_error:
            parts = [{"type": "input_text", "text": "Error:"}, *parts]
        kind = "custom_tool_call_output" if call.get("type") == "custom_tool_call" else "function_call_output"
        caller = {"caller": call["caller"]} if "caller" in call else {}
        return {
            "type": kind,
            "call_id": write_call_id(result.id, MAX_CALL_ID),
            "output": _output(parts, result.is_error),
            **caller,
        }

    def flush(self) -> None:
        """Add a user's message with the media of results that are not shown yet."""
        if self._shown:
            self.items.append({"role": "user", "content": self._shown})
            self._shown = []


def _output(parts: list[Json], is_error: bool) -> str | list[Json]:
    if all(part["type"] == "input_text" for part in parts):
        text = "\n".join(part["text"] for part in parts)
        return text.replace("Error:\n", "Error: ", 1) if is_error else text
    return parts


# -- parts -------------------------------------------------------------------------------------------------------------

_IN_RESULTS = ("image", "document")
"""The media that the result of a tool may hold."""


def _content(parts: list[Json]) -> str | Sequence[Json]:
    if len(parts) == 1 and parts[0].keys() == {"type", "text"} and parts[0]["type"] == "input_text":
        text: str = parts[0]["text"]
        return text
    return parts


def _part(block: ContentBlock, quirks: Quirks) -> Json:
    if isinstance(block, TextBlock):
        return {"type": "input_text", "text": block.text, **write_cache_mark(block, quirks)}
    if not isinstance(block, MediaBlock):
        raise UnsupportedFeature(f"openai cannot take a {type(block).__name__} here")
    if quirks.text_only or block.kind not in _MEDIA:
        raise UnsupportedFeature(f"openai cannot take {block.kind} through its Responses API")
    return {**_MEDIA[block.kind](block, quirks), **write_cache_mark(block, quirks)}


def _image(block: MediaBlock, _: Quirks) -> Json:
    part: Json = {"type": "input_image", "detail": block.detail or "auto"}
    if isinstance(block.source, FileSource):
        return part | write_file_id(block.source)
    return {**part, "image_url": _url(block)}


def _document(block: MediaBlock, _: Quirks) -> Json:
    if isinstance(block.source, FileSource):
        return {"type": "input_file", **write_file_id(block.source)}
    if isinstance(block.source, UrlSource):
        return {"type": "input_file", "file_url": block.source.url}
    return {"type": "input_file", "filename": block.name or "document.pdf", "file_data": _url(block)}


def _audio(block: MediaBlock, quirks: Quirks) -> Json:
    if not quirks.responses_audio:
        raise UnsupportedFeature("openai cannot take audio through its Responses API, only through chat completions")
    return write_audio(block, quirks)


def _url(block: MediaBlock) -> str:
    if isinstance(block.source, UrlSource | Base64Source):
        return block.source.url
    raise UnsupportedFeature(f"openai cannot take the {block.kind} from where it is: send the {block.kind} itself")


_MEDIA: Mapping[str, Callable[[MediaBlock, Quirks], Json]] = {
    "image": _image,
    "document": _document,
    "audio": _audio,
}
