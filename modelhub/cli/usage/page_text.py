"""Format numbers and escape text for the usage page."""

from __future__ import annotations

import html
from decimal import Decimal

from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import escape_controls, format_cost, format_duration

__all__ = [
    "APPROX",
    "UNKNOWN_MARK",
    "format_cost_total",
    "format_dollars",
    "escape_markup",
    "format_percent",
    "format_seconds",
    "format_short",
    "mark_estimate",
]

APPROX = "≈"
"""The prefix of totals that include estimates."""
UNKNOWN_MARK = '<em class="unknown">unknown</em>'
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


def escape_markup(text: str) -> str:
    """Escape *text* from outside for HTML."""
    return html.escape(escape_controls(text))


def format_short(number: float) -> str:
    """Format a count: 9,999, 12.3k, 4.56M."""
    if number < 9_999.5:
        return f"{number:,.0f}"
    size, unit = next((size, unit) for size, unit in _UNITS if number >= 0.9995 * size)
    return f"{_format_digits(number / size)}{unit}"


def _format_digits(number: float) -> str:
    """Format *number* with three significant digits."""
    text = f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_seconds(time: float | None) -> str:
    """Format a measured time in seconds: 340 ms, 1.24 s, 12.3 s, 2 min 5 s."""
    if time is None:
        return "\N{EN DASH}"
    if time < 0.9995:
        return f"{time * 1000:.0f} ms" if time else "0"
    return f"{_format_digits(time)} s" if time < 99.95 else format_duration(time)


def format_dollars(amount: float | Decimal) -> str:
    """Format US dollars: $0.0018, $1.25, $12.3k."""
    return f"${format_short(float(amount))}" if amount >= 9_999 else format_cost(Decimal(str(amount)))


def format_cost_total(total: UsageTotals) -> str:
    """Format the cost of *total*; an unknown part is shown as unknown."""
    known = format_dollars(total.known_cost)
    if not total.unpriced:
        return known
    return f"{known} + unknown" if total.known_cost else "unknown"


def format_percent(part: int, total: int) -> str:
    """Format a share: 0%, 0.4%, 12%, 100%; 0% and 100% only if they are exact."""
    if not part or not total:
        return "0%"
    share = 100 * part / total
    if share < 0.1:
        return "<0.1%"
    if share < 9.95:
        return f"{share:.1f}%"
    return f"{min(share, 99 if part < total else 100):.0f}%"


def mark_estimate(total: UsageTotals, figure: str) -> str:
    """Return *figure*, which is a part of *total*, as HTML, marked if it includes estimates or an unknown part."""
    known, plus, _ = figure.partition(" + unknown")
    if known == "unknown":
        return UNKNOWN_MARK
    estimate = f'<abbr title="includes estimated figures">{APPROX}</abbr>' if total.estimated else ""
    unknown = ' <em class="unknown">+ unknown</em>' if plus else ""
    return f"{estimate}{escape_markup(known)}{unknown}"
