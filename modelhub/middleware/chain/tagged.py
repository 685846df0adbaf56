"""A view of a chain that puts tags on every call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.core.call_options import CallOptions, as_tags
from modelhub.core.context import CallContext
from modelhub.core.model import ChatModelBase, Layer, StreamingCalls
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply

__all__ = ["Tagged"]


class Tagged(StreamingCalls, Layer):  # type: ignore[misc] # see `Chain`
    """Calls *inner*, a chain, with *tags*; a call's own `tags=` come on top. Making one costs next to nothing."""

    def __init__(self, inner: ChatModelBase, tags: Mapping[str, Any]) -> None:
        super().__init__(inner)
        self.tags = as_tags(tags)

    def with_tags(self, given: Mapping[str, Any] | None = None, /, **tags: Any) -> Tagged:
        """The same chain with these tags too."""
        return Tagged(self.inner, {**self.tags, **(given or {}), **tags})

    def open_call(self, options: CallOptions) -> CallContext:
        """The chain's context of a new call, with the tags on it."""
        return self.inner.open_call(options._replace(tags={**self.tags, **options.tags}))

    async def send(self, request: ChatRequest) -> Reply:
        """Return the reply of the chain, which raises what it raises."""
        return await self.inner.send(request)
