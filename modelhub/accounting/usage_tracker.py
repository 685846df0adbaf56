"""The meter: hears of every settled call and keeps totals by model, chain and tag; `hub.usage`.

A call may be settled by the garbage collector, anywhere and in any thread, also in the midst of the code below. So
what comes in is put in a tray, which whoever holds the lock empties, and nobody who reports a call ever waits for it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from modelhub.accounting.health import Health
from modelhub.accounting.prices import PriceBook
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.core.events import CallEnded, Event
from modelhub.core.process import register_at_fork
from modelhub.core.record import Lazy
from modelhub.core.response import ChatUsage

if TYPE_CHECKING:
    from modelhub.accounting.budget import SpendingBudgets
    from modelhub.accounting.ledger import Ledger

__all__ = ["UsageTracker"]

_MOST_CELLS = 20_000  # combinations of chain, model and tags
OTHER = "(other)"
"""The value of tags that were not used for long, when there are too many."""
_MOST_DEFERRED = 1024  # costs that wait for the table of prices to be loaded

_log = logging.getLogger("modelhub")
_stored = dict.__getitem__  # what a record holds, without building what is built later
_Name = TypeVar("_Name", bound=Hashable)
Key = tuple[str, str | None, tuple[tuple[str, str], ...]]
Cells = list[tuple[Key, UsageTotals]]


class UsageTracker:
    """Totals of all calls of a hub, since it was made or since `reset`.

    *prices* says whether a cost can be worked out at once, *ledger* gets every call, *budgets* are shown. Safe to use
    from several threads. No more than 20 000 combinations of chain, model and tags are kept apart: beyond that, those
    that were not used for longest are counted together, as `by_tag["user"]["(other)"]`.
    """

    def __init__(self, prices: PriceBook, ledger: Ledger | None = None, budgets: SpendingBudgets | None = None) -> None:
        self._prices = prices
        self._ledger = ledger
        self._budgets = budgets
        self._lock = threading.Lock()
        self._tray: deque[CallEnded] = deque()
        self._cells: OrderedDict[Key, UsageTotals] = OrderedDict()
        self._deferred: list[tuple[Key, ChatUsage]] = []
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Forget in a forked child what the parent has counted."""
        self._lock = threading.Lock()
        self._tray, self._cells, self._deferred = deque(), OrderedDict(), []

    def __call__(self, event: Event) -> None:
        """Hear of *event*; everything but a settled call is passed over."""
        if not isinstance(event, CallEnded):
            return
        if self._ledger is not None:
            self._ledger.put(event)
        self._tray.append(event)
        if self._lock.acquire(blocking=False):
            try:
                self._drain_pending()
                self._price_what_can_be()
            except Exception:
                _log.exception("a call could not be counted")
            finally:
                self._lock.release()

    # -- what there is to see --------------------------------------------------------------------------------------

    @property
    def total(self) -> UsageTotals:
        """All calls together."""
        return _total(self._snapshot())

    @property
    def by_model(self) -> dict[str, UsageTotals]:
        """Calls by the model asked last, attempts by the model asked."""
        return _by_model(self._snapshot())

    @property
    def by_chain(self) -> dict[str, UsageTotals]:
        """By what was asked for: a chain, or a model by its own name."""
        return _by_chain(self._snapshot())

    @property
    def by_tag(self) -> dict[str, dict[str, UsageTotals]]:
        """By tag: `by_tag["user"]["42"]`."""
        return _by_tag(self._snapshot())

    @property
    def health(self) -> Health:
        """How the ledger is; without one, all is well."""
        return self._ledger.health if self._ledger is not None else Health()

    @property
    def budgets(self) -> list[dict[str, Any]]:
        """How far each budget is used."""
        return self._budgets.as_list() if self._budgets is not None else []

    def as_dict(self) -> dict[str, Any]:
        """All totals as JSON can hold them."""
        cells = self._snapshot()
        return {
            "total": _total(cells).as_dict(),
            "models": _plain(_by_model(cells)),
            "chains": _plain(_by_chain(cells)),
            "tags": {tag: _plain(values) for tag, values in _by_tag(cells).items()},
            "budgets": self.budgets,
            "ledger": self.health.as_dict(),
        }

    def reset(self) -> None:
        """Begin anew at nothing. The ledger and the budgets keep what they have."""
        with self._lock:
            self._drain_pending()
            self._cells = OrderedDict()
            self._deferred = []

    def flush(self) -> None:
        """Write to the ledger what has not been written yet; waits for it, a few seconds at most."""
        if self._ledger is not None:
            self._ledger.flush()

    async def aclose(self) -> None:
        """Flush, and let go of the ledger's file. What is settled later is written at once."""
        if self._ledger is None:
            return
        try:
            await asyncio.to_thread(self._ledger.close)
        except RuntimeError:  # the interpreter is ending, and starts no thread any more
            self._ledger.close()

    def close(self) -> None:
        """The same for code without an event loop; waits a few seconds at most."""
        if self._ledger is not None:
            self._ledger.close()

    def __repr__(self) -> str:
        total = self.total
        return f"<Meter: {total.calls} calls, {total.total_tokens} tokens>"

    # -- inside; all of it with the lock held ----------------------------------------------------------------------

    def _snapshot(self) -> Cells:
        if not self._prices.ready:
            self._prices.load()
        with self._lock:
            self._drain_pending()
            self._price_what_can_be()
            return [(key, dataclasses.replace(cell)) for key, cell in self._cells.items()]

    def _drain_pending(self) -> None:
        while self._tray:
            self._count(self._tray.popleft())

    def _count(self, event: CallEnded) -> None:
        tags = tuple(sorted(event.tags.items())) if event.tags else ()
        whole = self._cell((event.requested, event.model, tags))
        whole.calls += 1
        whole.failed += event.how == "failed"
        for attempt in event.attempts:
            if _stored(attempt, "skipped"):
                continue
            key = (event.requested, _stored(attempt, "model"), tags)
            self._cell(key).attempts += 1
            usage: ChatUsage | None = _stored(attempt, "usage")
            if usage is not None:
                self._count_usage(key, usage)

    def _count_usage(self, key: Key, usage: ChatUsage) -> None:
        cell = self._cell(key)
        cell.input_tokens += _stored(usage, "input_tokens")
        cell.output_tokens += _stored(usage, "output_tokens")
        cell.cache_read_tokens += _stored(usage, "cache_read_tokens")
        cell.cache_write_tokens += _stored(usage, "cache_write_tokens")
        cell.cache_write_1h_tokens += _stored(usage, "cache_write_1h_tokens")
        cell.reasoning_tokens += _stored(usage, "reasoning_tokens")
        cell.estimated += _stored(usage, "estimated")
        if type(_stored(usage, "cost")) is Lazy:
            self._deferred.append((key, usage))
        else:
            _count_cost(cell, usage)

    def _price_what_can_be(self) -> None:
        if self._prices.ready:
            while self._deferred:
                key, usage = self._deferred.pop()
                _count_cost(self._find_cell(key), usage)
        elif len(self._deferred) >= _MOST_DEFERRED:
            self._prices.warm()

    def _cell(self, key: Key) -> UsageTotals:
        cell = self._cells.get(key)
        if cell is None:
            if key[2] and len(self._cells) >= _MOST_CELLS:
                self._merge_oldest()
            cell = self._cells[key] = UsageTotals()
        elif key[2]:
            self._cells.move_to_end(key)
        return cell

    def _merge_oldest(self) -> None:
        """Count the tags that were not used for longest as `OTHER`."""
        oldest = next((key for key in self._cells if key[2] and key != _other(key)), None)
        if oldest is None:
            return
        merged = self._cells.pop(oldest)
        other = _other(oldest)
        if other not in self._cells and len(self._cells) >= _MOST_CELLS:
            other = (oldest[0], oldest[1], ())  # there are as many names of tags
        self._cells.setdefault(other, UsageTotals()).add(merged)

    def _find_cell(self, key: Key) -> UsageTotals:
        """The cell of *key*, or the one it was merged into meanwhile."""
        for known in (key, _other(key)):
            if known in self._cells:
                return self._cells[known]
        return self._cells.setdefault((key[0], key[1], ()), UsageTotals())


