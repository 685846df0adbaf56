"""Usage totals by model, chain and tag, `hub.usage`: an observer that counts every finished call."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from modelhub.accounting.health import Health
from modelhub.accounting.prices import PriceBook
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.core.completions import run_completions
from modelhub.core.events import CallEnded, Event
from modelhub.core.process import register_at_fork
from modelhub.core.record import Lazy
from modelhub.core.response import ChatUsage
from modelhub.core.threads import new_lock

if TYPE_CHECKING:
    from modelhub.accounting.budget import SpendingBudgets
    from modelhub.accounting.ledger import Ledger

__all__ = ["UsageTracker"]

MAX_CELLS = 20_000  # combinations of chain, model and tags
OTHER_TAG = "(other)"
"""The value under which the least recently used values of a tag are merged when there are too many."""
_MAX_DEFERRED = 1024  # costs that wait for the table of prices to be loaded

_get_stored = dict.__getitem__  # reads a field of a record without computing lazy values
Key = tuple[str, str | None, tuple[tuple[str, str], ...]]
Cells = list[tuple[Key, UsageTotals]]


class UsageTracker:
    """Totals of all calls of a hub, since it was made or since `reset`.

    *ledger* gets every finished call; *prices* and *budgets* are used to compute costs and to show the budgets' state.
    Safe to use from several threads. At most 20,000 combinations of chain, model and tags are kept: beyond that, the
    least recently used ones are merged, as `by_tag["user"]["(other)"]`.
    """

    def __init__(self, prices: PriceBook, ledger: Ledger | None = None, budgets: SpendingBudgets | None = None) -> None:
        self.prices = prices
        self.ledger = ledger
        self.spending_budgets = budgets
        self._lock = new_lock()
        self._cells: OrderedDict[Key, UsageTotals] = OrderedDict()
        self._deferred: list[tuple[Key, ChatUsage]] = []
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Drop the parent's totals in a forked child."""
        self._lock = new_lock()
        self._cells, self._deferred = OrderedDict(), []

    def reconfigure(self, prices: PriceBook, ledger: Ledger | None, budgets: SpendingBudgets | None) -> None:
        """Count the calls that end from now on with these; the totals go on."""
        self.prices, self.ledger, self.spending_budgets = prices, ledger, budgets

    def __call__(self, event: Event) -> None:
        """Count the call that ended with *event*; other events are ignored."""
        if not isinstance(event, CallEnded):
            return
        if self.ledger is not None:
            self.ledger.put(event)
        with self._lock:
            self._count_call(event)
            self._price_deferred()

    # -- reading --------------------------------------------------------------------------------------

    @property
    def total(self) -> UsageTotals:
        """The totals of all calls."""
        return _group_cells(self._snapshot()).total

    @property
    def by_model(self) -> dict[str, UsageTotals]:
        """Totals by model: calls by the model of their last attempt, attempts by their own."""
        return _group_cells(self._snapshot()).by_model

    @property
    def by_chain(self) -> dict[str, UsageTotals]:
        """Totals by the name that was called: a chain, or a model by its own name."""
        return _group_cells(self._snapshot()).by_chain

    @property
    def by_tag(self) -> dict[str, dict[str, UsageTotals]]:
        """Totals by tag and value: `by_tag["user"]["42"]`."""
        return _group_cells(self._snapshot()).by_tag

    @property
    def health(self) -> Health:
        """The state of the ledger; `ok` if there is none."""
        return self.ledger.health if self.ledger is not None else Health()

    @property
    def budgets(self) -> list[dict[str, Any]]:
        """The state of each budget: limit, spent, held, left, and when it resets."""
        return self.spending_budgets.as_list() if self.spending_budgets is not None else []

    def as_dict(self) -> dict[str, Any]:
        """Return all totals as a JSON-compatible dict."""
        groups = _group_cells(self._snapshot())
        return {
            "total": groups.total.as_dict(),
            "models": _convert_totals(groups.by_model),
            "chains": _convert_totals(groups.by_chain),
            "tags": {tag: _convert_totals(values) for tag, values in groups.by_tag.items()},
            "budgets": self.budgets,
            "ledger": self.health.as_dict(),
        }

    def reset(self) -> None:
        """Set all totals to zero. The ledger and the budgets are not changed."""
        run_completions()
        with self._lock:
            self._cells = OrderedDict()
            self._deferred = []

    def flush(self) -> None:
        """Write all pending calls to the ledger; waits a few seconds at most."""
        if self.ledger is not None:
            self.ledger.flush()

    async def aclose(self) -> None:
        """Flush, and close the ledger's file. A call that ends later is written at once."""
        if self.ledger is None:
            return
        try:
            await asyncio.to_thread(self.ledger.close)
        except RuntimeError:  # the interpreter is shutting down, and starts no more threads
            self.ledger.close()

    def close(self) -> None:
        """Close the ledger as `aclose` does, from code without an event loop; waits a few seconds at most."""
        if self.ledger is not None:
            self.ledger.close()

    def __repr__(self) -> str:
        total = self.total
        return f"<UsageTracker: {total.calls} calls, {total.total_tokens} tokens>"

    # -- counting, with the lock held ----------------------------------------------------------------------

    def _snapshot(self) -> Cells:
        if not self.prices.ready:
            self.prices.load()
        run_completions()
        with self._lock:
            self._price_deferred()
            return [(key, dataclasses.replace(cell)) for key, cell in self._cells.items()]

    def _count_call(self, event: CallEnded) -> None:
        tags = tuple(sorted(event.tags.items())) if event.tags else ()
        call_cell = self._get_cell((event.requested, event.model, tags))
        call_cell.calls += 1
        call_cell.failed += event.how == "failed"
        for attempt in event.attempts:
            if _get_stored(attempt, "skipped"):
                continue
            key = (event.requested, _get_stored(attempt, "model"), tags)
            cell = self._get_cell(key)
            cell.attempts += 1
            usage: ChatUsage | None = _get_stored(attempt, "usage")
            if usage is None:
                continue
            cell.input_tokens += _get_stored(usage, "input_tokens")
            cell.output_tokens += _get_stored(usage, "output_tokens")
            cell.cache_read_tokens += _get_stored(usage, "cache_read_tokens")
            cell.cache_write_tokens += _get_stored(usage, "cache_write_tokens")
            cell.cache_write_1h_tokens += _get_stored(usage, "cache_write_1h_tokens")
            cell.reasoning_tokens += _get_stored(usage, "reasoning_tokens")
            cell.estimated += _get_stored(usage, "estimated")
            if type(_get_stored(usage, "cost")) is Lazy:
                self._deferred.append((key, usage))
            else:
                _count_cost(cell, usage)

    def _price_deferred(self) -> None:
        if self.prices.ready:
            while self._deferred:
                key, usage = self._deferred.pop()
                cell = self._cells.get(key) or self._cells.get(_make_other_key(key))  # it may be merged meanwhile
                if cell is None:
                    cell = self._cells.setdefault((key[0], key[1], ()), UsageTotals())
                _count_cost(cell, usage)
        elif len(self._deferred) >= _MAX_DEFERRED:
            self.prices.load_in_background()

    def _get_cell(self, key: Key) -> UsageTotals:
        cell = self._cells.get(key)
        if cell is None:
            if key[2] and len(self._cells) >= MAX_CELLS:
                self._merge_oldest()
            cell = self._cells[key] = UsageTotals()
        elif key[2]:
            self._cells.move_to_end(key)
        return cell

    def _merge_oldest(self) -> None:
        """Merge the least recently used values of tags into `OTHER_TAG`."""
        oldest = next((key for key in self._cells if key[2] and key != _make_other_key(key)), None)
        if oldest is None:
            return
        merged = self._cells.pop(oldest)
        other = _make_other_key(oldest)
        if other not in self._cells and len(self._cells) >= MAX_CELLS:
            other = (oldest[0], oldest[1], ())  # too many different names of tags
        self._cells.setdefault(other, UsageTotals()).add(merged)


