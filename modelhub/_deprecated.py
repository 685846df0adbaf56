"""Modules and names of version 0.1 that have moved; they go with the next release."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["RenamedAttribute", "forward_names"]


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


class RenamedAttribute:
    """An attribute of a class, and of its instances, that is called *current* now; reading it warns."""

    def __init__(self, current: str) -> None:
        self._current = current

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        message = f"`{owner.__name__}.{self._name}` is now `{self._current}`"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(owner if instance is None else instance, self._current)
