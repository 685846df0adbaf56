"""What a call would do: who is asked, how often at worst, for how long, and what that depends on. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from modelhub.core.response import ChatUsage
from modelhub.middleware.retry.options import RetryOptions
from modelhub.middleware.timeout.options import TimeoutOptions
from modelhub.middleware.usage.options import PricingOptions

if TYPE_CHECKING:
    from modelhub.accounting.options import SpendingOptions
    from modelhub.config.load import Loaded, ModelEntry
    from modelhub.middleware.chain.options import ChainOptions

__all__ = ["Member", "Plan", "Worst"]

TOKENS = (8_000, 2_000)
"""Input and output of the call whose cost is told."""


@dataclass(frozen=True, slots=True)
class Member:
    """A model or a chain in its place; `number` counts within the chain around it, `depth` counts chains around."""

    name: str
    number: int
    depth: int
    entry: ModelEntry | None = None
    chain: ChainOptions | None = None
    missing: str | None = None

    @property
    def configured(self) -> bool:
        """Whether it is a model that can be called."""
        return self.entry is not None and self.missing is None

    @property
    def scripted(self) -> bool:
        """Whether it is a script, not a vendor."""
        return self.entry is not None and self.entry.provider == "scripted"

    @property
    def never_fails(self) -> bool:
        """Whether it is a script that always answers."""
        steps = getattr(self.entry.options, "steps", None) if self.entry is not None else None
        return self.configured and self.scripted and not any(s.fail or s.break_after is not None for s in steps or ())

    @property
    def vendor(self) -> tuple[Any, ...]:
        """Whose servers it asks."""
        options = self.entry.options if self.entry is not None else None
        return () if options is None else options.endpoint_identity()

    @property
    def access(self) -> tuple[Any, ...]:
        """The same with the key; nobody may print it."""
        options = self.entry.options if self.entry is not None else None
        return () if options is None else options.account_identity()

    def layer(self, key: str) -> Any:
        """What the file says of a layer."""
        return self.entry.layers.get(key) if self.entry is not None else None

    @property
    def retry(self) -> RetryOptions:
        """When it is asked again."""
        found: RetryOptions = self.layer("retry") or RetryOptions()
        return found

    @property
    def timeout(self) -> TimeoutOptions:
        """Its clocks."""
        found: TimeoutOptions = self.layer("timeout") or TimeoutOptions()
        return found


@dataclass(frozen=True, slots=True)
class Worst:
    """Bounds: `attempts` in all, `seconds`; `open` if a vendor or a limit may ask to wait longer."""

    attempts: int = 0
    seconds: float = 0.0
    open: bool = False

    def __add__(self, other: Worst) -> Worst:
        return Worst(self.attempts + other.attempts, self.seconds + other.seconds, self.open or other.open)

    def within(self, deadline: float | None) -> Worst:
        """The same, ended by *deadline*."""
        if deadline is None or (self.seconds <= deadline and not self.open):
            return self
        return Worst(self.attempts, deadline)


class Plan:
    """What a call of *name* would do; *lacking* says what models lack."""

    def __init__(self, loaded: Loaded, name: str, lacking: dict[str, str]) -> None:
        self.loaded = loaded
        self.name = name
        self.lacking = lacking
        self.chain = loaded.chains.get(name)
        self.members = list(self._members(name, 0) if self.chain is not None else [self._model(name, 1, 0)])
        self.models = [member for member in self.members if member.entry is not None]
        self.configured = [member for member in self.models if member.configured]

    def _model(self, name: str, number: int, depth: int) -> Member:
        return Member(name, number, depth, self.loaded.models[name], missing=self.lacking.get(name))

    def _members(self, chain: str, depth: int) -> Iterator[Member]:
        for number, name in enumerate(self.loaded.chains[chain].models, 1):
            if name in self.loaded.chains:
                yield Member(name, number, depth, chain=self.loaded.chains[name])
                yield from self._members(name, depth + 1)
            else:
                yield self._model(name, number, depth)

    def worst(self, *, stream: bool) -> Worst:
        """The most that a call may take, as a *stream* or not."""
        if self.chain is not None:
            return self._worst_chain(self.name, stream=stream, has_fallback=False)
        return self._worst_model(self.name, has_fallback=False)

    def _worst_chain(self, name: str, *, stream: bool, has_fallback: bool) -> Worst:
        chain = self.loaded.chains[name]
        asked = self._asked(chain.models)
        total = Worst()
        for member in asked:
            more = has_fallback or member != asked[-1]
            if member in self.loaded.chains:
                total += self._worst_chain(member, stream=stream, has_fallback=more)
            else:
                total += self._worst_model(member, more)
        return total.within(chain.deadline)

    def _asked(self, models: list[str]) -> list[str]:
        """Those of *models* that can be called, up to the first that always answers."""
        asked: list[str] = []
        for name in models:
            if self._callable(name):
                asked.append(name)
            if self._never_fails(name):
                break
        return asked

    def _never_fails(self, name: str) -> bool:
        return name in self.loaded.models and self._model(name, 1, 0).never_fails

    def _callable(self, name: str) -> bool:
        if name in self.loaded.chains:
            return any(self._callable(member) for member in self.loaded.chains[name].models)
        return name not in self.lacking

    def _worst_model(self, name: str, has_fallback: bool) -> Worst:
        member = self._model(name, 1, 0)
        if not member.configured:
            return Worst()
        if member.never_fails:
            return Worst(1, member.timeout.total)
        retry, attempts = member.retry, member.retry.max_attempts
        bounds = (min(retry.max_wait, retry.initial_wait * 2**k) for k in range(attempts - 1))
        waits = sum(max(bound, retry.max_retry_after if has_fallback else 0.0) for bound in bounds)
        waits_long = (not has_fallback and attempts > 1) or member.layer("limit") is not None
        return Worst(attempts, attempts * member.timeout.total + waits, waits_long)

    def budgets(self) -> dict[str, SpendingOptions]:
        """Return the budgets that a call may be counted on: those of its models, of its name, of tags, and of all."""
        names = {member.name for member in self.models}
        return {
            name: budget
            for name, budget in self.loaded.config.budgets.items()
            if (budget.model is None or budget.model in names) and budget.chain in {None, self.name}
        }

    def dearest(self) -> tuple[Decimal, str] | None:
        """What a call costs at the dearest model whose price is in the file, and which that is."""
        usage = ChatUsage(*TOKENS)
        priced = [(member.layer("pricing"), member.name) for member in self.configured]
        costs = [(pricing.cost(usage), name) for pricing, name in priced if isinstance(pricing, PricingOptions)]
        return max(costs, default=None)
