"""Work out what a call would do: which models are tried, how often and for how long at worst, and at what cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from modelhub.accounting.prices import PriceBook
from modelhub.build import connect_model
from modelhub.core.context import Services
from modelhub.core.response import ChatUsage
from modelhub.middleware.retry.options import RetryOptions
from modelhub.middleware.timeout.options import TimeoutOptions
from modelhub.providers.base import Provider

if TYPE_CHECKING:
    from modelhub.accounting.options import SpendingOptions
    from modelhub.config.load import Loaded, ModelEntry
    from modelhub.middleware.chain.options import ArmsOptions, ChainOptions
    from modelhub.middleware.usage.options import Pricing
    from modelhub.options import ProviderOptions
    from modelhub.providers.scripted import Step

__all__ = ["Member", "Plan", "WorstCase"]

TOKENS = (8_000, 2_000)
"""The input and output tokens of the call whose cost is shown."""


@dataclass(frozen=True, slots=True)
class Share:
    """The part of the calls at a place that an arm or a key gets, from 0 to 1, and how it is picked."""

    of_calls: float
    by: str | None = None
    pick: str = "weighted"


@dataclass(frozen=True, slots=True)
class Member:
    """A model or a chain in a plan; `number` is its position in its chain, `depth` the number of outer chains.

    An arm or a key has the `share` of the calls at its place that it gets. `in_streaming_chain` is whether a chain
    around it sets `stream_inside`.
    """

    name: str
    number: int
    depth: int
    entry: ModelEntry | None = None
    chain: ChainOptions | None = None
    missing: str | None = None
    share: Share | None = None
    key: str | None = None
    in_streaming_chain: bool = False

    @property
    def label(self) -> str:
        """The name, with that of the key if the model has several."""
        return self.key or self.name

    @property
    def configured(self) -> bool:
        """Whether this is a model that can be called."""
        return self.entry is not None and self.missing is None

    @property
    def scripted(self) -> bool:
        """Whether this is a scripted model, not a vendor's."""
        return self.entry is not None and self.entry.provider == "scripted"

    @property
    def options(self) -> ProviderOptions | None:
        """The provider's options, or None for a chain, and for a model whose options are not valid yet."""
        return self.entry.options if self.entry is not None else None

    @property
    def never_fails(self) -> bool:
        """Whether this is a scripted model that always answers, also when it streams."""
        steps: list[Step] = getattr(self.options, "steps", None) or []
        return self.configured and self.scripted and not any(_can_fail(step, self.timeout) for step in steps)

    @property
    def streams_inside(self) -> bool:
        """Whether plain answers are streamed internally, so that the timeouts of streams apply to them."""
        return self.in_streaming_chain or (self.options is not None and self.options.stream_inside)

    @property
    def endpoint(self) -> tuple[Any, ...]:
        """The identity of the vendor's server."""
        return () if self.options is None else self.options.endpoint_identity()

    @property
    def account(self) -> tuple[Any, ...]:
        """The identity of the account at the server, the secret key included; never print it."""
        return () if self.options is None else self.options.account_identity()

    def get_layer(self, key: str) -> Any:
        """Return the options of the layer *key*, or None."""
        return self.entry.layers.get(key) if self.entry is not None else None

    def find_unsupported(self, plan: Plan) -> dict[str, str]:
        """Return the parameters of `ask` that are left out for this model, each with the reason."""
        if not self.configured or self.entry is None or self.options is None:
            return {}
        provider = connect_model(plan.loaded, self.entry, Services())
        return provider.list_unsupported_parameters() if isinstance(provider, Provider) else {}

    @property
    def retry(self) -> RetryOptions:
        """The retry options."""
        options: RetryOptions = self.get_layer("retry") or RetryOptions()
        return options

    @property
    def timeout(self) -> TimeoutOptions:
        """The timeouts."""
        options: TimeoutOptions = self.get_layer("timeout") or TimeoutOptions()
        return options


