"""Anthropic's Messages API: Claude, and servers that speak the same."""

from modelhub.providers.anthropic.options import AnthropicOptions
from modelhub.providers.anthropic.provider import AnthropicChatModel

__all__ = ["AnthropicChatModel", "AnthropicOptions"]
