"""Models of an earlier configuration: they are closed when the last call that may use them is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial

from modelhub.core.active_calls import ActiveCalls
from modelhub.core.process import register_at_fork
from modelhub.core.sync import can_run_sync, is_loop_running, run_in_background
from modelhub.core.threads import new_lock
from modelhub.middleware.chain.call_keys import UnusedPart

__all__ = ["RetiredModels", "close_models"]

_log = logging.getLogger("modelhub")


async def close_models(models: Iterable[UnusedPart]) -> None:
    """Close *models* in this order; a failure is logged."""
    for model in models:
        try:
            await model.aclose()
        except Exception:
            _log.exception("closing %s failed", model.name)


class RetiredModels:
    """The models of a hub that only the calls under way still use. Safe to use from several threads."""

    def __init__(self, calls: ActiveCalls) -> None:
        self._calls = calls
        self._models: list[UnusedPart] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._lock = new_lock()
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: another thread of the parent may have held it."""
        self._lock = new_lock()

    def add(self, models: Sequence[UnusedPart]) -> None:
        """Close *models* when all calls that are under way now are over."""
        if models:
            with self._lock:
                self._models += models
            self._calls.call_when_over(partial(self._close, models))

    def close_idle(self, models: Sequence[UnusedPart]) -> None:
        """Close *models*, which no call uses or will use."""
        with self._lock:
            self._models += models
        self._close(models)

    def take_all(self) -> list[UnusedPart]:
        """Return the models that are not closed yet; the caller closes them."""
        with self._lock:
            models, self._models = self._models, []
        return models

    def _close(self, models: Sequence[UnusedPart]) -> None:
        """Close *models* on the running event loop, or in the background where none runs."""
        closing = self._aclose(models)
        if is_loop_running():
            task = asyncio.get_running_loop().create_task(closing)
            self._closing.add(task)
            task.add_done_callback(partial(self._close_elsewhere, models))
        elif can_run_sync():
            run_in_background(closing)
        else:
            closing.close()  # the process is ending, and connections end with it

    def _close_elsewhere(self, models: Sequence[UnusedPart], task: asyncio.Task[None]) -> None:
        """Close *models* in the background if the loop of *task*, which was to do so, has ended before."""
        self._closing.discard(task)
        if task.cancelled() and can_run_sync():
            run_in_background(self._aclose(models))

    async def _aclose(self, models: Sequence[UnusedPart]) -> None:
        with self._lock:
            closing = [model for model in self._models if model in models]
        await close_models(closing)
        with self._lock:
            self._models = [model for model in self._models if model not in closing]