def _can_fail(step: Step, timeout: TimeoutOptions) -> bool:
    """Return whether *step* of a script fails, breaks off, or is slower than *timeout* allows."""
    words = len(f"{step.think or ''} {step.text}".split()) + len(step.calls)
    return (
        step.fail is not None
        or step.break_after is not None
        or step.wait >= timeout.first_token
        or step.pause >= timeout.idle
        or (step.pause > 0 and timeout.slow is not None)
        or step.wait + step.pause * words >= timeout.total
    )


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Upper bounds of a call: attempts and seconds; `open` if a vendor or a limit can make it wait longer."""

    attempts: int = 0
    seconds: float = 0.0
    open: bool = False

    def __add__(self, other: WorstCase) -> WorstCase:
        return WorstCase(self.attempts + other.attempts, self.seconds + other.seconds, self.open or other.open)

    def limit_to(self, deadline: float | None) -> WorstCase:
        """Return the worst case with a *deadline* in seconds."""
        if deadline is None or (self.seconds <= deadline and not self.open):
            return self
        return WorstCase(self.attempts, deadline)


class Plan:
    """What a call of *name* would do. *missing* says what models lack that are not configured."""

    def __init__(self, loaded: Loaded, name: str, missing: dict[str, str]) -> None:
        self.loaded = loaded
        self.name = name
        self.missing_by_model = missing
        self._prices = PriceBook("auto" if loaded.config.usage.cost else False)
        self.chain = loaded.chains.get(name)
        self.members = list(self._list_members(name, 0) if self.chain is not None else self._list_place(name, 1, 0))
        self.models = [member for member in self.members if member.entry is not None]
        self.configured = [member for member in self.models if member.configured]
        self.vendors = [member for member in self.configured if not member.scripted]

    def _make_member(self, name: str, number: int, depth: int) -> Member:
        if name in self.loaded.chains:
            return Member(name, number, depth, chain=self.loaded.chains[name])
        return Member(name, number, depth, self.loaded.models[name], missing=self.missing_by_model.get(name))

    def _list_members(self, chain: str, depth: int, *, stream_inside: bool = False) -> Iterator[Member]:
        stream_inside = stream_inside or self.loaded.chains[chain].stream_inside
        for number, place in enumerate(self.loaded.chains[chain].models, 1):
            for member in self._list_place(place, number, depth):
                yield dataclasses.replace(member, in_streaming_chain=stream_inside)
                if member.chain is not None:
                    yield from self._list_members(member.name, depth + 1, stream_inside=stream_inside)

    def _list_place(self, place: str | ArmsOptions, number: int, depth: int) -> Iterator[Member]:
        if isinstance(place, str):
            yield from self._list_variants(self._make_member(place, number, depth))
            return
        weights = place.weights()
        available = sum(weight for name, weight in weights.items() if self._is_callable(name))
        for name, weight in weights.items():
            share = Share(weight / available if self._is_callable(name) else 0.0, place.by, place.pick)
            yield from self._list_variants(dataclasses.replace(self._make_member(name, number, depth), share=share))

    def _list_variants(self, member: Member) -> Iterator[Member]:
        """Yield *member*, once for each key if it has several."""
        keys = member.entry.keys if member.entry is not None else ()
        if not keys:
            yield member
            return
        share = member.share or Share(1.0)
        available = sum(key.weight for key in keys if key.label not in self.missing_by_model)
        for key in keys:
            missing = self.missing_by_model.get(key.label)
            part = 0.0 if missing is not None else share.of_calls * key.weight / available
            yield dataclasses.replace(
                member,
                entry=key.entry,
                missing=missing,
                share=dataclasses.replace(share, of_calls=part),
                key=key.label,
            )

    def find_worst_case(self) -> WorstCase:
        """Return the most attempts and time that a call may take, streamed or not."""
        if self.chain is not None:
            return self._find_worst_chain(self.name, has_fallback=False)
        return self._find_worst_model(self.name, has_fallback=False)

    def _find_worst_chain(self, name: str, *, has_fallback: bool) -> WorstCase:
        chain = self.loaded.chains[name]
        members = self._list_callable(chain.models)
        total = WorstCase()
        for member in members:
            find_worst = self._find_worst_chain if member in self.loaded.chains else self._find_worst_model
            total += find_worst(member, has_fallback=has_fallback or member != members[-1])
        return total.limit_to(chain.deadline)

    def _list_callable(self, places: Sequence[str | ArmsOptions]) -> list[str]:
        """Return the models at *places* that can be called, up to the first place that always answers."""
        callable_members: list[str] = []
        for place in places:
            names = (place,) if isinstance(place, str) else tuple(place.weights())
            callable_members += (name for name in names if self._is_callable(name))
            if any(name in self.loaded.models and self._make_member(name, 1, 0).never_fails for name in names):
                break
        return callable_members

    def _is_callable(self, name: str) -> bool:
        if name in self.loaded.chains:
            return any(self._is_callable(member) for member in self.loaded.chains[name].member_names())
        return name not in self.missing_by_model

    def _find_worst_model(self, name: str, *, has_fallback: bool) -> WorstCase:
        total = WorstCase()
        variants = [member for member in self._list_variants(self._make_member(name, 1, 0)) if member.configured]
        for member in variants:
            total += _find_worst(member, has_fallback=has_fallback or member is not variants[-1])
        return total

    def find_budgets(self) -> dict[str, SpendingOptions]:
        """Return the budgets that may include a call: those of its models, of its chain, of tags, and of all calls."""
        names = {member.name for member in self.models}
        return {
            name: budget
            for name, budget in self.loaded.config.budgets.items()
            if (budget.model is None or budget.model in names) and budget.chain in {None, self.name}
        }

    def find_highest_cost(self) -> tuple[Decimal, str] | None:
        """Return the cost of a call at the most expensive model with a price, and its name; None without a price."""
        costs = ((cost, name) for name, cost in self._list_costs(ChatUsage(*TOKENS)) if cost is not None)
        return max(costs, default=None)

    def find_hop_cost(self) -> tuple[str, Decimal, str, Decimal] | None:
        """Return what a prompt costs from the cache of the first model, and without a cache at the next one.

        They are the first two configured models with a price, in the file or published, each with its cost; None if
        there are fewer, or nothing is cheaper from the first one's cache.
        """
        prompt = TOKENS[0]
        fresh = {name: cost for name, cost in self._list_costs(ChatUsage(prompt)) if cost}
        cached = dict(self._list_costs(ChatUsage(prompt, cache_read_tokens=prompt)))
        if len(fresh) < 2:
            return None
        (first, first_cost), (second, second_cost), *_ = fresh.items()
        from_cache = cached[first]
        return None if from_cache is None or from_cache >= first_cost else (first, from_cache, second, second_cost)

    def _list_costs(self, usage: ChatUsage) -> Iterator[tuple[str, Decimal | None]]:
        """Yield each configured model that has a price, and what *usage* costs there, None if that is not known.

        The price is the one in the model's entry, or the published one.
        """
        for member in self.configured:
            price: Pricing | None = member.get_layer("pricing")
            if price is None and member.entry is not None and member.options is not None:
                price = self._prices.price(connect_model(self.loaded, member.entry, Services()))
            if price is not None:
                yield member.name, price.cost(usage)


def _find_worst(member: Member, *, has_fallback: bool) -> WorstCase:
    """Return the most attempts and time that a call may take at *member* alone."""
    if member.never_fails:
        return WorstCase(1, member.timeout.total)
    retry, attempts = member.retry, member.retry.max_attempts
    bounds = (min(retry.max_wait, retry.initial_wait * 2**k) for k in range(attempts - 1))
    waits = sum(max(bound, retry.max_retry_after if has_fallback else 0.0) for bound in bounds)
    waits_long = (not has_fallback and attempts > 1) or member.get_layer("limit") is not None
    return WorstCase(attempts, attempts * member.timeout.total + waits, waits_long)
