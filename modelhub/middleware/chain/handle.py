"""What a hub gives for a name: the chain of that name, as the configuration has it at each call."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from modelhub.core.call_options import CallOptions
from modelhub.core.context import CallContext
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply
from modelhub.middleware.chain.layer import Chain

__all__ = ["ChainHandle"]


class Renewal(Protocol):
    """Renews the secrets of a configuration."""

    async def ensure_fresh(self) -> None:
        """Renew those that are due; `current` may be another chain then."""
        ...


class ChainHandle(Chain):
    """A chain that can be replaced: each call is made with the chain that is `current` when it begins.

    So an application can keep what `hub.get` returned, and follow each reload of the hub; a call that is under way
    goes on with the chain that it began with. The attributes are those of the current chain.
    """

    current: Chain
    """The chain that answers."""
    before_call: Callable[[], None] | None = None
    """Called before each call, and may raise in its place; None for nothing."""
    owner: object | None = None
    """What must live as long as the handle, so that there is something to follow."""
    renewal: Renewal | None = None
    """What renews secrets that are due, before a call; None if nothing does."""

    def __init__(self, chain: Chain) -> None:
        # All attributes are those of *chain*, so that there is nothing of its own to set up.
        self.__dict__ = {**vars(chain), "current": chain}

    @property
    def streams(self) -> bool:
        """Whether a call streams if it does not say."""
        return self.current.streams

    @streams.setter
    def streams(self, streams: bool) -> None:
        self.current.streams = streams

    def follow(self, chain: Chain) -> None:
        """Make the calls that begin from now on with *chain*, of the same name."""
        if [model.name for model in chain.models] == [model.name for model in self.models]:
            chain.sticky.continue_from(self.sticky)
        self.__dict__ = {**vars(chain), "current": chain, "closed": self.closed}

    def open_call(self, options: CallOptions) -> CallContext:
        """Return the context of a new call. Raises HubClosed, and what `before_call` raises."""
        if self.before_call is not None:
            self.before_call()
        return super().open_call(options)

    def send(self, request: ChatRequest) -> Coroutine[Any, Any, Reply]:
        """Return the reply of the current chain, which raises what it raises."""
        return self.current.send(request) if self.renewal is None else self._send_renewed(request, self.renewal)

    async def _send_renewed(self, request: ChatRequest, renewal: Renewal) -> Reply:
        await renewal.ensure_fresh()
        return await self.current.send(request)
