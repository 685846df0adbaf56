"""From a validated file to stacks that can be called."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelhub.core.context import Services
from modelhub.core.errors import NotConfigured
from modelhub.core.model import ChatModelBase, ChatRequest
from modelhub.core.stream import Reply
from modelhub.middleware.build_context import BuildContext, SharedState
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.limit.layer import RateLimitPool
from modelhub.middleware.retry.layer import RetryBudget
from modelhub.options import ProviderOptions
from modelhub.registry import layers

if TYPE_CHECKING:
    from modelhub.accounting.accounting import Accounting
    from modelhub.config.load import Loaded, ModelEntry

__all__ = ["Builder", "Unconfigured"]


class Unconfigured(ChatModelBase):
    """Stands in for a model whose key or SDK is missing: it can be listed, and says what to do when called."""

    configured = False

    def __init__(self, name: str, kind: str, model_name: str, missing: str) -> None:
        super().__init__(model_name, stream=False)
        self._name = name
        self.kind = kind
        self.problem = missing

    @property
    def name(self) -> str:
        """The entry's name."""
        return self._name

    async def send(self, request: ChatRequest) -> Reply:  # noqa: ARG002 - there is nobody to ask
        """Raises NotConfigured, always."""
        raise NotConfigured(self.problem, model=self.name)

    def __repr__(self) -> str:
        return f"Unconfigured({self._name!r}: {self.problem})"


@dataclass(slots=True)
class Builder:
    """Builds what a file describes, each model once, and keeps what must be closed.

    *opened* hears of every provider that was made; *accounts* has the prices and budgets.
    """

    loaded: Loaded
    services: Services
    opened: Callable[[ChatModelBase], None]
    accounts: Accounting | None = None
    pools: dict[str, RateLimitPool] = field(default_factory=dict)
    _shared: SharedState = field(init=False, repr=False)
    _stacks: dict[str, ChatModelBase] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pools = {
            name: RateLimitPool(name, options, self.services.clock) for name, options in self.loaded.limits.items()
        }
        self._shared = SharedState(
            RetryBudget(self.loaded.config.retry_budget),
            self.pools,
            prices=self.accounts.prices if self.accounts is not None else None,
            budgets=self.accounts.budgets if self.accounts is not None else None,
        )

    def chain(self, name: str) -> Chain:
        """The chain *name*, or the model *name* as a chain of one."""
        options = self.loaded.chains.get(name)
        if options is None:
            entry = self.loaded.models[name]
            stream = entry.options.stream if entry.options is not None else False
            return Chain(name, [self.stack(name)], stream=stream)
        members = [
            self.chain(member) if member in self.loaded.chains else self.stack(member) for member in options.models
        ]
        return Chain(name, members, **options.model_dump(exclude={"models"}))

    def stack(self, name: str) -> ChatModelBase:
        """The model *name* with its layers around it; the same object each time."""
        if name not in self._stacks:
            self._stacks[name] = self._stack(self.loaded.models[name])
        return self._stacks[name]

    def _stack(self, entry: ModelEntry) -> ChatModelBase:
        if entry.options is None or entry.missing is not None:
            return self._unconfigured(entry, entry.missing or "it is not configured")
        model: ChatModelBase = entry.options.connect()
        if (missing := model.missing()) is not None:
            return self._unconfigured(entry, missing)
        model.services = self.services
        model.entry = entry.name
        if (timeout := entry.layers.get("timeout")) is not None:
            model.connect_timeout = timeout.connect
        model.context_window = entry.options.context_window
        self.opened(model)
        build_context = BuildContext(self.services, _identity(entry.options), self._shared)
        for spec in reversed(layers()):
            model = spec.load().wrap(model, entry.layers.get(spec.key), build_context)
        return model

    def _unconfigured(self, entry: ModelEntry, missing: str) -> Unconfigured:
        model_name = entry.options.model_name if entry.options is not None else entry.name
        stand_in = Unconfigured(entry.name, entry.provider, model_name, missing)
        stand_in.services = self.services
        return stand_in


def _identity(options: ProviderOptions) -> Hashable:
    """What tells one vendor endpoint, account and model from another: not the host alone."""
    # Two scripted models have nothing in common; a secret is told by its hash, not kept.
    own = id(options) if options.provider == "scripted" else None
    return own, options.model_name, *options.endpoint_identity(), hash(options.account_identity())
