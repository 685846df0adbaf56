"""The health of the ledger, `hub.usage.health`."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Health"]


class Health(NamedTuple):
    """The state of the ledger.

    `written` and `lost` count records since the hub was made; `pending` counts finished calls that are not written yet.
    `error` is the reason why the last attempt to write failed, or None.
    """

    ok: bool = True
    path: str | None = None
    written: int = 0
    pending: int = 0
    lost: int = 0
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the state as a JSON-compatible dict."""
        return self._asdict()
