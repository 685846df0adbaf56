"""Everything of accounting that a hub has, made from what its file says: what the file does not name is not loaded."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelhub.accounting.options import SpendingOptions, UsageOptions
from modelhub.accounting.prices import PriceBook
from modelhub.accounting.usage_tracker import UsageTracker
from modelhub.core.clock import Clock

if TYPE_CHECKING:
    from modelhub.accounting.budget import SpendingBudgets
    from modelhub.accounting.ledger import Ledger

__all__ = ["Accounting", "ledger_path"]


def ledger_path(usage: UsageOptions, folder: Path) -> Path | None:
    """Where the ledger is, if there is one; *folder* is that of the file."""
    return folder / Path(usage.ledger).expanduser() if usage.ledger is not None else None


class Accounting:
    """The prices, the budgets and the meter of a hub.

    *folder* is where a ledger without an absolute path lies. Raises ConfigError if prices are wanted and cannot be had.
    """

    def __init__(
        self, usage: UsageOptions, budgets: Mapping[str, SpendingOptions], *, folder: Path, clock: Clock
    ) -> None:
        self.prices = PriceBook(usage.cost)
        path = ledger_path(usage, folder)
        ledger = None if path is None else self._ledger(path, usage)
        self.budgets = _budgets(budgets, usage, ledger, clock) if budgets else None
        self.meter = UsageTracker(self.prices, ledger, self.budgets)
        if ledger is not None:
            weakref.finalize(self.meter, ledger.retire).atexit = False  # the end of the process closes it itself

    def _ledger(self, path: Path, usage: UsageOptions) -> Ledger:
        from modelhub.accounting.ledger import Ledger
        from modelhub.accounting.record import UsageRecord

        source = self.prices.source
        return Ledger(path, usage.batch, usage.max_delay, lambda event: UsageRecord.of(event, source))


def _budgets(
    budgets: Mapping[str, SpendingOptions], usage: UsageOptions, ledger: Ledger | None, clock: Clock
) -> SpendingBudgets:
    from modelhub.accounting.budget import SpendingBudgets
    from modelhub.accounting.shared_spend import SharedSpend

    shared_spend = None if ledger is None else SharedSpend(ledger.path, ledger.signature, budgets, clock, usage.refresh)
    return SpendingBudgets(budgets, clock, shared_spend)
