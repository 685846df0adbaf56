"""What others have spent of the budgets: every other hub and process that writes the same ledger, also those before us.

What is our own is counted in memory, from the call on; the ledger is asked for the rest, every few seconds and in the
background. Each hub signs what it writes, so nothing is counted on both sides, whether it is written yet or not. Only
what is new since the last reading is read: writers number their batches.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from modelhub.accounting.options import SpendingOptions
from modelhub.accounting.period import period
from modelhub.accounting.store import connect_for_reading, instant
from modelhub.core.clock import Clock

__all__ = ["Amount", "SharedSpend"]

_log = logging.getLogger("modelhub")
Amount = tuple[Decimal, int]
"""How much of a budget, in its own unit, and how many attempts of unknown cost."""
NOTHING: Amount = Decimal(0), 0
_FULL_RELOAD = -1  # as a batch: the next reading begins at the beginning

_TAG = "(SELECT value FROM json_each(c.tags) WHERE key = :tag)"
# What must be looked at first is said with signs and with CROSS: SQLite cannot know that little is new.
_SPENT = """SELECT {key} AS name, {amount}
FROM calls c CROSS JOIN attempts a ON a.call_id = c.call_id
WHERE {new} AND +c.at < :until AND c.writer <> :writer AND {where} GROUP BY name"""
_TOKENS = "SUM(a.input_tokens + a.output_tokens), 0"
_DOLLARS = "decimal_sum(a.cost), SUM(a.used AND a.cost IS NULL)"
_ALL = "c.at >= :since"
_NEW = "c.batch > :batch AND +c.at >= :since"


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the ledger said of one budget, in the period that began at `since`, up to the batch `batch`."""

    since: datetime
    batch: int
    amounts: Mapping[str, Amount]


class SharedSpend:
    """What others have spent of each of the *budgets*, as the file *ledger* told it last.

    The file is read when this is made, and by `refresh_if_due` once *refresh* seconds have passed. *writer* returns the
    signature of this hub. A file that cannot be read is logged, once, and what it said before holds on.
    """

    def __init__(
        self,
        ledger: Path,
        writer: Callable[[], str],
        budgets: Mapping[str, SpendingOptions],
        clock: Clock,
        refresh: float,
    ) -> None:
        self._path = ledger
        self._writer = writer
        self._budgets = budgets
        self._clock = clock
        self._refresh = refresh
        self._readings: dict[str, _Reading] = {}
        self._turn = threading.Lock()  # whose it is reads
        self._failing = False
        self._due = clock.now() + refresh
        self._read(clock.wall())

    def of(self, budget: str, account_key: str, starts: datetime) -> Amount:
        """What they have spent on the account *account_key* of *budget* in the period that *starts* then."""
        reading = self._readings.get(budget)
        return reading.amounts.get(account_key, NOTHING) if reading is not None and reading.since == starts else NOTHING

    def accounts(self, budget: str, starts: datetime) -> Iterable[str]:
        """Whose accounts of *budget* they have spent on."""
        reading = self._readings.get(budget)
        return tuple(reading.amounts) if reading is not None and reading.since == starts else ()

    def refresh_if_due(self) -> None:
        """Have the ledger read again if that is due; nobody waits for it."""
        if self._clock.now() < self._due or not self._turn.acquire(blocking=False):
            return
        self._due = self._clock.now() + self._refresh
        try:
            threading.Thread(
                target=self._read_in_turn, args=(self._clock.wall(),), name="modelhub-budgets", daemon=True
            ).start()
        except RuntimeError as error:  # the interpreter is ending, or has no room for a thread
            self._failed(error)
            self._turn.release()

    def take_over_after_fork(self, budget: str, at: datetime, amounts: Mapping[str, Amount]) -> None:
        """In the child of a fork: *amounts*, our own before, are the parent's, who writes them."""
        since, _ = period(self._budgets[budget].per, at)
        known = {account_key: self.of(budget, account_key, since) for account_key in self.accounts(budget, since)}
        self._readings[budget] = _Reading(since, _FULL_RELOAD, _summed(known, amounts))
        self._turn = threading.Lock()
        self._due = self._clock.now()

    # -- in a thread of its own ------------------------------------------------------------------------------------

    def _read_in_turn(self, at: datetime) -> None:
        try:
            self._read(at)
        finally:
            self._turn.release()

    def _read(self, at: datetime) -> None:
        try:
            if self._path.exists():
                with closing(connect_for_reading(self._path)) as connection:
                    self._readings = self._read_all(connection, at)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        else:
            if self._failing:
                self._failing = False
                _log.warning("the ledger %s can be read again", self._path)

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            how = "keep what it said of others before" if self._readings else "begin at nothing"
            _log.error("budgets %s: the ledger %s cannot be read: %s", how, self._path, error)

    def _read_all(self, connection: sqlite3.Connection, at: datetime) -> dict[str, _Reading]:
        connection.execute("BEGIN")  # all that follows sees the same file
        last: int = connection.execute("SELECT COALESCE(MAX(batch), 0) FROM calls").fetchone()[0]
        return {name: self._read_budget(connection, name, at, last) for name in self._budgets}

    def _read_budget(self, connection: sqlite3.Connection, name: str, at: datetime, last: int) -> _Reading:
        options, before = self._budgets[name], self._readings.get(name)
        since, until = period(options.per, at)
        if before is None or before.since != since or not 0 <= before.batch <= last:
            before = _Reading(since, _FULL_RELOAD, {})
        elif before.batch == last:
            return before
        times: dict[str, object] = {"since": instant(since), "until": instant(until)}
        values = times | {"batch": before.batch, "writer": self._writer()}
        rows = connection.execute(*_query(options, values, anew=before.batch == _FULL_RELOAD))
        new = {account_key: (Decimal(amount), unpriced) for account_key, amount, unpriced in rows}
        return _Reading(since, last, _summed(before.amounts, new))


def _query(options: SpendingOptions, values: dict[str, object], *, anew: bool) -> tuple[str, dict[str, object]]:
    """What asks for the calls that are on a budget, by the value of its tag, or "" if it has one account."""
    key, where = "''", "1"
    if options.tag is not None:
        tag, given, value = options.tag.partition("=")
        where = f"{_TAG} = :value" if given else f"{_TAG} IS NOT NULL"
        key = "''" if given else _TAG
        values |= {"tag": tag, "value": value}
    elif options.model is not None:
        where, values["value"] = "a.model = :value", options.model
    elif options.chain is not None:
        where, values["value"] = "c.requested = :value", options.chain
    amount = _TOKENS if options.usd is None else _DOLLARS
    return _SPENT.format(key=key, amount=amount, new=_ALL if anew else _NEW, where=where), values


def _summed(some: Mapping[str, Amount], more: Mapping[str, Amount]) -> Mapping[str, Amount]:
    total = dict(some)
    for account_key, (amount, unpriced) in more.items():
        known, unknown = total.get(account_key, NOTHING)
        total[account_key] = known + amount, unknown + unpriced
    return total
