"""Tables of the usage page, as HTML."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["format_row", "format_scrolled", "hide_text"]


def format_row(name: str, *cells: str) -> str:
    """Return a row with the header *name* and *cells*, all of which are HTML."""
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def format_scrolled(title: str, kind: str, header: Sequence[str], body: str) -> str:
    """Return a table in a card that scrolls sideways if it is too wide; *kind* is its class."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in header)
    return (
        f'<section class="card"><div class="scrolled" tabindex="0"><table class="{kind}"><caption>{title}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def hide_text(text: str) -> str:
    """Return a header for screen readers only."""
    return f'<span class="hidden">{text}</span>'
