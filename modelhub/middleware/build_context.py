"""What layers are built from besides their options."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelhub.core.context import Services

__all__ = ["MAX_UNBOUNDED_WAIT", "BuildContext"]

MAX_UNBOUNDED_WAIT = 60.0
"""How many seconds a call without a deadline waits at most for a model that asks to be left alone."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What `build` passes to the layers of one model.

    `identity` tells which vendor endpoint, key and model it is; `limits` are the named pools; `state` is room for what
    several models have in common, by key.
    """

    services: Services = field(default_factory=Services)
    identity: Hashable = field(default=None, repr=False)
    limits: Mapping[str, Any] = field(default_factory=dict)
    state: dict[Any, Any] = field(default_factory=dict, repr=False)  # its keys have addresses, with passwords
