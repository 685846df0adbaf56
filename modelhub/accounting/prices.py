"""Prices of tokens, from a model's entry in the file or from the published table of genai-prices.

The table is large: it is loaded when a cost is first needed, and each model is looked up in it once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from modelhub.accounting.dashscope_prices import PRICES_DATE, find_prices
from modelhub.core.errors import ConfigError
from modelhub.core.process import register_at_fork
from modelhub.core.threads import new_lock
from modelhub.version import install_command

if TYPE_CHECKING:
    from modelhub.core.model import ChatModelBase
    from modelhub.middleware.usage.options import Pricing

__all__ = ["ENTRY_PRICING", "PriceBook", "TokenPrices"]

ENTRY_PRICING = "pricing"
"""The source, in usage records, of a price that is set in the model's entry."""

_log = logging.getLogger("modelhub")
_MILLION_TOKENS = Decimal(1_000_000)
_THOUSAND_REQUESTS = Decimal(1_000)
_Step = tuple[int, Decimal]


class TokenPrices(NamedTuple):
    """Prices of a million tokens, in steps by the number of input tokens: the last step exceeded applies to all."""

    input: tuple[_Step, ...] = ()
    output: tuple[_Step, ...] = ()
    cache_read: tuple[_Step, ...] = ()
    cache_write: tuple[_Step, ...] = ()
    cache_write_1h: tuple[_Step, ...] = ()
    reasoning: tuple[_Step, ...] = ()
    request: Decimal = Decimal(0)
    """The price of a request, in addition to its tokens, in US dollars."""

    def cost(self, usage: Mapping[str, Any]) -> Decimal | None:
        """Return what *usage* costs in US dollars, or None if it has tokens of a type without a price."""
        input_tokens = usage["input_tokens"]
        read, written = usage["cache_read_tokens"], usage["cache_write_tokens"]
        written_1h = usage["cache_write_1h_tokens"]
        reasoning = min(usage["reasoning_tokens"], usage["output_tokens"])
        amount = Decimal(0)
        for count, steps in (
            (max(0, input_tokens - read - written), self.input),
            (read, self.cache_read or self.input),
            (written - written_1h, self.cache_write or self.input),
            (written_1h, self.cache_write_1h or self.cache_write or self.input),
            (usage["output_tokens"] - reasoning, self.output),
            (reasoning, self.reasoning or self.output),
        ):
            if not count:
                continue
            if not steps:
                return None
            amount += count * next(price for start, price in reversed(steps) if input_tokens > start or start == -1)
        return amount / _MILLION_TOKENS + self.request


class _DashScopePrice(NamedTuple):
    """A price of our own DashScope table; `thinking` is the price when the model thinks, if that differs."""

    rates: TokenPrices
    thinking: TokenPrices | None
    source: str

    def cost(self, usage: Mapping[str, Any], at: datetime | None = None) -> Decimal | None:  # noqa: ARG002
        """What *usage* costs by the table."""
        has_thought = usage["reasoning_tokens"] > 0
        return (self.thinking if self.thinking is not None and has_thought else self.rates).cost(usage)


class FreePrice:
    """The price of a scripted answer."""

    source = "scripted"

    def cost(self, usage: Mapping[str, Any], at: datetime | None = None) -> Decimal:  # noqa: ARG002
        """Return 0, whatever *usage* says."""
        return Decimal(0)


def _make_dashscope_price(model_name: str, address: str | None) -> _DashScopePrice | None:
    steps = find_prices(model_name, address)
    if steps is None:
        return None

    def make_prices(output: str) -> TokenPrices:
        def make_steps(name: str) -> tuple[_Step, ...]:
            return tuple((step.over, Decimal(getattr(step, name))) for step in steps if getattr(step, name))

        return TokenPrices(
            input=make_steps("input"),
            output=make_steps(output),
            cache_read=make_steps("cache_read"),
            cache_write=make_steps("cache_write"),
        )

    thinking = make_prices("thinking") if any(step.thinking for step in steps) else None
    return _DashScopePrice(make_prices("output"), thinking, f"DashScope's prices of {PRICES_DATE}")


