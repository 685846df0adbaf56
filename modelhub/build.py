"""Build callable models and chains from a validated configuration."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from modelhub.core.context import Services
from modelhub.core.errors import NotConfigured
from modelhub.core.model import ChatModelBase
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply
from modelhub.middleware.build_context import BuildContext, RenewModel, SharedState
from modelhub.middleware.chain.arms import Arm, Arms, ArmState
from modelhub.middleware.chain.call_keys import BuiltModel, CallKeyModel, CallKeyStates, KeyState, UnusedPart
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.limit.pool import LocalLimitStore
from modelhub.middleware.limit.store import LimitPool, LimitStore
from modelhub.middleware.retry.layer import Retry, RetryBudget
from modelhub.middleware.retry.options import RetryOptions
from modelhub.options import ProviderOptions
from modelhub.registry import list_layers

if TYPE_CHECKING:
    from modelhub.accounting.accounting import Accounting
    from modelhub.config.load import Loaded, ModelEntry
    from modelhub.middleware.chain.options import ArmsOptions
    from modelhub.shared.store import SharedStore

__all__ = ["Builder", "Unconfigured", "connect_model"]


class Unconfigured(ChatModelBase):
    """A placeholder for a model whose key or SDK is missing: it can be listed, and raises NotConfigured when called."""

    configured = False

    def __init__(self, entry: ModelEntry, missing: str, services: Services) -> None:
        super().__init__(entry.name if entry.options is None else entry.options.model_name, stream=False)
        self.entry = entry.name
        self.kind = entry.provider
        self.problem = missing
        self.services = services

    async def send(self, request: ChatRequest) -> Reply:  # noqa: ARG002 - nothing is sent
        """Raise NotConfigured, which says what to do."""
        raise NotConfigured(self.problem, model=self.name)

    def missing(self) -> str | None:
        """Return what must be set or installed before the model can be called."""
        return self.problem

    def __repr__(self) -> str:
        return f"Unconfigured({self.entry!r}: {self.problem})"


@dataclass(frozen=True, slots=True)
class _Stack:
    """A model with its layers: the *outermost* of them, and the *model* itself, None if it is not configured.

    *identity* is that of its breaker; *variables* are those of the environment that its vendor's SDK may have read.
    """

    outermost: ChatModelBase
    model: ChatModelBase | None = None
    identity: Hashable = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Builder:
    """Builds the models and chains of a configuration, each model once.

    *accounts* has prices and budgets; *shared_store* has the pools of limits, and shares how long breakers are open
    (None: this process keeps them). *close_idle* is called with models that no call will use again, *renew* renews the
    secrets of a model. *previous* is the builder of the configuration before, which this one is to replace: limits,
    breakers and unchanged models are the same objects; `take_over` completes the change.
    """

    loaded: Loaded
    services: Services
    accounts: Accounting
    shared_store: SharedStore | None
    previous: Builder | None
    close_idle: Callable[[Sequence[UnusedPart]], None]
    renew: RenewModel
    pools: dict[str, LimitPool[Any]] = field(init=False, default_factory=dict)
    _shared: SharedState = field(init=False, repr=False)
    _stacks: dict[str, _Stack] = field(init=False, default_factory=dict, repr=False)
    _arm_states: dict[str, ArmState] = field(init=False, default_factory=dict, repr=False)
    _entries: dict[str, ModelEntry] = field(init=False, repr=False)
    _call_keys: CallKeyStates = field(init=False, repr=False)

    def __post_init__(self) -> None:
        previous = self.previous
        self._entries = dict(variant for entry in self.loaded.models.values() for variant in entry.list_variants())
        self._call_keys = CallKeyStates(self.close_idle) if previous is None else previous._call_keys
        store: LimitStore = self.shared_store or LocalLimitStore(self.services.clock)
        is_same_store = previous is not None and previous.shared_store is self.shared_store
        known = previous.pools if previous is not None and is_same_store else {}
        self.pools = {
            name: known[name] if name in known else store.make_pool(name, options)
            for name, options in self.loaded.limits.items()
        }
        before = SharedState(RetryBudget(self.loaded.config.retry_budget)) if previous is None else previous._shared
        self._shared = replace(
            before,
            limits=self.pools,
            limit_store=store,
            cooldowns=None if self.shared_store is None else self.shared_store.cooldowns,
            own_limits=before.own_limits if is_same_store else {},
            breakers=before.breakers if is_same_store else {},
            prices=self.accounts.prices,
            budgets=self.accounts.budgets,
        )
        if previous is not None:
            self._stacks = {name: stack for name, stack in previous._stacks.items() if self._is_unchanged(name)}
            # What is made anew is not ejected for what was before; a chain that is an arm goes on.
            self._arm_states = {
                label: state
                for label, state in previous._arm_states.items()
                if label in self._stacks or label in self.loaded.chains
            }

    def take_over(self) -> list[ChatModelBase]:
        """Apply the options of this configuration to the limits that go on; return the models that are not used here.

        To be called once, when this builder replaces the previous one.
        """
        previous, self.previous = self.previous, None
        if previous is None:
            return []
        for name, options in self.loaded.limits.items():
            self.pools[name].reconfigure(options)
        own = {label: entry.layers.get("limit") for label, entry in self._entries.items()}
        for name, pool in list(self._shared.own_limits.items()):
            own_options = own.get(name)
            if isinstance(own_options, LimitOptions):
                pool.reconfigure(own_options)
            else:
                del self._shared.own_limits[name]
        self._shared.retry_budget.reconfigure(self.loaded.config.retry_budget)
        identities = {stack.identity for stack in self._stacks.values()}
        for identity in [identity for identity in self._shared.breakers if identity not in identities]:
            del self._shared.breakers[identity]
        kept = set(self.list_models())
        retired = [model for model in previous.list_models() if model not in kept]
        # Models of callers' keys are not compared one by one: a change of the file makes all of them anew.
        return retired if self._has_same_call_keys(previous) else [*retired, *self._call_keys.drop()]

    def _has_same_call_keys(self, previous: Builder) -> bool:
        """Return whether the models of callers' keys are as those that *previous* makes."""
        entries = [
            [
                (entry.name, entry.provider, entry.options, entry.layers, entry.call_key)
                for entry in builder.loaded.models.values()
                if entry.call_key is not None
            ]
            for builder in (self, previous)
        ]
        return (
            entries[0] == entries[1]
            and self.loaded.limits == previous.loaded.limits
            and self._has_same_surroundings(previous)
        )

    def _has_same_surroundings(self, previous: Builder) -> bool:
        """Return whether models are made with what is common to all of them as *previous* makes them."""
        shared, before = self._shared, previous._shared
        return (
            self.loaded.config.parameters == previous.loaded.config.parameters
            and self.shared_store is previous.shared_store
            and (shared.prices is before.prices and shared.budgets is before.budgets)
        )

    def list_models(self) -> list[ChatModelBase]:
        """Return the providers that were made so far, without their layers, in the order in which they were made."""
        own = [stack.model for stack in self._stacks.values() if stack.model is not None]
        return [*own, *self._call_keys.list_models()]

    def find_model(self, name: str) -> ChatModelBase | None:
        """Return the provider of the entry *name*, without its layers, if it was made already; one of several keys."""
        entry = self.loaded.models.get(name)
        labels = [label for label, _ in entry.list_variants()] if entry is not None else []
        stacks = (self._stacks[label] for label in labels if label in self._stacks)
        own = next((stack.model for stack in stacks if stack.model is not None), None)
        return own or self._call_keys.find_provider(name)

    def find_retry(self, label: str) -> ChatModelBase | None:
        """Return the layer `Retry` of the model or key *label*; None if there is no such model, or it lacks a key."""
        if label not in self._entries:
            return None
        return next((layer for layer in self.stack(label).stack() if isinstance(layer, Retry)), None)

    def chain(self, name: str) -> Chain:
        """Build the chain *name*, or the model *name* as a chain of one."""
        options = self.loaded.chains.get(name)
        if options is None:
            entry = self.loaded.models[name]
            stream = entry.options.stream if entry.options is not None else False
            chain = Chain(name, [self._make_place(name)], stream=stream)
        else:
            members = [self._make_place(place) for place in options.models]
            ask = None if options.ask is None else options.ask.given()
            chain = Chain(name, members, ask=ask, **options.model_dump(exclude={"models", "ask"}, by_alias=True))
        chain.services = self.services
        return chain

    def _make_place(self, place: str | ArmsOptions) -> ChatModelBase | Arms:
        """Return the chain or model *place*; a model with several keys, as these; or the arms that it lists."""
        if not isinstance(place, str):
            listed = place.weights().items()
            arms = [Arm(name, self._make_place(name), weight, state=self._get_state(name)) for name, weight in listed]
            return Arms(arms, by=None if place.by is None else place.by.removeprefix("tag:"), pick=place.pick)
        if place in self.loaded.chains:
            return self.chain(place)
        keys = self.loaded.models[place].keys
        if not keys:
            return self.stack(place)
        arms = [
            Arm(key.label, self.stack(key.label), key.weight, identity=key.identity, state=self._get_state(key.label))
            for key in keys
        ]
        return Arms(arms, is_keys=True)

    def _get_state(self, label: str) -> ArmState:
        return self._arm_states.setdefault(label, ArmState())

    def stack(self, label: str) -> ChatModelBase:
        """Return the model or key *label* with its layers around it; the same object each time."""
        if label not in self._stacks:
            self._stacks[label] = self._build_stack(label, self._entries[label])
        return self._stacks[label].outermost

    def _is_unchanged(self, label: str) -> bool:
        """Return whether the model or key *label* of the previous configuration can be used with this one."""
        previous, entry = self.previous, self._entries.get(label)
        if previous is None or entry is None or previous._stacks[label].model is None:
            return False
        old = previous._entries[label]
        return (
            (entry.provider, entry.options, entry.layers, entry.missing)
            == (old.provider, old.options, old.layers, old.missing)
            and self._has_same_surroundings(previous)
            and previous._stacks[label].variables == _read_variables(entry.options)
            and self._find_pool(label) is previous._find_pool(label)
        )

    def _find_pool(self, label: str) -> LimitPool[Any] | None:
        """Return the pool that the model or key *label* names, or that belongs to it, if it was made already."""
        limit = self._entries[label].layers.get("limit")
        return self.pools.get(limit) if isinstance(limit, str) else self._shared.own_limits.get(label)

    def _build_stack(self, label: str, entry: ModelEntry) -> _Stack:
        if entry.options is None or entry.missing is not None:
            return _Stack(Unconfigured(entry, entry.missing or "it is not configured", self.services))
        provider = connect_model(self.loaded, entry, self.services)
        if (missing := provider.missing()) is not None:
            return _Stack(Unconfigured(entry, missing, self.services))
        if entry.call_key is not None:
            return _Stack(self._make_call_key_model(entry, entry.call_key, provider))
        identity = _make_endpoint_key(entry.options)
        renew = self.renew if entry.name in self.loaded.renewable else None
        build_context = BuildContext(self.services, identity, self._shared, label, renew)
        return _Stack(_add_layers(provider, entry, build_context), provider, identity, _read_variables(entry.options))

    def _make_call_key_model(self, entry: ModelEntry, call_key: str, template: ChatModelBase) -> CallKeyModel:
        def make_shared(_: str) -> SharedState:
            return replace(self._shared, limits={}, own_limits={}, breakers={})

        build = partial(self._build_for_call_key, entry)
        retry = entry.layers.get("retry") or RetryOptions()
        return CallKeyModel(template, call_key, self._call_keys, make_shared, build, retry.max_attempts)

    def _build_for_call_key(self, entry: ModelEntry, key: SecretStr, state: KeyState) -> BuiltModel:
        """Return the model of *entry* for one key of calls; a limit that it names is one of that key's own."""
        if entry.options is None:
            raise ValueError(f"`{entry.name}` has no options")
        options = entry.options.model_copy(update={"api_key": key})
        own, shared = replace(entry, options=options, call_key=None), state.shared
        limit = entry.layers.get("limit")
        if isinstance(limit, str) and limit not in shared.limits:
            store = shared.limit_store or LocalLimitStore(self.services.clock)
            pool = store.make_pool(f"{limit}@{state.label}", self.loaded.limits[limit])
            shared = state.shared = replace(shared, limits={**shared.limits, limit: pool})
        provider = connect_model(self.loaded, own, self.services)
        provider.has_callers_key = True
        label = f"{entry.name}@{state.label}"
        build_context = BuildContext(self.services, _make_endpoint_key(options), shared, label)
        return BuiltModel(_add_layers(provider, own, build_context), provider)