def _other(key: Key) -> Key:
    return key[0], key[1], tuple((name, OTHER) for name, _ in key[2])


def _count_cost(cell: UsageTotals, usage: ChatUsage) -> None:
    cost = usage.cost
    if cost is None:
        cell.unpriced += 1
    else:
        cell.known_cost += cost


def _merged(cells: Cells, names: Callable[[Key], Iterable[_Name]]) -> dict[_Name, UsageTotals]:
    found: dict[_Name, UsageTotals] = {}
    for key, cell in cells:
        for name in names(key):
            found.setdefault(name, UsageTotals()).add(cell)
    return found


def _total(cells: Cells) -> UsageTotals:
    return _merged(cells, lambda _: [""]).get("", UsageTotals())


def _by_model(cells: Cells) -> dict[str, UsageTotals]:
    return _merged(cells, lambda key: [] if key[1] is None else [key[1]])


def _by_chain(cells: Cells) -> dict[str, UsageTotals]:
    return _merged(cells, lambda key: [key[0]])


def _by_tag(cells: Cells) -> dict[str, dict[str, UsageTotals]]:
    found: dict[str, dict[str, UsageTotals]] = {}
    for (tag, value), total in _merged(cells, lambda key: key[2]).items():
        found.setdefault(tag, {})[value] = total
    return found


def _plain(totals: dict[str, UsageTotals]) -> dict[str, dict[str, Any]]:
    return {name: total.as_dict() for name, total in totals.items()}
