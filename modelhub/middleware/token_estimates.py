"""About how many tokens a request will use, before anybody has counted them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.core.model import ChatModelBase
from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import (
    ContentBlock,
    ProviderItemBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)

__all__ = ["characters", "input_tokens", "min_input_tokens", "max_output_tokens"]


def input_tokens(request: ChatRequest) -> int:
    """A fair guess: a token for four characters of text."""
    return characters(request) // 4 + 1


_NEUTRAL_NAMES = ("max_tokens", "max_completion_tokens")
"""What bounds an answer's tokens for any model."""


def max_output_tokens(request: ChatRequest, model: ChatModelBase) -> int | None:
    """How long the answer may be, as the call or the model's own parameters say; None if nothing says so."""
    for parameters in (request.options, model.default_parameters()):
        for path in (*model.max_tokens_parameters, *_NEUTRAL_NAMES) if parameters else ():
            bound: Any = parameters
            for key in path.split("."):
                bound = bound.get(key) if isinstance(bound, Mapping) else None
            if isinstance(bound, int) and not isinstance(bound, bool) and bound > 0:
                return bound
    return None


def min_input_tokens(request: ChatRequest) -> int:
    """A guess that errs on the low side: ordinary text has at most six characters to a token."""
    return characters(request) // 6


def characters(request: ChatRequest) -> int:
    """How much text is in the messages and tools."""
    count = 0
    for message in request.messages:
        for block in message.blocks:
            count += len(block.text) if type(block) is TextBlock else _length(block)
    for tool in request.tools:
        count += len(str(tool.parameters)) + len(tool.description)
    return count


def _length(block: ContentBlock) -> int:
    if isinstance(block, TextBlock):
        return len(block.text)
    if isinstance(block, ProviderItemBlock):
        return len(str(block.item))
    if isinstance(block, ThinkingBlock):
        return len(block.thinking)
    if isinstance(block, ToolResultBlock):
        return sum(_length(part) for part in block.output)
    return len(str(block.input)) if isinstance(block, ToolUseBlock) else 0
