"""The formats of the vendors' requests, answers, streams and refusals, as data and pure functions."""

from __future__ import annotations

from modelhub.testing.wires.anthropic import AnthropicWire
from modelhub.testing.wires.base import (
    PARAGRAPH,
    CannedResponse,
    Frame,
    Kind,
    ParsedRequest,
    Part,
    Refusal,
    ToolCall,
    VendorFormat,
)
from modelhub.testing.wires.dashscope import DashScopeWire
from modelhub.testing.wires.gemini import GeminiWire
from modelhub.testing.wires.ollama import OllamaWire
from modelhub.testing.wires.openai import OpenAIResponsesWire, OpenAIWire

__all__ = [
    "PARAGRAPH",
    "WIRES",
    "CannedResponse",
    "ParsedRequest",
    "Frame",
    "Kind",
    "Part",
    "Refusal",
    "ToolCall",
    "VendorFormat",
    "wire_at",
]

WIRES: dict[str, VendorFormat] = {
    wire.kind: wire
    for wire in (OpenAIWire(), OpenAIResponsesWire(), AnthropicWire(), DashScopeWire(), OllamaWire(), GeminiWire())
}
"""Every wire by its name: the provider's, and for a further API of a vendor's that of the API behind it."""


def wire_at(path: str) -> VendorFormat | None:
    """Return the format for the request path *path*, by its end, or None."""
    return next((wire for wire in WIRES.values() if wire.path.search(path)), None)
