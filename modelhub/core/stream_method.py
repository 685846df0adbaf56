"""What chains have under the name `stream`: a method, and the bool that a provider has there."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelhub.core.stream import ChatStream

__all__ = ["StreamMethod"]


class StreamMethod:
    """The method `stream` of *chain*; as a condition, whether a call of it streams if it does not say.

    A provider's `stream` is that bool, as the API page says, and AgentScope's agents look at it before they call.
    """

    __slots__ = ("_chain",)

    def __init__(self, chain: Any) -> None:
        self._chain = chain

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[ChatStream]:
        """Call the chain with `stream=True`."""
        streaming: Awaitable[ChatStream] = self._chain(*args, stream=True, **kwargs)
        return streaming

    def __bool__(self) -> bool:
        return bool(self._chain.streams)
