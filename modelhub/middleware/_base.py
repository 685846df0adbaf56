"""What layers are built from besides their options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelhub.context import Services

__all__ = ["Shared"]


@dataclass(frozen=True, slots=True)
class Shared:
    """What `build` passes to the layers of one model: its services, the named pools, and room for state that several
    models share (breakers), by key.
    """

    services: Services
    limits: Mapping[str, Any] = field(default_factory=dict)
    state: dict[Any, Any] = field(default_factory=dict)