class PriceBook:
    """The prices of a hub's models. *mode* is the file's `usage.cost`.

    Raises ConfigError if *mode* is True and the table is not installed.
    """

    def __init__(self, mode: bool | Literal["auto"] = "auto") -> None:
        self.mode = mode
        self._lock = new_lock()
        self._table: _PriceTable | None = None
        self._is_loaded = False
        self._needs_table = False
        self._sources: dict[str, Pricing] = {}
        register_at_fork(self)
        if mode is True and self.load() is None:
            raise ConfigError(f"`usage.cost: true` needs the table of prices: {install_command('prices')}")

    def reset_after_fork(self) -> None:
        """Let a forked child load the table itself, in case the parent was loading it."""
        self._lock = new_lock()

    @property
    def ready(self) -> bool:
        """Whether a cost can be computed at once: the table is loaded, or no model needs it."""
        return self._is_loaded or not self._needs_table

    def price(self, model: ChatModelBase, entry_price: Pricing | None = None) -> Pricing | None:
        """Return the price of the provider *model*, or None; *entry_price*, set in its entry, takes precedence."""
        if self.mode is False:
            return None
        price: Pricing | None
        if entry_price is not None:
            price = entry_price
        elif model.kind == "scripted":
            price = FreePrice()
        else:
            price = _make_dashscope_price(model.model_name, model.address())
        if price is None and model.price_provider != "":
            self._needs_table = True
            provider = (model.price_provider or model.kind) if model.is_official() else None
            price = _TablePrice(self, provider, model.model_name, model.address())
        if price is not None:
            self._sources[model.name] = price
        return price

    def describe_source(self, model: str) -> str | None:
        """Return where the price of the entry *model* comes from: `pricing`, the table and its version, or None."""
        price = self._sources.get(model)
        if price is None or isinstance(price, _DashScopePrice | FreePrice | _TablePrice):
            return None if price is None else price.source
        return ENTRY_PRICING

    def load(self) -> _PriceTable | None:
        """Return the table, which is loaded at the first call, or None if it is not installed."""
        if not self._is_loaded:
            with self._lock:
                if not self._is_loaded:
                    self._table = _load_table()
                    self._is_loaded = True
        return self._table

    def load_in_background(self) -> None:
        """Load the table in the background."""
        if not self._is_loaded:
            threading.Thread(target=self.load, name="modelhub-prices", daemon=True).start()


class _TablePrice:
    """A price that is looked up in the table when it is first needed."""

    def __init__(self, book: PriceBook, provider: str | None, model_name: str, address: str | None) -> None:
        self._book = book
        self._lookup = provider, model_name, address
        self._model: Any = None
        self._was_looked_up = False
        self._rates: dict[int, TokenPrices | None] = {}

    @property
    def source(self) -> str | None:
        """The version of the table, or None if the table does not have the model."""
        table = self._book.load() if self._model is not None else None
        return table.version if table is not None else None

    def cost(self, usage: Mapping[str, Any], at: datetime | None = None) -> Decimal | None:
        """What *usage* costs by the table."""
        if not self._was_looked_up:
            table = self._book.load()
            self._model = table.find_model(*self._lookup) if table is not None else None
            self._was_looked_up = True
        if self._model is None:
            return None
        prices = self._model.get_prices(at or datetime.now(UTC))
        rates = self._rates.get(id(prices))
        if rates is None:  # the table never drops its prices, so an id identifies one
            rates = self._rates[id(prices)] = make_token_prices(vars(prices))
        return rates.cost(usage)


class _PriceTable(NamedTuple):
    snapshot: Any
    version: str

    def find_model(self, provider: str | None, model_name: str, address: str | None) -> Any:
        """Return the table's entry of the model at *provider*, or, if that is None, at *address*; None if unknown."""
        name = model_name.rpartition("models/")[2]  # Google's full names
        try:
            model = self.snapshot.find_provider_model(name, None, provider, None if provider else address)[1]
        except LookupError:
            return None
        # A fine-tuned model never has its base's price.
        return None if name.startswith("ft:") and not str(model.id).startswith("ft:") else model


def _load_table() -> _PriceTable | None:
    try:
        import genai_prices
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        _log.info("costs are unknown where an entry has no `pricing`: " + install_command("prices"))
        return None
    return _PriceTable(get_snapshot(), f"genai-prices {genai_prices.__version__}")


def make_token_prices(prices: Mapping[str, Any]) -> TokenPrices:
    def make_steps(key: str) -> tuple[_Step, ...]:
        price = prices.get(key)
        if price is None or isinstance(price, Decimal):
            return () if price is None else ((-1, price),)
        return ((-1, price.base), *((tier.start, tier.price) for tier in price.tiers))

    return TokenPrices(
        input=make_steps("input_mtok"),
        output=make_steps("output_mtok"),
        cache_read=make_steps("cache_read_mtok"),
        cache_write=make_steps("cache_write_mtok"),
        cache_write_1h=make_steps("cache_write_1h_mtok"),
        reasoning=make_steps("output_reasoning_mtok"),
        request=(prices.get("requests_kcount") or Decimal(0)) / _THOUSAND_REQUESTS,
    )
