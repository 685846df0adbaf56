"""The failure table: every error class and how it is handled, generated from the classes."""

from __future__ import annotations

from modelhub.core.errors import AllModelsFailed, CallError, failure_classes

__all__ = ["HEADER", "format_markdown", "make_rows"]

HEADER = ("class", "what", "retry same model", "fall back", "breaker", "may have cost money")


def make_rows() -> list[tuple[str, ...]]:
    """Return one row for each class, in the order of their definition."""
    return [_make_row(cls) for cls in failure_classes()]


def _make_row(cls: type[CallError]) -> tuple[str, ...]:
    policy = cls.policy
    # A class that inherits its parent's policy is described by its own docstring.
    description = policy.what if "policy" in vars(cls) else _get_first_line(cls)
    if cls is AllModelsFailed:
        return (cls.__name__, description, "", "", "", "")
    fall_back = "yes" if policy.fall_back else "no"
    return (cls.__name__, description, policy.retry.value, fall_back, policy.breaker.value, policy.billed.value)


def _get_first_line(cls: type[CallError]) -> str:
    text = (cls.__doc__ or "").split("\n")[0].rstrip(".")
    return text[:1].lower() + text[1:]


def format_markdown() -> str:
    """Return the table as GitHub-flavoured Markdown."""
    table = [HEADER, tuple("---" for _ in HEADER)]
    for name, *cells in make_rows():
        table.append((f"`{name}`", *cells))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table)
