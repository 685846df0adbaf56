"""The failure table: every class of failure and what is done about it, from the classes themselves."""

from __future__ import annotations

from modelhub.core.errors import AllModelsFailed, CallError, failure_classes

__all__ = ["HEADER", "markdown", "rows"]

HEADER = ("class", "what", "retry same model", "fall back", "breaker", "may have cost money")


def rows() -> list[tuple[str, ...]]:
    """One row a class, in the order of the classes."""
    return [_row(cls) for cls in failure_classes()]


def _row(cls: type[CallError]) -> tuple[str, ...]:
    policy = cls.policy
    # A class that takes over its parent's verdict is told from it by its own words.
    what = policy.what if "policy" in vars(cls) else _first_line(cls)
    if cls is AllModelsFailed:
        return (cls.__name__, what, "", "", "", "")
    fall_back = "yes" if policy.fall_back else "no"
    return (cls.__name__, what, policy.retry.value, fall_back, policy.breaker.value, policy.billed.value)


def _first_line(cls: type[CallError]) -> str:
    text = (cls.__doc__ or "").split("\n")[0].rstrip(".")
    return text[:1].lower() + text[1:]


def markdown() -> str:
    """The table as GitHub shows it."""
    table = [HEADER, tuple("---" for _ in HEADER)]
    for name, *others in rows():
        table.append((f"`{name}`", *others))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table)
