"""Figures of the usage page as people read them, and text that cannot become markup."""

from __future__ import annotations

import html
from decimal import Decimal

from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import clean, money, took

__all__ = ["ABOUT", "cost", "dollars", "escaped", "percent", "seconds", "short"]

ABOUT = "≈"
"""Stands before what includes estimated figures."""
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


def escaped(text: str) -> str:
    """*text* from outside as a part of the page."""
    return html.escape(clean(text))


def short(number: float) -> str:
    """A count: 9,999, 12.3k, 4.56M."""
    if number < 9_999.5:
        return f"{number:,.0f}"
    size, unit = next((size, unit) for size, unit in _UNITS if number >= 0.9995 * size)
    return f"{_three(number / size)}{unit}"


def _three(number: float) -> str:
    """Three digits that say something."""
    text = f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds(time: float | None) -> str:
    """A measured time: 340 ms, 1.24 s, 12.3 s, 2 min 5 s."""
    if time is None:
        return "\N{EN DASH}"
    if time < 0.9995:
        return f"{time * 1000:.0f} ms" if time else "0"
    return f"{_three(time)} s" if time < 99.95 else took(time)


def dollars(amount: float | Decimal) -> str:
    """Dollars, short: $0.0018, $1.25, $12.3k."""
    return f"${short(float(amount))}" if amount >= 9_999 else money(Decimal(str(amount)))


def cost(total: UsageTotals) -> str:
    """What it cost, as far as it is known; what is not is never taken for nothing."""
    known = dollars(total.known_cost)
    if not total.unpriced:
        return known
    return f"{known} + unknown" if total.known_cost else "unknown"


def percent(part: int, whole: int) -> str:
    """A share: 0%, 0.4%, 12%, 100%; never a round 0 or 100 for what is not."""
    if not part or not whole:
        return "0%"
    share = 100 * part / whole
    if share < 0.1:
        return "<0.1%"
    if share < 9.95:
        return f"{share:.1f}%"
    return f"{min(share, 99 if part < whole else 100):.0f}%"
