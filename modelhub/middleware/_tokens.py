"""About how many tokens a request will use, before anybody has counted them."""

from __future__ import annotations

from modelhub.messages import ContentBlock, TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from modelhub.model import ChatRequest

__all__ = ["characters", "estimate_tokens", "least_tokens"]


def estimate_tokens(request: ChatRequest) -> int:
    """A fair guess: a token for four characters of text, and what the model may answer."""
    most = request.options.get("max_tokens") or request.options.get("max_completion_tokens") or 0
    return characters(request) // 4 + 1 + (most if isinstance(most, int) else 0)


def least_tokens(request: ChatRequest) -> int:
    """A guess that errs on the low side: ordinary text has at most six characters to a token."""
    return characters(request) // 6


def characters(request: ChatRequest) -> int:
    """How much text is in the messages and tools."""
    messages = sum(_length(block) for message in request.messages for block in message.blocks)
    return messages + sum(len(str(tool.parameters)) + len(tool.description) for tool in request.tools)


def _length(block: ContentBlock) -> int:
    if isinstance(block, TextBlock):
        return len(block.text)
    if isinstance(block, ThinkingBlock):
        return len(block.thinking)
    if isinstance(block, ToolResultBlock):
        return sum(_length(part) for part in block.output)
    return len(str(block.input)) if isinstance(block, ToolUseBlock) else 0
