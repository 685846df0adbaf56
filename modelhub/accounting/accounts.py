"""Everything of accounting that a hub has, made from what its file says."""

from __future__ import annotations

import logging
import sqlite3
import weakref
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from modelhub.accounting.budget import Budgets
from modelhub.accounting.ledger import Ledger
from modelhub.accounting.meter import Meter
from modelhub.accounting.options import SpendingOptions, UsageOptions
from modelhub.accounting.prices import PriceBook
from modelhub.accounting.record import UsageRecord
from modelhub.accounting.report import spent

__all__ = ["Accounts", "ledger_path"]

_log = logging.getLogger("modelhub")


def ledger_path(usage: UsageOptions, folder: Path) -> Path | None:
    """Where the ledger is, if there is one; *folder* is that of the file."""
    return folder / Path(usage.ledger).expanduser() if usage.ledger is not None else None


class Accounts:
    """The prices, the budgets and the meter of a hub.

    *folder* is where a ledger without an absolute path lies, *now* the hour. Raises ConfigError if prices are wanted
    and cannot be had.
    """

    def __init__(
        self, usage: UsageOptions, budgets: Mapping[str, SpendingOptions], *, folder: Path, now: datetime
    ) -> None:
        self.prices = PriceBook(usage.cost)
        path = ledger_path(usage, folder)
        self.budgets = Budgets(budgets, now, None if path is None else _Restored(path)) if budgets else None
        ledger = None
        if path is not None:
            source = self.prices.source
            ledger = Ledger(path, usage.batch, usage.max_delay, lambda event: UsageRecord.of(event, source))
        self.meter = Meter(self.prices, ledger, self.budgets)
        if ledger is not None:
            weakref.finalize(self.meter, ledger.close)  # at exit, or when nobody can be called any more

    @property
    def state(self) -> dict[Any, Any]:
        """What the layers of all models share."""
        return {"prices": self.prices} | ({} if self.budgets is None else {"budgets": self.budgets})


class _Restored:
    """What the ledger at *path* says was spent; a ledger that cannot be read says nothing, and that is logged."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, options: SpendingOptions, since: datetime) -> Mapping[str, tuple[Decimal, int, int]]:
        try:
            return spent(self._path, options, since)
        except (sqlite3.Error, OSError) as error:
            _log.error("budgets begin at nothing: the ledger %s cannot be read: %s", self._path, error)
            return {}
