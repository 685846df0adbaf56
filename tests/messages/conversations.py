"""Messages as callers write them, for the tests of what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import ContentBlock, TextBlock, Tool, ToolResultBlock
from modelhub.messages.normalize import normalise_messages

CAT = "https://example.com/cat.png"
TOOLS = (Tool("get_weather"), Tool("get_time"))


def user(*parts: Any) -> list[dict[str, Any]]:
    """One user message of *parts*."""
    return [{"role": "user", "content": list(parts)}]


def only_block(*parts: Any) -> ContentBlock:
    """The block that one part becomes."""
    (message,) = normalise_messages(user(*parts))
    (block,) = message.blocks
    return block


def call(call_id: str | None = "a", name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    """A call as OpenAI's dialect writes it."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def asks(*calls: dict[str, Any]) -> dict[str, Any]:
    """An assistant message that only calls."""
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def answers(call_id: str | None = "a", text: Any = "ok", **more: Any) -> dict[str, Any]:
    """A message of the role `tool`."""
    return {"role": "tool", "tool_call_id": call_id, "content": text, **more}


def result(call_id: str = "a", name: str = "f", text: str = "ok") -> ToolResultBlock:
    """The block of a result that is text."""
    return ToolResultBlock(call_id, name, (TextBlock(text),))


def refusal_of(messages: Any) -> str:
    """What the error says."""
    with pytest.raises(InvalidRequest) as caught:
        normalise_messages(messages)
    return str(caught.value)


def function(name: str = "f", **more: Any) -> dict[str, Any]:
    """A tool in OpenAI's form."""
    return {"type": "function", "function": {"name": name, **more}}


class SdkObject:
    """Stands for a vendor's reply object."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self) -> dict[str, Any]:
        return self.fields