def _make_other_key(key: Key) -> Key:
    return key[0], key[1], tuple((name, OTHER_TAG) for name, _ in key[2])


def _count_cost(cell: UsageTotals, usage: ChatUsage) -> None:
    cost = usage.cost
    if cost is None:
        cell.unpriced += 1
    else:
        cell.known_cost += cost


class _Groups(NamedTuple):
    """Totals of all calls, by model, by the name that was called, and by tag and value."""

    total: UsageTotals
    by_model: dict[str, UsageTotals]
    by_chain: dict[str, UsageTotals]
    by_tag: dict[str, dict[str, UsageTotals]]


def _group_cells(cells: Cells) -> _Groups:
    groups = _Groups(UsageTotals(), {}, {}, {})
    for (chain, model, tags), cell in cells:
        groups.total.add(cell)
        groups.by_chain.setdefault(chain, UsageTotals()).add(cell)
        if model is not None:
            groups.by_model.setdefault(model, UsageTotals()).add(cell)
        for tag, value in tags:
            groups.by_tag.setdefault(tag, {}).setdefault(value, UsageTotals()).add(cell)
    return groups


def _convert_totals(totals: dict[str, UsageTotals]) -> dict[str, dict[str, Any]]:
    return {name: total.as_dict() for name, total in totals.items()}
