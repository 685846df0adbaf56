"""Cohere's chat API, version 2, as a provider of modelhub: `provider: cohere`."""

from modelhub_cohere.options import CohereOptions
from modelhub_cohere.provider import CohereChatModel

__all__ = ["CohereChatModel", "CohereOptions"]