def _add_layers(provider: ChatModelBase, entry: ModelEntry, build_context: BuildContext) -> ChatModelBase:
    model = provider
    for spec in reversed(list_layers()):
        model = spec.load().wrap(model, entry.layers.get(spec.key), build_context)
    return model


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
    if options.ask is not None:  # what the entry says in its own fields goes before it
        own = options.model_fields_set
        model.ask = {name: value for name, value in options.ask.given().items() if name not in own}
    if options.takes is not None:
        model.takes = options.takes.model_dump(exclude_none=True)
    model.unsupported_parameters = loaded.config.parameters.unsupported
    return model


def _make_endpoint_key(options: ProviderOptions) -> Hashable:
    """Return a key that identifies an endpoint, account and model; models that share it share a breaker."""
    # Scripted models share nothing; of a secret, only the hash is kept.
    instance = object() if options.provider == "scripted" else None
    account = hashlib.blake2b(repr(options.account_identity()).encode(), digest_size=16).hexdigest()
    return instance, options.model_name, *options.endpoint_identity(), account


def _read_variables(options: ProviderOptions | None) -> dict[str, str]:
    """Return the variables of the environment that the SDK of *options* may read, such as `OPENAI_BASE_URL`."""
    prefixes = {f"{name.partition('_')[0]}_" for name in (options.key_variables if options is not None else ())}
    return {name: value for name, value in os.environ.items() if name.startswith(tuple(prefixes))}
