"""Notice that files have changed, however that was done, in a thread of its own.

Editors write a file in place, empty it first, or put another one in its place; Kubernetes puts another folder behind
a link; network file systems and single files mounted into a container report nothing at all. So the folders of the
files and of every link on the way are watched, any event in them is a reason to look, and every few seconds is too.
What counts is whether the contents are others than before.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from modelhub.core.errors import ConfigError, HubClosed
from modelhub.core.process import ExitStage, register_at_exit
from modelhub.core.threads import DaemonThread, sleep
from modelhub.version import install_command

if TYPE_CHECKING:
    from weakref import WeakMethod

__all__ = ["FileWatcher", "require_watchfiles"]

POLL_SECONDS = 3.0
"""How often the files are looked at if nothing is reported."""
SETTLE_SECONDS = 0.1
"""How long the contents must stay the same before they are used: whoever writes may not be done."""
EMPTY_SECONDS = 1.0
"""How long a file that is empty or missing is waited for: it is probably about to be written."""
_STEP_SECONDS = 0.05
_JOIN_SECONDS = 0.5
_MAX_LINKS = 40
_log = logging.getLogger("modelhub")

Contents = dict[Path, bytes | None]
"""The hash of each file, b"" for an empty one, None where it cannot be read."""


def require_watchfiles() -> ModuleType:
    """Import and return watchfiles. Raises ConfigError if it is not installed."""
    try:
        import watchfiles
    except ImportError as error:
        raise ConfigError(f"`watch` needs watchfiles, which is not installed: {install_command('watch')}") from error
    return watchfiles


class FileWatcher:
    """Calls a method whenever one of some files has changed, until it is stopped or the method's object is gone.

    *list_files* returns the files, each time after a change; *on_change* is called in the watcher's thread, which it
    must not block for ever, and may raise HubClosed to stop.
    """

    def __init__(
        self, list_files: WeakMethod[Callable[[], Collection[Path]]], on_change: WeakMethod[Callable[[], None]]
    ) -> None:
        self._list_files = list_files
        self._on_change = on_change
        self._stop = _StopFlag()
        self._thread: DaemonThread | None = None

    def start(self) -> None:
        """Begin to watch: what has changed when this returns is noticed. Does nothing if it watches already."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop = stop = _StopFlag()
        contents = _read_contents(self._find_files())
        self._thread = DaemonThread(lambda: self._run(stop, contents), "modelhub-watch")
        register_at_exit(self, ExitStage.CALLS)

    def stop(self) -> None:
        """Stop watching, without waiting for the thread to end."""
        self._stop.set()

    def forget_thread(self) -> None:
        """Know that nothing is watched any more: the thread is the parent's of this forked process."""
        self._thread, self._stop = None, _StopFlag()

    def close_at_exit(self) -> None:
        """Stop, and wait a moment for the thread: at the end of the process it must not be in foreign code."""
        self.stop()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    def _find_files(self) -> Collection[Path]:
        list_files = self._list_files()
        return list_files() if list_files is not None else ()

    def _run(self, stop: _StopFlag, contents: Contents) -> None:
        while not stop.is_set():
            try:
                contents = self._wait_for_change(stop, contents)
                on_change = self._on_change()
                if stop.is_set() or on_change is None:
                    return
                on_change()
                del on_change  # the hub may be collected while nothing happens
                known = _read_contents(self._find_files())
                contents = {file: contents.get(file, digest) for file, digest in known.items()}
            except HubClosed:
                return
            except Exception:
                _log.exception("watching the configuration failed; it goes on")
                sleep_until_stopped(stop, POLL_SECONDS)

    def _wait_for_change(self, stop: _StopFlag, before: Contents) -> Contents:
        """Return the contents of the files once they are others than *before*, and whoever writes them has finished."""
        for _ in _watch_folders(_find_folders(before), stop):
            if self._on_change() is None:
                break
            if _read_contents(before) != before:
                return _read_settled(stop, before)
        stop.set()
        return before


class _StopFlag:
    """Set once, from any thread, also where gevent has replaced `threading`."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Have the thread stop."""
        self._is_set = True

    def is_set(self) -> bool:
        """Return whether to stop, as watchfiles asks it."""
        return self._is_set


def sleep_until_stopped(stop: _StopFlag, seconds: float) -> None:
    """Sleep for *seconds*, or until *stop* is set."""
    for _ in range(max(1, round(seconds / _STEP_SECONDS))):
        if stop.is_set():
            return
        sleep(_STEP_SECONDS)


def _read_contents(files: Collection[Path]) -> Contents:
    contents: Contents = {}
    for file in files:
        try:
            text = file.read_bytes()
        except OSError:
            contents[file] = None
        else:
            contents[file] = hashlib.blake2b(text, digest_size=16).digest() if text.strip() else b""
    return contents


def _read_settled(stop: _StopFlag, before: Contents) -> Contents:
    """Return the contents of the files once they stay the same; an empty or missing one is given longer to fill."""
    contents = _read_contents(before)
    patience = EMPTY_SECONDS
    while not stop.is_set():
        sleep_until_stopped(stop, SETTLE_SECONDS)
        settled = _read_contents(before)
        is_incomplete = any(not settled[file] and before[file] for file in before)
        if settled == contents and (not is_incomplete or patience <= 0):
            break
        contents = settled
        patience -= SETTLE_SECONDS
    return contents


def _find_folders(files: Collection[Path]) -> set[Path]:
    """Return the folders whose events may mean that one of *files* has changed: its own, and those of links to it."""
    folders: set[Path] = set()
    for file in files:
        path = file.absolute()
        for _ in range(_MAX_LINKS):
            folders.add(path.parent)
            if path.parent.is_symlink():
                folders.add(path.parent.parent)
            if not path.is_symlink():
                break
            path = path.parent / path.readlink()
    return {folder for folder in folders if folder.is_dir()}


def _watch_folders(folders: set[Path], stop: _StopFlag) -> Iterator[None]:
    """Yield whenever something happened in *folders*, and every few seconds, until *stop* is set."""
    if folders:
        try:
            events = require_watchfiles().watch(
                *folders,
                watch_filter=None,
                debounce=400,
                step=round(_STEP_SECONDS * 1000),
                stop_event=stop,
                rust_timeout=round(POLL_SECONDS * 1000),
                yield_on_timeout=True,
                raise_interrupt=False,
                recursive=False,
                force_polling=False,
                ignore_permission_denied=True,
            )
            yield  # what changed before the watch began
            for _ in events:
                yield
        except OSError as error:  # such as the limit of watches that the system sets
            _log.warning("changes of the configuration are looked for every %g s only: %s", POLL_SECONDS, error)
    while not stop.is_set():
        yield
        sleep_until_stopped(stop, POLL_SECONDS)
