"""What must begin anew in the child of a fork: locks, threads, and what is the parent's to count and to write."""

from __future__ import annotations

import os
import weakref
from functools import cache
from typing import Protocol

__all__ = ["after_forks"]


class Forked(Protocol):
    """What a fork doubles and must not."""

    def begin_anew(self) -> None:
        """This is the child."""
        ...


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()


def after_forks(one: Forked) -> None:
    """Have *one* told in every child, as long as it lives."""
    _watched.add(one)
    _watch()


@cache
def _watch() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    for one in list(_watched):
        one.begin_anew()
