"""The accounting of a hub, made from its configuration; modules of features that are not used are not imported."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelhub.accounting.ledger_location import LedgerLocation, parse_location
from modelhub.accounting.options import SpendingOptions, UsageOptions
from modelhub.accounting.prices import PriceBook
from modelhub.accounting.usage_tracker import UsageTracker
from modelhub.core.clock import Clock

if TYPE_CHECKING:
    from modelhub.accounting.budget import SpendingBudgets
    from modelhub.accounting.budget_store import BudgetStore
    from modelhub.accounting.database import LedgerDatabase
    from modelhub.accounting.ledger import Ledger
    from modelhub.accounting.shared_spend import SharedSpend
    from modelhub.core.context import Instrumentation

__all__ = ["Accounting", "find_ledger"]


def find_ledger(usage: UsageOptions, folder: Path) -> LedgerLocation | None:
    """Return where the ledger is, or None; a relative path is relative to *folder*, that of the configuration."""
    return parse_location(usage.ledger, folder) if usage.ledger is not None else None


class Accounting:
    """The prices, the budgets and the usage tracker of a hub.

    A relative path of the ledger is relative to *folder*. With *previous*, the accounting of the same hub before its
    configuration changed, what has not changed is taken over, and `take_over` completes that; until then *previous*
    is as it was. Raises ConfigError if prices are required but not installed.
    """

    def __init__(
        self,
        usage: UsageOptions,
        budgets: Mapping[str, SpendingOptions],
        *,
        folder: Path,
        clock: Clock,
        previous: Accounting | None = None,
        budget_store: BudgetStore | None = None,
    ) -> None:
        self._usage, self._budget_options, self._previous = usage, dict(budgets), previous
        self._budget_store = budget_store
        self.prices: PriceBook = (
            previous.prices if previous is not None and previous._usage.cost == usage.cost else PriceBook(usage.cost)
        )
        self._ledger = self._find_ledger(find_ledger(usage, folder))
        self._shared_spend = self._find_shared_spend(clock)
        self.budgets: SpendingBudgets | None = None
        if previous is not None and previous.budgets is not None and budgets:
            self.budgets = previous.budgets
        elif budgets:
            from modelhub.accounting.budget import SpendingBudgets

            self.budgets = SpendingBudgets(budgets, clock, self._shared_spend, budget_store)
        self.meter: UsageTracker = (
            UsageTracker(self.prices, self._ledger, self.budgets) if previous is None else previous.meter
        )
        self.instrumentations: tuple[Instrumentation, ...] = ()
        """What must see each call when it is made, for the ledger."""
        if self._ledger is not None:
            from modelhub.accounting.call_shape import record_shape

            self.instrumentations = (record_shape,)
        if previous is None:
            self._retire_with_meter()

    def take_over(self) -> None:
        """Replace the previous accounting: from now on, calls are counted and budgeted by this one."""
        previous, self._previous = self._previous, None
        if previous is None:
            return
        self.meter.reconfigure(self.prices, self._ledger, self.budgets)
        if self.budgets is not None:
            self.budgets.reconfigure(self._budget_options, self._shared_spend, self._budget_store)
        if previous._ledger is not self._ledger:
            self._retire_with_meter()
            if previous._ledger is not None:
                previous._ledger.retire()

    def _find_ledger(self, location: LedgerLocation | None) -> Ledger | None:
        """Return the ledger at *location*: the previous one, if its options are the same."""
        old = self._previous._ledger if self._previous is not None else None
        if location is None:
            return None
        from modelhub.accounting.ledger_reader import open_database

        if self._previous is None or old is None or old.database.location != location:
            return self._make_ledger(open_database(location))
        options = [(usage.batch, usage.max_delay) for usage in (self._usage, self._previous._usage)]
        if options[0] == options[1] and self.prices is self._previous.prices:
            return old
        ledger = self._make_ledger(old.database)
        ledger.continue_from(old)
        return ledger

    def _find_shared_spend(self, clock: Clock) -> SharedSpend | None:
        """Return what others have spent on the budgets: as it is if the budgets and the ledger are the same."""
        previous, budgets = self._previous, self._budget_options
        if self._ledger is None or not budgets:
            return None
        if (
            previous is not None
            and previous._ledger is self._ledger
            and previous._budget_options == budgets
            and previous._usage.refresh == self._usage.refresh
        ):
            return previous._shared_spend
        from modelhub.accounting.shared_spend import SharedSpend

        return SharedSpend(self._ledger.database, self._ledger.signature, budgets, clock, self._usage.refresh)

    def _retire_with_meter(self) -> None:
        if self._ledger is not None:
            weakref.finalize(self.meter, self._ledger.retire).atexit = False  # at exit, the ledger closes itself

    def _make_ledger(self, database: LedgerDatabase) -> Ledger:
        from modelhub.accounting.ledger import Ledger
        from modelhub.accounting.record import UsageRecord

        source, usage = self.prices.describe_source, self._usage
        return Ledger(database, usage.batch, usage.max_delay, lambda event: UsageRecord.from_event(event, source))
