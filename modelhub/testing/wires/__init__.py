"""How the five vendors write, as data and pure functions: requests, answers, streams and refusals."""

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
    kind_of,
)
from modelhub.testing.wires.dashscope import DashScopeWire
from modelhub.testing.wires.gemini import GeminiWire
from modelhub.testing.wires.ollama import OllamaWire
from modelhub.testing.wires.openai import OpenAIWire

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
    "kind_of",
    "wire_at",
]

WIRES: dict[str, VendorFormat] = {
    wire.kind: wire for wire in (OpenAIWire(), AnthropicWire(), DashScopeWire(), OllamaWire(), GeminiWire())
}
"""Every wire by its provider's name."""


def wire_at(path: str) -> VendorFormat | None:
    """The wire that is spoken at *path*, by how the path ends."""
    return next((wire for wire in WIRES.values() if wire.path.search(path)), None)
