"""Modules and names of version 0.1 that have moved; they go with the next release."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["forward_names"]


def forward_names(old: str, new: str, renamed: Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """Return a module's `__getattr__`: the names of the module *old* come from *new*, with a DeprecationWarning.

    *renamed* maps the names that are called otherwise in *new*.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807 - the name that the interpreter looks for
        if name.startswith("_"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        current = (renamed or {}).get(name, name)
        if new == old and current == name:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(new), current)
        warnings.warn(f"`{old}.{name}` is now `{new}.{current}`", DeprecationWarning, stacklevel=2)
        return value

    return __getattr__
