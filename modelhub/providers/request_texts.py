"""Every text of a conversation, for those who must not show any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import (
    ContentBlock,
    ProviderItemBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)

__all__ = ["texts_of_request"]


def texts_of_request(request: ChatRequest) -> Iterator[str]:
    """Yield every text of the conversation, the latest first."""
    for message in reversed(request.messages):
        for block in message.blocks:
            yield from _block_texts(block)


def _block_texts(block: ContentBlock) -> Iterator[str]:
    if isinstance(block, TextBlock):
        yield block.text
    elif isinstance(block, ThinkingBlock):
        yield block.thinking
    elif isinstance(block, ProviderItemBlock):
        # Shorter ones are names of the API, which an error may tell: types, states, ids.
        yield from (text for text in _texts_in(block.item) if " " in text)
    elif isinstance(block, ToolUseBlock):
        yield from _texts_in(block.input)
    elif isinstance(block, ToolResultBlock):
        yield from (part.text for part in block.output if isinstance(part, TextBlock))


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(item)
