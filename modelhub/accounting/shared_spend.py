"""What other hubs and processes that write the same ledger have spent on the budgets, earlier ones included.

This hub's own calls are counted in memory as they happen; those of others are read from the ledger, every few seconds,
in the background. Each hub signs its rows, so that no call is counted twice. Batches of rows are numbered, so that only
new ones are read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from modelhub.accounting.database import LedgerDatabase
from modelhub.accounting.ledger_location import LedgerError
from modelhub.accounting.ledger_reader import LedgerReader, open_ledger
from modelhub.accounting.options import SpendingOptions, find_period
from modelhub.accounting.spending import Amount, Selection, read_last_batch, sum_spending
from modelhub.core.clock import Clock

__all__ = ["SharedSpend"]

_log = logging.getLogger("modelhub")
_NOTHING: Amount = Decimal(0), 0
_FULL_RELOAD = -1  # as a batch number: the next reading includes all rows


@dataclass(frozen=True, slots=True)
class _Reading:
    """The amounts of one budget by account, for the period that starts at `since`, up to the batch number `batch`."""

    since: datetime
    batch: int
    amounts: Mapping[str, Amount]


class SharedSpend:
    """What others have spent on each of the *budgets*, as last read from the ledger in *database*.

    It is read at once, and by `refresh_if_due` when *refresh* seconds have passed. *writer* returns the signature of
    this hub. If the ledger cannot be read, that is logged once, and the last amounts remain valid.
    """

    def __init__(
        self,
        database: LedgerDatabase,
        writer: Callable[[], str],
        budgets: Mapping[str, SpendingOptions],
        clock: Clock,
        refresh: float,
    ) -> None:
        self._database = database
        self._writer = writer
        self._budgets = budgets
        self.clock = clock
        self._refresh = refresh
        self._readings: dict[str, _Reading] = {}
        self.read_lock = threading.Lock()  # held while the ledger is read
        self._failing = False
        self.due = clock.now() + refresh
        self._read(clock.wall())

    def get_spent(self, budget: str, account_key: str, starts: datetime) -> Amount:
        """Return what others have spent on an account of *budget* in the period that begins at *starts*."""
        reading = self._readings.get(budget)
        if reading is None or reading.since != starts:
            return _NOTHING
        return reading.amounts.get(account_key, _NOTHING)

    def list_accounts(self, budget: str, starts: datetime) -> Iterable[str]:
        """Return the keys of the accounts of *budget* that others have spent on in that period."""
        reading = self._readings.get(budget)
        return tuple(reading.amounts) if reading is not None and reading.since == starts else ()

    def refresh_if_due(self) -> None:
        """Start reading the ledger in the background, if that is due."""
        if self.clock.now() < self.due or not self.read_lock.acquire(blocking=False):
            return
        self.due = self.clock.now() + self._refresh
        try:
            threading.Thread(
                target=self._read_in_turn, args=(self.clock.wall(),), name="modelhub-budgets", daemon=True
            ).start()
        except RuntimeError as error:  # the interpreter is shutting down, or cannot start a thread
            self._log_failure(error)
            self.read_lock.release()

    def take_over_after_fork(self, budget: str, at: datetime, amounts: Mapping[str, Amount]) -> None:
        """Count *amounts* as spent by others: in a forked child, they are the parent's, which writes them."""
        since, _ = find_period(self._budgets[budget].per, at)
        others = {
            account_key: self.get_spent(budget, account_key, since) for account_key in self.list_accounts(budget, since)
        }
        self._readings[budget] = _Reading(since, _FULL_RELOAD, _add_amounts(others, amounts))
        self.read_lock = threading.Lock()
        self.due = self.clock.now()

    # -- in a background thread ------------------------------------------------------------------------------------

    def _read_in_turn(self, at: datetime) -> None:
        try:
            self._read(at)
        finally:
            self.read_lock.release()

    def _read(self, at: datetime) -> None:
        try:
            if self._database.location.exists():
                with open_ledger(self._database) as ledger:
                    last = read_last_batch(ledger)
                    self._readings = {name: self._read_budget(ledger, name, at, last) for name in self._budgets}
        except (LedgerError, OSError) as error:
            self._log_failure(error)
        else:
            if self._failing:
                self._failing = False
                _log.warning("the ledger %s can be read again", self._database.location)

    def _log_failure(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            consequence = "keep the last known spending of other processes" if self._readings else "start at zero"
            _log.error("budgets %s: the ledger %s cannot be read: %s", consequence, self._database.location, error)

    def _read_budget(self, ledger: LedgerReader, name: str, at: datetime, last: int) -> _Reading:
        options, before = self._budgets[name], self._readings.get(name)
        since, until = find_period(options.per, at)
        if before is None or before.since != since or not 0 <= before.batch <= last:
            before = _Reading(since, _FULL_RELOAD, {})
        elif before.batch == last:
            return before
        after_batch = None if before.batch == _FULL_RELOAD else before.batch
        new = sum_spending(ledger, options, Selection(since, until, after_batch, self._writer()))
        return _Reading(since, last, _add_amounts(before.amounts, new))


def _add_amounts(first: Mapping[str, Amount], second: Mapping[str, Amount]) -> Mapping[str, Amount]:
    total = dict(first)
    for account_key, (amount, unpriced) in second.items():
        amount_so_far, unpriced_so_far = total.get(account_key, _NOTHING)
        total[account_key] = amount_so_far + amount, unpriced_so_far + unpriced
    return total
