"""What other hubs and processes that write the same ledger have spent on the budgets, earlier ones included.

This hub's own calls are counted in memory as they happen; those of others are read from the ledger, every few seconds,
in the background. Each hub signs its rows, so that no call is counted twice. Batches of rows are numbered, so that only
new ones are read.
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
from modelhub.accounting.period import find_period
from modelhub.accounting.store import connect_for_reading, format_time
from modelhub.core.clock import Clock

__all__ = ["Amount", "SharedSpend"]

_log = logging.getLogger("modelhub")
Amount = tuple[Decimal, int]
"""An amount in the budget's unit, and the number of attempts with unknown cost."""
ZERO_AMOUNT: Amount = Decimal(0), 0
_FULL_RELOAD = -1  # as a batch number: the next reading includes all rows

_TAG_VALUE = "(SELECT value FROM json_each(c.tags) WHERE key = :tag)"
# The unary `+` and CROSS fix the query plan: SQLite cannot know that few rows are new.
_SPENT_QUERY = """SELECT {key} AS name, {amount}
FROM calls c CROSS JOIN attempts a ON a.call_id = c.call_id
WHERE {new} AND +c.at < :until AND c.writer <> :writer AND {where} GROUP BY name"""
_TOKENS_SUM = "SUM(a.input_tokens + a.output_tokens), 0"
_COST_SUM = "decimal_sum(a.cost), SUM(a.used AND a.cost IS NULL)"
_SINCE_START = "c.at >= :since"
_SINCE_BATCH = "c.batch > :batch AND +c.at >= :since"


@dataclass(frozen=True, slots=True)
class _Reading:
    """The amounts of one budget by account, for the period that starts at `since`, up to the batch number `batch`."""

    since: datetime
    batch: int
    amounts: Mapping[str, Amount]


class SharedSpend:
    """What others have spent on each of the *budgets*, as last read from the file *ledger*.

    The file is read at once, and by `refresh_if_due` when *refresh* seconds have passed. *writer* returns the signature
    of this hub. If the file cannot be read, that is logged once, and the last amounts remain valid.
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
        self._read_lock = threading.Lock()  # held while the ledger is read
        self._failing = False
        self._due = clock.now() + refresh
        self._read(clock.wall())

    def get_spent(self, budget: str, account_key: str, starts: datetime) -> Amount:
        """Return what others have spent on an account of *budget* in the period that begins at *starts*."""
        reading = self._readings.get(budget)
        return (
            reading.amounts.get(account_key, ZERO_AMOUNT)
            if reading is not None and reading.since == starts
            else ZERO_AMOUNT
        )

    def list_accounts(self, budget: str, starts: datetime) -> Iterable[str]:
        """Return the keys of the accounts of *budget* that others have spent on in that period."""
        reading = self._readings.get(budget)
        return tuple(reading.amounts) if reading is not None and reading.since == starts else ()

    def refresh_if_due(self) -> None:
        """Start reading the ledger in the background, if that is due."""
        if self._clock.now() < self._due or not self._read_lock.acquire(blocking=False):
            return
        self._due = self._clock.now() + self._refresh
        try:
            threading.Thread(
                target=self._read_in_turn, args=(self._clock.wall(),), name="modelhub-budgets", daemon=True
            ).start()
        except RuntimeError as error:  # the interpreter is shutting down, or cannot start a thread
            self._log_failure(error)
            self._read_lock.release()

    def take_over_after_fork(self, budget: str, at: datetime, amounts: Mapping[str, Amount]) -> None:
        """Count *amounts* as spent by others: in a forked child, they are the parent's, which writes them."""
        since, _ = find_period(self._budgets[budget].per, at)
        others = {
            account_key: self.get_spent(budget, account_key, since) for account_key in self.list_accounts(budget, since)
        }
        self._readings[budget] = _Reading(since, _FULL_RELOAD, _add_amounts(others, amounts))
        self._read_lock = threading.Lock()
        self._due = self._clock.now()

    # -- in a background thread ------------------------------------------------------------------------------------

    def _read_in_turn(self, at: datetime) -> None:
        try:
            self._read(at)
        finally:
            self._read_lock.release()

    def _read(self, at: datetime) -> None:
        try:
            if self._path.exists():
                with closing(connect_for_reading(self._path)) as connection:
                    self._readings = self._read_all(connection, at)
        except (sqlite3.Error, OSError) as error:
            self._log_failure(error)
        else:
            if self._failing:
                self._failing = False
                _log.warning("the ledger %s can be read again", self._path)

    def _log_failure(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            consequence = "keep the last known spending of other processes" if self._readings else "start at zero"
            _log.error("budgets %s: the ledger %s cannot be read: %s", consequence, self._path, error)

    def _read_all(self, connection: sqlite3.Connection, at: datetime) -> dict[str, _Reading]:
        connection.execute("BEGIN")  # all queries see the same state of the file
        last: int = connection.execute("SELECT COALESCE(MAX(batch), 0) FROM calls").fetchone()[0]
        return {name: self._read_budget(connection, name, at, last) for name in self._budgets}

    def _read_budget(self, connection: sqlite3.Connection, name: str, at: datetime, last: int) -> _Reading:
        options, before = self._budgets[name], self._readings.get(name)
        since, until = find_period(options.per, at)
        if before is None or before.since != since or not 0 <= before.batch <= last:
            before = _Reading(since, _FULL_RELOAD, {})
        elif before.batch == last:
            return before
        times: dict[str, object] = {"since": format_time(since), "until": format_time(until)}
        values = times | {"batch": before.batch, "writer": self._writer()}
        rows = connection.execute(*_make_query(options, values, reload=before.batch == _FULL_RELOAD))
        new = {account_key: (Decimal(amount), unpriced) for account_key, amount, unpriced in rows}
        return _Reading(since, last, _add_amounts(before.amounts, new))


def _make_query(options: SpendingOptions, values: dict[str, object], *, reload: bool) -> tuple[str, dict[str, object]]:
    """Return the SQL query, and its values, for the amounts of a budget by account key."""
    key, where = "''", "1"
    if options.tag is not None:
        tag, has_value, value = options.tag.partition("=")
        where = f"{_TAG_VALUE} = :value" if has_value else f"{_TAG_VALUE} IS NOT NULL"
        key = "''" if has_value else _TAG_VALUE
        values |= {"tag": tag, "value": value}
    elif options.model is not None:
        where, values["value"] = "a.model = :value", options.model
    elif options.chain is not None:
        where, values["value"] = "c.requested = :value", options.chain
    amount = _TOKENS_SUM if options.usd is None else _COST_SUM
    return _SPENT_QUERY.format(
        key=key, amount=amount, new=_SINCE_START if reload else _SINCE_BATCH, where=where
    ), values


def _add_amounts(first: Mapping[str, Amount], second: Mapping[str, Amount]) -> Mapping[str, Amount]:
    total = dict(first)
    for account_key, (amount, unpriced) in second.items():
        amount_so_far, unpriced_so_far = total.get(account_key, ZERO_AMOUNT)
        total[account_key] = amount_so_far + amount, unpriced_so_far + unpriced
    return total
