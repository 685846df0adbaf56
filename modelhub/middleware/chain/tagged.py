"""A view of a chain that puts tags, and vendors' keys, on every call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import SecretStr

from modelhub.core.call_options import CallOptions, as_tags
from modelhub.core.context import CallContext
from modelhub.core.model import ChatModelBase, Layer, StreamingCalls
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply
from modelhub.middleware.chain.call_keys import check_call_keys

__all__ = ["Tagged"]

_NO_KEYS: Mapping[str, SecretStr] = {}


class KeyedChain(Protocol):
    """The chain, as its view needs it."""

    def list_call_keys(self) -> set[str]:
        """Return the names of the keys that calls can bring."""


class Tagged(StreamingCalls, Layer):  # type: ignore[misc] # see `Chain`
    """Calls *inner*, a chain, with *tags* and *keys*; a call's own `tags=` come on top.

    Making one costs next to nothing.
    """

    def __init__(self, inner: ChatModelBase, tags: Mapping[str, Any], keys: Mapping[str, SecretStr] = _NO_KEYS) -> None:
        super().__init__(inner)
        self.tags = as_tags(tags)
        self._keys = keys

    def with_tags(self, given: Mapping[str, Any] | None = None, /, **tags: Any) -> Tagged:
        """The same chain with these tags too."""
        return Tagged(self.inner, {**self.tags, **(given or {}), **tags}, self._keys)

    def with_keys(self, **keys: str | SecretStr | None) -> Tagged:
        """The same chain with these keys too; see `Chain.with_keys`."""
        chain: KeyedChain = self.inner  # type: ignore[assignment] # it is made for chains
        checked = check_call_keys(keys, chain.list_call_keys(), self.name)
        return Tagged(self.inner, self.tags, {**self._keys, **checked})

    def open_call(self, options: CallOptions) -> CallContext:
        """The chain's context of a new call, with the tags and keys on it."""
        tags, keys = {**self.tags, **options.tags}, {**self._keys, **options.keys}
        return self.inner.open_call(options._replace(tags=tags, keys=keys))

    async def send(self, request: ChatRequest) -> Reply:
        """Return the reply of the chain, which raises what it raises."""
        return await self.inner.send(request)
