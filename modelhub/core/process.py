"""What must happen when the process forks, and when it ends.

An object that holds locks, threads, connections or counts of what is under way registers with `register_at_fork`: in
every forked child it is reset, because what it holds is the parent's. An object that has something left to do at the
end of the process registers with `register_at_exit`. Both keep weak references: nothing lives longer for it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["ExitStage", "ForkAware", "fork_count", "is_in_finalizer", "register_at_exit", "register_at_fork"]

_log = logging.getLogger("modelhub")


class ForkAware(Protocol):
    """An object whose state must not be shared by a forked child and its parent."""

    def reset_after_fork(self) -> None:
        """Reset what belongs to the parent: locks, threads, connections and whatever is under way there."""
        ...


class ExitAware(Protocol):
    """An object that has something left to do when the process ends."""

    def close_at_exit(self) -> None:
        """Finish. Must be safe to call twice, and must start neither a thread nor an event loop."""
        ...


class ExitStage(IntEnum):
    """In which order objects are closed when the process ends."""

    CALLS = 0
    LOOP = 1
    LEDGER = 2


class _Process:
    """The objects of this process that must know of its forks and of its end."""

    def __init__(self) -> None:
        self.forks = 0
        self._fork_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()
        self._exit_aware: dict[ExitStage, weakref.WeakSet[ExitAware]] = {
            stage: weakref.WeakSet() for stage in ExitStage
        }
        self._watches_forks = False
        self._exit_hooks: set[str] = set()

    def register_at_fork(self, obj: ForkAware) -> None:
        """Call `obj.reset_after_fork()` in every forked child, as long as *obj* lives."""
        self._fork_aware.add(obj)
        if not self._watches_forks and hasattr(os, "register_at_fork"):
            self._watches_forks = True
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self.forks += 1
        # multiprocessing and billiard forget the finalizers of the parent; those of atexit are inherited.
        self._exit_hooks &= {"atexit"}
        for obj in list(self._fork_aware):
            try:
                obj.reset_after_fork()
            except Exception:
                _log.exception("%s could not be reset after a fork", type(obj).__name__)

    def register_at_exit(self, obj: ExitAware, stage: ExitStage) -> None:
        """Call `obj.close_at_exit()` when the process ends in good order, as long as *obj* lives.

        Workers of multiprocessing and of Celery's prefork pool end so too, although they run no `atexit` handlers.
        After a fork the registration must be repeated in the child. What ends by `os._exit` or by a signal is not
        closed.
        """
        self._exit_aware[stage].add(obj)
        if "atexit" not in self._exit_hooks:
            self._exit_hooks.add("atexit")
            atexit.register(self._close)
        multiprocessing = sys.modules.get("multiprocessing.process")
        is_worker = multiprocessing is not None and multiprocessing.parent_process() is not None
        for name, may_be_worker in (("multiprocessing.util", is_worker), ("billiard.util", True)):
            if may_be_worker and name in sys.modules and name not in self._exit_hooks:
                self._exit_hooks.add(name)
                sys.modules[name].Finalize(None, self._close, exitpriority=0)

    def _close(self) -> None:
        for stage in ExitStage:
            for obj in list(self._exit_aware[stage]):
                try:
                    obj.close_at_exit()
                except Exception:
                    _log.exception("%s could not be closed at exit", type(obj).__name__)


_process = _Process()
register_at_fork = _process.register_at_fork
register_at_exit = _process.register_at_exit


def is_in_finalizer() -> bool:
    """Return whether the caller runs in a finalizer (`__del__` or `weakref.finalize`), whose errors reach nobody."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code is weakref.finalize.__call__.__code__:
            return True
        frame = frame.f_back
    return False


def fork_count() -> int:
    """How many forks lie between the first process and this one; an object that was made at another count is the
    parent's."""
    return _process.forks
