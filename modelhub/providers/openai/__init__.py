"""OpenAI's chat completions, and every server that speaks like it."""

from modelhub.providers.openai.options import OpenAIOptions
from modelhub.providers.openai.provider import OpenAIChatModel

__all__ = ["OpenAIChatModel", "OpenAIOptions"]
