"""How much of the input of recent calls came from prompt caches, from the ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from modelhub.cli.output import show_waiting

if TYPE_CHECKING:
    from modelhub.accounting.usage_totals import UsageTotals
    from modelhub.config.load import Loaded

__all__ = ["CACHE_DAYS", "read_cache_totals"]

CACHE_DAYS = 7
"""The number of days that are looked at."""


def read_cache_totals(loaded: Loaded, name: str) -> dict[str, UsageTotals]:
    """Return the totals of the calls to *name* in the last `CACHE_DAYS` days, by model; {} if they are not known.

    Only a ledger in a file is read, and one that cannot be read counts as empty: `modelhub usage` says what is wrong.
    """
    from modelhub.accounting.accounting import find_ledger

    location = find_ledger(loaded.config.usage, Path(loaded.file).parent)
    if location is None or location.path is None or not location.exists():
        return {}
    from modelhub.accounting.location import LedgerError
    from modelhub.accounting.report import query_report

    since = datetime.now(UTC) - timedelta(days=CACHE_DAYS)
    try:
        with show_waiting(f"reading {location}"):
            totals = query_report(location, since, "model", only={"chain": name})
    except LedgerError:
        return {}
    return {model: total for model, total in totals.items() if model and total.input_tokens}
