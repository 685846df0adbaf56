"""Importing a vendor's SDK in a thread, while nobody else builds a request.

An import takes up to a second, in which the loop, and everybody else's streams, would stand still: so a thread does it.
But a module can be seen as soon as its import begins, and SDKs look at what others have imported (openai at httpx). So
whoever is about to begin an attempt waits for the import under way, also for that of another vendor's SDK. And what an
SDK looks at when its answer comes is imported with it: the import of another SDK may have begun since.

A process that forks during an import leaves its child a module that is only begun, with the lock of a thread that the
child does not have: whoever imports it there waits for ever. So a fork waits for the import.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import os
import sys
import threading
from functools import cache
from importlib.util import find_spec

from modelhub.core.process import register_at_fork
from modelhub.core.threads import new_lock, wait_until_done

__all__ = ["import_sdk", "is_installed", "is_ready"]

LOOKED_AT = {"openai": ("httpx",)}  # modules that an SDK uses if, and only if, something else has imported them
MAX_FORK_DELAY = 30.0  # seconds that a fork waits for an import at most


class _Importer:
    """At most one import at a time, in any thread of the process."""

    def __init__(self) -> None:
        self._watches_forks = False
        self.reset_after_fork()
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Forget in a forked child what threads of the parent were doing."""
        self._lock = new_lock()
        self._thread = 0
        self.imported = set[str]()
        self.under_way: concurrent.futures.Future[None] | None = None

    def _wait_before_fork(self) -> None:
        """Wait for the import under way, and let none begin until the process has forked."""
        self._lock.acquire()
        if self.under_way is not None and self._thread != threading.get_ident():  # an import may fork itself
            wait_until_done(self.under_way, MAX_FORK_DELAY)

    def _resume_after_fork(self) -> None:
        self._lock.release()

    def begin(self) -> concurrent.futures.Future[None] | None:
        """Return the future of an import that begins now, or None if another one is under way."""
        with self._lock:
            if not self._watches_forks and hasattr(os, "register_at_fork"):
                self._watches_forks = True
                os.register_at_fork(before=self._wait_before_fork, after_in_parent=self._resume_after_fork)
            if self.under_way is not None:
                return None
            self.under_way = future = concurrent.futures.Future[None]()
            future.set_running_or_notify_cancel()  # who stops waiting does not cancel it
            return future

    def run(self, names: list[str], future: concurrent.futures.Future[None]) -> None:
        """Import *names*, and finish *future* whatever comes of it: who needs the modules sees what is wrong."""
        self._thread = threading.get_ident()
        try:
            for name in names:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        finally:
            self.under_way = None
            self._thread = 0
            future.set_result(None)


_importer = _Importer()


def is_ready(name: str) -> bool:
    """Return whether `import_sdk` has nothing to wait for."""
    return _importer.under_way is None and name in _importer.imported and name in sys.modules


async def import_sdk(name: str) -> None:
    """Import the module *name* if it is not there, and wait for any other import of this kind that is under way."""
    names = [name, *[looked_at for looked_at in LOOKED_AT.get(name, ()) if is_installed(looked_at)]]
    while True:
        if (under_way := _importer.under_way) is not None:
            await asyncio.wrap_future(under_way)
        elif all(is_loaded(each) for each in names):
            _importer.imported.add(name)
            return
        elif (future := _importer.begin()) is not None:
            try:
                thread = asyncio.get_running_loop().run_in_executor(None, _importer.run, names, future)
            except RuntimeError:  # the process is ending, and starts no thread any more
                _importer.run(names, future)
            else:
                await asyncio.shield(thread)  # others wait for it too
            return


def is_loaded(name: str) -> bool:
    """Return whether the module *name* has been imported to its end."""
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


@cache
def is_installed(name: str) -> bool:
    """Return whether the module *name* is there to be imported."""
    package = name.partition(".")[0]
    return find_spec(package) is not None and find_spec(name) is not None
