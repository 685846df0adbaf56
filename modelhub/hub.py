"""The hub: opens, finds, owns and closes models."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from modelhub.config_source import CONFIG_VARIABLE, ConfigSource, find_config_file, make_pickling_error, reopen
from modelhub.core.active_calls import ActiveCalls
from modelhub.core.call_options import as_seconds
from modelhub.core.context import Services, bounded, tagged
from modelhub.core.process import is_in_finalizer
from modelhub.core.sync import can_run_sync, is_loop_running, register_loop_at_exit, run_in_background, run_sync
from modelhub.core.tracebacks import raises_without_frames
from modelhub.live_config import LiveConfig
from modelhub.logs import LogObserver
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.limit.store import LimitPool
from modelhub.retired_models import close_models

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from modelhub.config.changes import ConfigChanges
    from modelhub.config.load import Loaded
    from modelhub.shared.store import SharedStore

__all__ = ["CLOSE_GRACE", "CONFIG_VARIABLE", "Hub", "find_config_file"]

CLOSE_GRACE = 5.0
"""How many seconds a closing hub gives to calls that are under way."""


class Hub:
    """The models and chains of one configuration, by name.

    `async with Hub.from_yaml() as hub: reply = await hub.get("primary")(messages)`. Iterating yields the names of all
    chains and models. The hub makes each model when it is first needed, owns it, and closes it. It is safe to use from
    several threads and event loops.

    A hub that is still open when its process exits normally, also as a worker of multiprocessing or Celery, records
    all its calls. A process that ends by `os._exit` or a signal, such as RQ's work horse, must close its hub: use
    `with Hub...` there. A forked child starts without the parent's calls and connections. Pickling a hub pickles its
    configuration.
    """

    def __init__(self, loaded: Loaded, *, services: Services | None = None, source: ConfigSource | None = None) -> None:
        base_services = services or Services(observers=(LogObserver(),))
        self._calls = ActiveCalls(base_services.clock)
        self._config = LiveConfig(loaded, source, base_services, self._calls)
        self.usage = self._config.assembly.accounting.meter
        """The usage and cost of all calls: totals, the health of the ledger, the state of the budgets."""
        self._close_finished = False
        self._has_own_services = services is not None
        register_loop_at_exit()

    @property
    def loaded(self) -> Loaded:
        """The configuration as it is now."""
        return self._config.loaded

    @property
    def services(self) -> Services:
        """The clock, the observers and whatever else calls of this hub use."""
        return self._config.assembly.services

    @classmethod
    @raises_without_frames
    def from_yaml(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        profile: str | None = None,
        services: Services | None = None,
        watch: bool = False,
    ) -> Self:
        """Make a hub from the file *path*, or from $MODELHUB_CONFIG, or from ./models.yaml.

        *environ* replaces the process's environment, and *services* the system's clock and random numbers. *profile* is
        the one of the file's profiles that applies, by default the one that $MODELHUB_PROFILE names. With
        *watch*, the hub reloads the file whenever it changes, as `hub.watch()` does. Raises ConfigError with every
        problem of the file, and if *watch* is set without the extra `watch`.
        """
        source = ConfigSource.from_file(find_config_file(path, environ), environ, profile)
        hub = cls(source.load(), services=services, source=source)
        if watch:
            hub.watch()
        return hub

    @classmethod
    @raises_without_frames
    def from_dict(
        cls,
        config: Mapping[str, Any],
        *,
        environ: Mapping[str, str] | None = None,
        profile: str | None = None,
        services: Services | None = None,
    ) -> Self:
        """Make a hub from *config*, which has the structure of a file; the rest is as in `from_yaml`.

        Raises ConfigError with every problem.
        """
        source = ConfigSource.from_dict(config, environ, profile)
        return cls(source.load(), services=services, source=source)

    # -- copies ----------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the configuration: the path of the file, or the dict with its references, and no secret.

        The unpickled hub is a new one, which reads the file and resolves references where it is unpickled. Raises
        PicklingError for a hub with `services` or `environ` of this process, or with a literal secret in its dict.
        """
        source = self._config.source
        if source is None:
            raise make_pickling_error("it was made from a `Loaded`; make it with `from_yaml` or `from_dict`")
        if self._has_own_services:
            raise make_pickling_error(
                "it was made with `services`, which belong to this process; make it where it is used"
            )
        source.check_portable()
        return reopen, (type(self), source.method, source.config, source.profile)

    def __copy__(self) -> Self:
        """Return the hub itself: its limits, connections and ledger exist once."""
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        """Return the hub itself, as a copy does."""
        return self

    def get(self, name: str) -> Chain:
        """Return the chain *name*, or the model *name* as a chain of one; the same object each time.

        It can be kept: after a reload, its calls are made as the new configuration says. If that has no such name,
        they raise UnknownModel. Raises UnknownModel, which lists the names that exist, and HubClosed.
        """
        return self._config.get(name)

    __getitem__ = get

    def tags(self, mapping: Mapping[str, Any] | None = None, /, **tags: Any) -> AbstractContextManager[None]:
        """Tag every call that starts inside `with hub.tags(user="42"): ...`, in this task and the tasks it starts.

        Tags of `hub.get(name).with_tags(...)` and of a call's own `tags=` are added to them.
        """
        return tagged({**(mapping or {}), **tags})

    def deadline(self, duration: str | float, /) -> AbstractContextManager[None]:
        """Limit the time of every call that starts inside `with hub.deadline("5s"): ...`; for the same tasks as `tags`.

        The time runs from now; if the chain or the call has an earlier deadline, that one applies. Raises
        InvalidRequest if *duration* is not a duration.
        """
        return bounded(self.services.clock.now() + as_seconds(duration))

    @property
    def limits(self) -> Mapping[str, LimitPool[Any]]:
        """Every limit of the file by name; `hub.limits["tier"].left()` returns what is left of it."""
        return MappingProxyType(self._config.assembly.builder.pools)

    @property
    def closed(self) -> bool:
        """Whether the hub was closed, or is being closed: then its models can no longer be called."""
        return self._config.is_closed

    @property
    def shared(self) -> SharedStore | None:
        """The store of limits and budgets that processes share, None without `shared:`; `hub.shared.health`."""
        return self._config.assembly.shared

    def __contains__(self, name: object) -> bool:
        return name in self.loaded

    def __iter__(self) -> Iterator[str]:
        yield from (*self.loaded.chains, *self.loaded.models)

    def __len__(self) -> int:
        return len(self.loaded.chains) + len(self.loaded.models)

    def __repr__(self) -> str:
        state = "closed" if self._config.is_closed else "open"
        chains, models = ", ".join(self.loaded.chains), ", ".join(self.loaded.models)
        return f"<Hub {self.loaded.file or 'from a dict'}, {state} [chains: {chains or '-'} | models: {models}]>"

    # -- reloading -------------------------------------------------------------------------------------------------

    @raises_without_frames
    def reload(self, config: Mapping[str, Any] | None = None) -> ConfigChanges:
        """Read the configuration again, and use it for every call that begins from now on. Return what has changed.

        A hub of a file reads the file, one of a dict uses *config*, or resolves the references of its own dict again.
        The change is made as a whole or, if there is a problem, not at all: then ConfigError is raised, and logged, and
        the hub goes on as it was. Calls under way end as they began. Limits, breakers, budgets, totals and the
        connections of models that have not changed go on; those of others are closed when no call uses them any more.
        This may wait for files and commands: in an event loop, use `await hub.areload()`. Raises HubClosed.
        """
        return self._config.reload(config)

    async def areload(self, config: Mapping[str, Any] | None = None) -> ConfigChanges:
        """Reload as `reload` does, in a thread, so that the event loop does not wait for files and commands."""
        return await asyncio.to_thread(self.reload, config)

    def watch(self) -> None:
        """Reload whenever the file changes, a file that it includes, or one that a `${file:}` of it names.

        A thread of its own watches, whatever event loops there are; what goes wrong is logged, as `reload` does, and
        the hub goes on as it was. A forked child watches for itself from its first call on. Safe to call twice. Raises
        ConfigError without the extra `watch`, and HubClosed.
        """
        self._config.watch()

    # -- closing ---------------------------------------------------------------------------------------------------

    async def aclose(self, *, grace: float = CLOSE_GRACE) -> None:
        """Close every model, in reverse order. Safe to call twice; a failure to close is logged, not raised.

        No further request is sent. Requests that are under way get *grace* seconds to finish; after that, their calls
        raise `HubClosed`, as calls that wait for a limit or a retry do at once. A stream that is not read to its end by
        then raises it at its next read; a stream that is not being read does not delay closing.
        """
        if not is_loop_running():
            raise RuntimeError("modelhub needs asyncio: the runner of this coroutine is another one")
        self._config.refuse_calls()
        await self._calls.close(grace)
        await close_models(self._config.take_owned()[::-1])
        await self.usage.aclose()
        self._close_finished = True

    def close(self, *, grace: float = CLOSE_GRACE) -> None:
        """Close the hub as `aclose` does, from code without an event loop, an `atexit` handler or a finalizer.

        Raises RuntimeError if this thread runs an event loop: use `await hub.aclose()` there.
        """
        if self._close_finished:
            return
        if not can_run_sync():
            self._config.refuse_calls()  # the process exits; connections end with it
            self._calls.close_without_loop()
            self.usage.close()
            self._close_finished = True
        elif is_loop_running() and is_in_finalizer():
            run_in_background(self.aclose(grace=grace))
        else:
            run_sync(self.aclose(grace=grace), instead="`await hub.aclose()`, or `async with` for a `with`")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        if is_loop_running():
            raise RuntimeError("an event loop is running here: use `async with Hub...` instead of `with Hub...`")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
