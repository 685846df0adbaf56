"""Layers around a provider, a folder each; and what a layer in a package of your own is made from."""

from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.request import ChatRequest
from modelhub.core.stream import ChatStream, Outcome, Reply, add_done_callback
from modelhub.middleware.build_context import BuildContext
from modelhub.options import LayerOptions

__all__ = [
    "BuildContext",
    "ChatModelBase",
    "ChatRequest",
    "ChatStream",
    "Layer",
    "LayerOptions",
    "Outcome",
    "Reply",
    "add_done_callback",
]
