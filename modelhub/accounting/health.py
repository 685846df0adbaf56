"""How the ledger is, as `hub.usage.health` tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Health"]


@dataclass(frozen=True, slots=True)
class Health:
    """How the ledger is.

    `written` and `lost` count records since the hub was made; `pending` are finished calls that are not written yet.
    `error` is why the last try failed, None if it did not.
    """

    ok: bool = True
    path: str | None = None
    written: int = 0
    pending: int = 0
    lost: int = 0
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return asdict(self)
