"""Models served by Ollama."""

from modelhub.providers.ollama.options import OllamaOptions
from modelhub.providers.ollama.provider import OllamaChatModel

__all__ = ["OllamaChatModel", "OllamaOptions"]
