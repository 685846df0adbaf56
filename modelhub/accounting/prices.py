"""Prices: what a model's tokens cost, from its entry in the file or from the published table of genai-prices.

The table is big: it is loaded when a cost is first looked at, and each model is looked up in it once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

from modelhub.accounting.dashscope_prices import DATE, find_prices
from modelhub.core.errors import ConfigError
from modelhub.core.process import register_at_fork

if TYPE_CHECKING:
    from modelhub.core.model import ChatModelBase

__all__ = ["OWN", "PriceBook", "Price", "Rates"]

OWN = "pricing"
"""What a record names as the source of a price that stands in the model's entry."""

_log = logging.getLogger("modelhub")
_MILLION = Decimal(1_000_000)
_THOUSAND = Decimal(1_000)
_Step = tuple[int, Decimal]


class Price(Protocol):
    """What prices usage."""

    def cost(self, usage: Mapping[str, Any], at: datetime | None = None) -> Decimal | None:
        """What *usage* costs in US dollars at *at* (now if not given), None if that is not known."""
        ...


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices of a million tokens, each in steps by how long the input is: the last step it exceeds holds for all."""

    input: tuple[_Step, ...] = ()
    output: tuple[_Step, ...] = ()
    cache_read: tuple[_Step, ...] = ()
    cache_write: tuple[_Step, ...] = ()
    cache_write_1h: tuple[_Step, ...] = ()
    reasoning: tuple[_Step, ...] = ()
    request: Decimal = Decimal(0)
    """What each request costs besides."""

    def cost(self, usage: Mapping[str, Any]) -> Decimal | None:
        """What *usage* costs; None where it has tokens of a kind without a price."""
        total = usage["input_tokens"]
        read, written, hour = usage["cache_read_tokens"], usage["cache_write_tokens"], usage["cache_write_1h_tokens"]
        thought = min(usage["reasoning_tokens"], usage["output_tokens"])
        sum_ = Decimal(0)
        for count, steps in (
            (max(0, total - read - written), self.input),
            (read, self.cache_read or self.input),
            (written - hour, self.cache_write or self.input),
            (hour, self.cache_write_1h or self.cache_write or self.input),
            (usage["output_tokens"] - thought, self.output),
            (thought, self.reasoning or self.output),
        ):
            if not count:
                continue
            if not steps:
                return None
            sum_ += count * _step(steps, total)
        return sum_ / _MILLION + self.request


def _step(steps: tuple[_Step, ...], total: int) -> Decimal:
    return next(price for start, price in reversed(steps) if total > start or start == -1)


@dataclass(frozen=True, slots=True)
class _Tabled:
    """A price of a table of our own; `thinking` is what output costs while the model thinks, where that differs."""

    rates: Rates
    thinking: Rates | None
    source: str

    def cost(self, usage: Mapping[str, Any], at: datetime | None = None) -> Decimal | None:  # noqa: ARG002
        """What *usage* costs by the table."""
        thinks = self.thinking is not None and usage["reasoning_tokens"] > 0
        return (self.thinking if thinks and self.thinking is not None else self.rates).cost(usage)


class _Free:
    """The price of an answer that no vendor gives."""

    source = "scripted"

    def cost(self, usage: Mapping[str, Any], at: datetime | None = None) -> Decimal:  # noqa: ARG002
        """Nothing, whatever *usage* says."""
        return Decimal(0)


def _dashscope_price(model_name: str, address: str | None) -> _Tabled | None:
    steps = find_prices(model_name, address)
    if steps is None:
        return None

    def rates(output: str) -> Rates:
        def column(name: str) -> tuple[_Step, ...]:
            return tuple((step.over, Decimal(getattr(step, name))) for step in steps if getattr(step, name))

        return Rates(
            input=column("input"),
            output=column(output),
            cache_read=column("cache_read"),
            cache_write=column("cache_write"),
        )

    thinking = rates("thinking") if any(step.thinking for step in steps) else None
    return _Tabled(rates("output"), thinking, f"DashScope's prices of {DATE}")


class PriceBook:
    """The prices of a hub's models. *mode* is the file's `usage.cost`.

    Raises ConfigError if the table must be there and is not.
    """

    def __init__(self, mode: bool | Literal["auto"] = "auto") -> None:
        self.mode = mode
        self._lock = threading.RLock()
        self._loading = False
        self._table: _Table | None = None
        self._asked = False
        self._listed = False
        self._sources: dict[str, Price] = {}
        register_at_fork(self)
        if mode is True and self.load() is None:
            raise ConfigError("`usage.cost: true` needs the table of prices: pip install 'modelhub[prices]'")

    def reset_after_fork(self) -> None:
        """Let a forked child load the table itself if the parent was just doing so."""
        self._lock = threading.RLock()
        self._loading = False

    @property
    def ready(self) -> bool:
        """Whether a cost can be had at once: the table is there, or nobody needs it."""
        return self._asked or not self._listed

    def price(self, model: ChatModelBase, own: Price | None = None) -> Price | None:
        """The price of *model*, a provider: *own* if its entry has one; None where there can be none."""
        if self.mode is False:
            return None
        found: Price | None = own
        address = model.address()
        if own is None and model.kind == "scripted":
            found = _Free()
        elif own is None and (tabled := _dashscope_price(model.model_name, address)) is not None:
            found = tabled
        elif own is None and model.price_provider != "":
            self._listed = True
            provider = (model.price_provider or model.kind) if model.is_official() else None
            found = _Listed(self, provider, model.model_name, address)
        if found is not None:
            self._sources[model.name] = found
        return found

    def source(self, model: str) -> str | None:
        """Where the price of the entry *model* comes from: `pricing`, the table and its version, or None."""
        found = self._sources.get(model)
        if isinstance(found, _Tabled | _Free):
            return found.source
        if not isinstance(found, _Listed):
            return None if found is None else OWN
        return self._table.version if self._table is not None and found.known else None

    def load(self) -> _Table | None:
        """The table, which is imported at the first call; None where it is not installed."""
        if not self._asked:
            with self._lock:
                self._load()
        return self._table

    def _load(self) -> None:
        if self._asked or self._loading:  # the garbage collector may come here while it is loaded
            return
        self._loading = True
        self._table = _table()
        self._asked = True

    def warm(self) -> None:
        """Load the table in the background."""
        if not self._asked:
            threading.Thread(target=self.load, name="modelhub-prices", daemon=True).start()


class _Listed:
    """A price that is looked up in the table when it is first wanted."""

    def __init__(self, book: PriceBook, provider: str | None, model_name: str, address: str | None) -> None:
        self._book = book
        self._where = provider, model_name, address
        self._found: Any = None
        self._looked = False
        self._rates: dict[int, Rates | None] = {}

    @property
    def known(self) -> bool:
        """Whether the table has the model."""
        return self._found is not None

    def cost(self, usage: Mapping[str, Any], at: datetime | None = None) -> Decimal | None:
        """What *usage* costs by the table."""
        if not self._looked:
            table = self._book.load()
            self._found = table.find(*self._where) if table is not None else None
            self._looked = self._book.ready
        if self._found is None:
            return None
        prices = self._found.get_prices(at or datetime.now(UTC))
        rates = self._rates.get(id(prices))
        if rates is None:  # the table keeps its prices for good: an id names one price
            rates = self._rates[id(prices)] = _rates(vars(prices))
        return rates.cost(usage)


@dataclass(frozen=True, slots=True)
class _Table:
    snapshot: Any
    version: str

    def find(self, provider: str | None, model_name: str, address: str | None) -> Any:
        """Return the model of *provider*, or of whoever is at *address* where that is None; None if it is unknown."""
        name = model_name.rpartition("models/")[2]  # Google's full names
        try:
            model = self.snapshot.find_provider_model(name, None, provider, None if provider else address)[1]
        except LookupError:
            return None
        # A fine-tuned model never has its base's price.
        return None if name.startswith("ft:") and not str(model.id).startswith("ft:") else model


def _table() -> _Table | None:
    try:
        import genai_prices
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        _log.info("costs are unknown where an entry has no `pricing`: pip install 'modelhub[prices]'")
        return None
    return _Table(get_snapshot(), f"genai-prices {genai_prices.__version__}")


def _rates(prices: Mapping[str, Any]) -> Rates:
    def steps(key: str) -> tuple[_Step, ...]:
        price = prices.get(key)
        if price is None or isinstance(price, Decimal):
            return () if price is None else ((-1, price),)
        return ((-1, price.base), *((tier.start, tier.price) for tier in price.tiers))

    return Rates(
        input=steps("input_mtok"),
        output=steps("output_mtok"),
        cache_read=steps("cache_read_mtok"),
        cache_write=steps("cache_write_mtok"),
        cache_write_1h=steps("cache_write_1h_mtok"),
        reasoning=steps("output_reasoning_mtok"),
        request=(prices.get("requests_kcount") or Decimal(0)) / _THOUSAND,
    )
