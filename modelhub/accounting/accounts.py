"""Everything of accounting that a hub has, made from what its file says."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelhub.accounting.budget import Budgets
from modelhub.accounting.ledger import Ledger
from modelhub.accounting.meter import Meter
from modelhub.accounting.options import SpendingOptions, UsageOptions
from modelhub.accounting.others import Others
from modelhub.accounting.prices import PriceBook
from modelhub.accounting.record import UsageRecord
from modelhub.clock import Clock

__all__ = ["Accounts", "ledger_path"]


def ledger_path(usage: UsageOptions, folder: Path) -> Path | None:
    """Where the ledger is, if there is one; *folder* is that of the file."""
    return folder / Path(usage.ledger).expanduser() if usage.ledger is not None else None


class Accounts:
    """The prices, the budgets and the meter of a hub.

    *folder* is where a ledger without an absolute path lies. Raises ConfigError if prices are wanted and cannot be had.
    """

    def __init__(
        self, usage: UsageOptions, budgets: Mapping[str, SpendingOptions], *, folder: Path, clock: Clock
    ) -> None:
        self.prices = PriceBook(usage.cost)
        path = ledger_path(usage, folder)
        ledger = others = None
        if path is not None:
            source = self.prices.source
            ledger = Ledger(path, usage.batch, usage.max_delay, lambda event: UsageRecord.of(event, source), clock)
            if budgets:
                others = Others(path, ledger.signature, budgets, clock, usage.refresh)
        self.budgets = Budgets(budgets, clock, others) if budgets else None
        self.meter = Meter(self.prices, ledger, self.budgets)
        if ledger is not None:
            weakref.finalize(self.meter, ledger.close)  # at exit, or when nobody can be called any more

    @property
    def state(self) -> dict[Any, Any]:
        """What the layers of all models share."""
        return {"prices": self.prices} | ({} if self.budgets is None else {"budgets": self.budgets})
