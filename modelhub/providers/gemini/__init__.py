"""Google's Gemini API, and Vertex AI."""

from modelhub.providers.gemini.options import GeminiOptions
from modelhub.providers.gemini.provider import GeminiChatModel

__all__ = ["GeminiChatModel", "GeminiOptions"]
