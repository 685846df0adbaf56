"""The accounting of a hub, made from its configuration; modules of features that are not used are not imported."""

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
    from modelhub.core.context import Instrumentation

__all__ = ["Accounting", "find_ledger"]


def find_ledger(usage: UsageOptions, folder: Path) -> Path | None:
    """Return the path of the ledger, or None; a relative path is relative to *folder*, that of the configuration."""
    return folder / Path(usage.ledger).expanduser() if usage.ledger is not None else None


class Accounting:
    """The prices, the budgets and the usage tracker of a hub.

    A relative path of the ledger is relative to *folder*. Raises ConfigError if prices are required but not installed.
    """

    def __init__(
        self, usage: UsageOptions, budgets: Mapping[str, SpendingOptions], *, folder: Path, clock: Clock
    ) -> None:
        self.prices = PriceBook(usage.cost)
        path = find_ledger(usage, folder)
        ledger = None if path is None else self._make_ledger(path, usage)
        self.budgets = _make_budgets(budgets, usage, ledger, clock) if budgets else None
        self.meter = UsageTracker(self.prices, ledger, self.budgets)
        self.instrumentations = () if ledger is None else (_import_shapes(),)
        """What must see each call when it is made, for the ledger."""
        if ledger is not None:
            weakref.finalize(self.meter, ledger.retire).atexit = False  # at exit, the ledger closes itself

    def _make_ledger(self, path: Path, usage: UsageOptions) -> Ledger:
        from modelhub.accounting.ledger import Ledger
        from modelhub.accounting.record import UsageRecord

        source = self.prices.describe_source
        return Ledger(path, usage.batch, usage.max_delay, lambda event: UsageRecord.from_event(event, source))


def _import_shapes() -> Instrumentation:
    from modelhub.accounting.call_shape import record_shape

    return record_shape


def _make_budgets(
    budgets: Mapping[str, SpendingOptions], usage: UsageOptions, ledger: Ledger | None, clock: Clock
) -> SpendingBudgets:
    from modelhub.accounting.budget import SpendingBudgets
    from modelhub.accounting.shared_spend import SharedSpend

    shared_spend = None if ledger is None else SharedSpend(ledger.path, ledger.signature, budgets, clock, usage.refresh)
    return SpendingBudgets(budgets, clock, shared_spend)
