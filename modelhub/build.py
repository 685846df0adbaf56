"""Build callable models and chains from a validated configuration."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelhub.core.context import Services
from modelhub.core.errors import NotConfigured
from modelhub.core.model import ChatModelBase
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply
from modelhub.middleware.build_context import BuildContext, SharedState
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.limit.store import LimitPool, LimitStore, LocalLimitStore
from modelhub.middleware.retry.layer import RetryBudget
from modelhub.options import ParametersOptions, ProviderOptions
from modelhub.registry import list_layers

if TYPE_CHECKING:
    from modelhub.accounting.accounting import Accounting
    from modelhub.config.load import Loaded, ModelEntry

__all__ = ["Builder", "Unconfigured", "connect_model"]


class Unconfigured(ChatModelBase):
    """A placeholder for a model whose key or SDK is missing: it can be listed, and raises NotConfigured when called."""

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

    async def send(self, request: ChatRequest) -> Reply:  # noqa: ARG002 - nothing is sent
        """Raise NotConfigured, which says what to do."""
        raise NotConfigured(self.problem, model=self.name)

    def __repr__(self) -> str:
        return f"Unconfigured({self._name!r}: {self.problem})"


@dataclass(slots=True)
class Builder:
    """Builds the models and chains of a configuration, each model once.

    *opened* is called with every provider that is made, so that it can be closed; *accounts* has prices and budgets,
    and *limit_store* the pools of limits (None: they are kept in this process).
    """

    loaded: Loaded
    services: Services
    opened: Callable[[ChatModelBase], None]
    accounts: Accounting | None = None
    limit_store: LimitStore | None = None
    pools: dict[str, LimitPool[Any]] = field(default_factory=dict)
    _shared: SharedState = field(init=False, repr=False)
    _stacks: dict[str, ChatModelBase] = field(default_factory=dict)

    def __post_init__(self) -> None:
        store = self.limit_store or LocalLimitStore(self.services.clock)
        self.pools = {name: store.make_pool(name, options) for name, options in self.loaded.limits.items()}
        self._shared = SharedState(
            RetryBudget(self.loaded.config.retry_budget),
            self.pools,
            store,
            prices=self.accounts.prices if self.accounts is not None else None,
            budgets=self.accounts.budgets if self.accounts is not None else None,
        )

    def chain(self, name: str) -> Chain:
        """Build the chain *name*, or the model *name* as a chain of one."""
        options = self.loaded.chains.get(name)
        if options is None:
            entry = self.loaded.models[name]
            stream = entry.options.stream if entry.options is not None else False
            return Chain(name, [self.stack(name)], stream=stream)
        members = [
            self.chain(member) if member in self.loaded.chains else self.stack(member) for member in options.models
        ]
        ask = None if options.ask is None else options.ask.given()
        return Chain(name, members, ask=ask, **options.model_dump(exclude={"models", "ask"}, by_alias=True))

    def stack(self, name: str) -> ChatModelBase:
        """Return the model *name* with its layers around it; the same object each time."""
        if name not in self._stacks:
            self._stacks[name] = self._build_stack(self.loaded.models[name])
        return self._stacks[name]

    def _build_stack(self, entry: ModelEntry) -> ChatModelBase:
        if entry.options is None or entry.missing is not None:
            return self._make_unconfigured(entry, entry.missing or "it is not configured")
        model = connect_model(self.loaded, entry, self.services)
        if (missing := model.missing()) is not None:
            return self._make_unconfigured(entry, missing)
        self.opened(model)
        build_context = BuildContext(self.services, _make_endpoint_key(entry.options), self._shared)
        for spec in reversed(list_layers()):
            model = spec.load().wrap(model, entry.layers.get(spec.key), build_context)
        return model

    def _make_unconfigured(self, entry: ModelEntry, missing: str) -> Unconfigured:
        model_name = entry.options.model_name if entry.options is not None else entry.name
        placeholder = Unconfigured(entry.name, entry.provider, model_name, missing)
        placeholder.services = self.services
        return placeholder


def connect_model(loaded: Loaded, entry: ModelEntry, services: Services) -> ChatModelBase:
    """Return the model of *entry* without its layers, also if its key is missing. *entry* must have options."""
    options = entry.options
    if options is None:
        raise ValueError(f"`{entry.name}` has no options")
    model: ChatModelBase = options.connect()
    model.services = services
    model.entry = entry.name
    if (timeout := entry.layers.get("timeout")) is not None:
        model.connect_timeout = timeout.connect
    model.context_window = options.context_window
    model.stream_inside = options.stream_inside
    _set_parameters(model, options, loaded.config.parameters)
    return model


def _set_parameters(model: ChatModelBase, options: ProviderOptions, parameters: ParametersOptions) -> None:
    """Tell *model* what the file says of parameters; what the entry says in its own fields goes before `ask`."""
    if options.ask is not None:
        own = options.model_fields_set
        model.ask = {name: value for name, value in options.ask.given().items() if name not in own}
    if options.takes is not None:
        model.takes = options.takes.model_dump(exclude_none=True)
    model.unsupported_parameters = parameters.unsupported


def _make_endpoint_key(options: ProviderOptions) -> Hashable:
    """Return a key that identifies an endpoint, account and model; models that share it share a breaker."""
    # Scripted models share nothing; of a secret, only the hash is kept.
    instance = id(options) if options.provider == "scripted" else None
    return instance, options.model_name, *options.endpoint_identity(), hash(options.account_identity())
