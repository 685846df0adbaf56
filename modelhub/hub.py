"""The hub: opens, finds, owns and closes models."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelhub.accounting.accounting import Accounting
from modelhub.build import Builder
from modelhub.config.load import Loaded, copy_plain, load_dict, load_file
from modelhub.config.portable import find_literal_secrets
from modelhub.core.active_calls import ActiveCalls
from modelhub.core.call_options import as_seconds
from modelhub.core.context import Instrumentation, Services, bounded, tagged
from modelhub.core.errors import ConfigError, HubClosed, InvalidRequest
from modelhub.core.model import ChatModelBase
from modelhub.core.process import is_in_finalizer, register_at_fork
from modelhub.core.sync import can_run_sync, is_loop_running, register_loop_at_exit, run_in_background, run_sync
from modelhub.core.tracebacks import raises_without_frames
from modelhub.logs import LogObserver
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.limit.store import LimitPool
from modelhub.telemetry.observer import Telemetry

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["CLOSE_GRACE", "CONFIG_VARIABLE", "Hub", "find_config_file"]

CONFIG_VARIABLE = "MODELHUB_CONFIG"
"""The environment variable that names the file."""
CLOSE_GRACE = 5.0
"""How many seconds a closing hub gives to calls that are under way."""


def find_config_file(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """Return *path*, or $MODELHUB_CONFIG, or ./models.yaml. Raises ConfigError if it is not a file."""
    environ = os.environ if environ is None else environ
    variable = environ.get(CONFIG_VARIABLE)
    file = Path(path or variable or "models.yaml")
    if file.is_file():
        return file
    if path is None and variable is None:
        raise ConfigError(
            f"there is no {file} in {Path.cwd()}: create it, pass the path of another file "
            f"(`--file` on the command line), or set ${CONFIG_VARIABLE}"
        )
    origin = "" if path is not None else f" (from ${CONFIG_VARIABLE})"
    raise ConfigError(f"{file}{origin} is not a file")


@dataclasses.dataclass(frozen=True, slots=True)
class _Source:
    """How a hub was made: the method of `Hub`, and the path or the dict that was passed to it."""

    method: str
    config: Any = dataclasses.field(repr=False)
    has_environ: bool = False


def _make_pickling_error(reason: str) -> pickle.PicklingError:
    return pickle.PicklingError(f"this hub cannot be pickled: {reason}")


def _reopen(cls: type[Hub], method: str, config: Any) -> Hub:
    """Recreate a pickled hub."""
    hub: Hub = getattr(cls, method)(config)
    return hub


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

    def __init__(self, loaded: Loaded, *, services: Services | None = None) -> None:
        self.loaded = loaded
        base_services = services or Services(observers=(LogObserver(),))
        config = loaded.config
        accounting = Accounting(
            config.usage, config.budgets, folder=Path(loaded.file).parent, clock=base_services.clock
        )
        self.usage = accounting.meter
        """The usage and cost of all calls: totals, the health of the ledger, the state of the budgets."""
        self._owned: list[ChatModelBase] = []
        self._calls = ActiveCalls(base_services.clock)
        self.services = dataclasses.replace(
            base_services,
            observers=(self.usage, *base_services.observers),
            instrumentations=(*accounting.instrumentations, *self._make_instrumentations(base_services)),
            calls=self._calls,
            files=config.files.access(Path(loaded.file).parent),
        )
        self._builder = Builder(loaded, self.services, self._owned.append, accounting)
        self._chains: dict[str, Chain] = {}
        self._lock = threading.RLock()
        self._closed = self._close_finished = False
        self._source: _Source | None = None
        self._has_own_services = services is not None
        register_at_fork(self)
        register_loop_at_exit()

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: another thread of the parent may have held it."""
        self._lock = threading.RLock()

    def _make_instrumentations(self, services: Services) -> tuple[Instrumentation, ...]:
        options = self.loaded.config.telemetry
        self._telemetry: Telemetry | None = None
        if options.enabled is False or any(isinstance(hook, Telemetry) for hook in services.instrumentations):
            return services.instrumentations
        self._telemetry = Telemetry(
            content=options.content,
            propagate=options.propagate,
            required=options.enabled is True,
            find=self._find_provider,
        )
        return (*services.instrumentations, self._telemetry)

    def _find_provider(self, name: str) -> ChatModelBase | None:
        return next((model for model in self._owned if model.entry == name), None)

    @classmethod
    @raises_without_frames(ConfigError)
    def from_yaml(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        services: Services | None = None,
    ) -> Self:
        """Make a hub from the file *path*, or from $MODELHUB_CONFIG, or from ./models.yaml.

        *environ* replaces the process's environment, and *services* the system's clock and random numbers.
        Raises ConfigError with every problem of the file.
        """
        file = find_config_file(path, environ)
        hub = cls(load_file(file, environ=environ), services=services)
        hub._source = _Source("from_yaml", os.path.abspath(file), has_environ=environ is not None)  # noqa: PTH100 - links stay
        return hub

    @classmethod
    @raises_without_frames(ConfigError)
    def from_dict(
        cls,
        config: Mapping[str, Any],
        *,
        environ: Mapping[str, str] | None = None,
        services: Services | None = None,
    ) -> Self:
        """Make a hub from *config*, which has the structure of a file. Raises ConfigError with every problem."""
        hub = cls(load_dict(config, environ=environ), services=services)
        hub._source = _Source("from_dict", copy_plain(config), has_environ=environ is not None)
        return hub

    # -- copies ----------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the configuration: the path of the file, or the dict with its references, and no secret.

        The unpickled hub is a new one, which reads the file and resolves references where it is unpickled. Raises
        PicklingError for a hub with `services` or `environ` of this process, or with a literal secret in its dict.
        """
        source = self._source
        if source is None:
            raise _make_pickling_error("it was made from a `Loaded`; make it with `from_yaml` or `from_dict`")
        if self._has_own_services:
            raise _make_pickling_error(
                "it was made with `services`, which belong to this process; make it where it is used"
            )
        if source.has_environ:
            raise _make_pickling_error("it was made with `environ`, which may hold secrets; make it where it is used")
        places = find_literal_secrets(source.config) if source.method == "from_dict" else iter(())
        if (place := next(places, None)) is not None:
            raise _make_pickling_error(
                f"its dict holds a literal secret, at `{place}`: write a reference, such as ${{VAR}}"
            )
        return _reopen, (type(self), source.method, source.config)

    def __copy__(self) -> Self:
        """Return the hub itself: its limits, connections and ledger exist once."""
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        """Return the hub itself, as a copy does."""
        return self

    def get(self, name: str) -> Chain:
        """Return the chain *name*, or the model *name* as a chain of one; the same object each time.

        Raises UnknownModel, which lists the names that exist, and HubClosed.
        """
        with self._lock:
            if self._closed:
                raise HubClosed(f"the hub is closed; `{name}` is no longer available")
            chain = self._chains.get(name)
            if chain is None:
                self.loaded.check_name(name)
                chain = self._chains[name] = self._builder.chain(name)
            return chain

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
        allowed = as_seconds(duration)
        if allowed is None:
            raise InvalidRequest("deadline: expected a duration such as 500ms, 5s, 2m or a number of seconds")
        return bounded(self.services.clock.now() + allowed)

    @property
    def limits(self) -> Mapping[str, LimitPool[Any]]:
        """Every limit of the file by name; `hub.limits["tier"].left()` returns what is left of it."""
        return MappingProxyType(self._builder.pools)

    def __contains__(self, name: object) -> bool:
        return name in self.loaded.models or name in self.loaded.chains

    def __iter__(self) -> Iterator[str]:
        yield from self.loaded.chains
        yield from self.loaded.models

    def __len__(self) -> int:
        return len(self.loaded.chains) + len(self.loaded.models)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        chains, models = ", ".join(self.loaded.chains), ", ".join(self.loaded.models)
        return f"<Hub {self.loaded.file or 'from a dict'}, {state} [chains: {chains or '-'} | models: {models}]>"

    # -- closing ---------------------------------------------------------------------------------------------------

    async def aclose(self, *, grace: float = CLOSE_GRACE) -> None:
        """Close every model, in reverse order. Safe to call twice; a failure to close is logged, not raised.

        No further request is sent. Requests that are under way get *grace* seconds to finish; after that, their calls
        raise `HubClosed`, as calls that wait for a limit or a retry do at once. A stream that is not read to its end by
        then raises it at its next read; a stream that is not being read does not delay closing.
        """
        if not is_loop_running():
            raise RuntimeError("modelhub needs asyncio: the runner of this coroutine is another one")
        self._refuse_calls()
        await self._calls.close(grace)
        with self._lock:
            owned, self._owned = self._owned[::-1], []
        for model in owned:
            try:
                await model.aclose()
            except Exception:
                logging.getLogger("modelhub").exception("closing %s failed", model.name)
        if self._telemetry is not None:
            self._telemetry.flush()
        await self.usage.aclose()
        self._close_finished = True

    def _refuse_calls(self) -> None:
        with self._lock:
            self._closed = True
            for chain in self._chains.values():
                chain.closed = True

    def close(self, *, grace: float = CLOSE_GRACE) -> None:
        """Close the hub as `aclose` does, from code without an event loop, an `atexit` handler or a finalizer.

        Raises RuntimeError if this thread runs an event loop: use `await hub.aclose()` there.
        """
        if self._close_finished:
            return
        if not can_run_sync():
            self._close_without_loop()
        elif is_loop_running() and is_in_finalizer():
            run_in_background(self.aclose(grace=grace))
        else:
            run_sync(self.aclose(grace=grace), instead="`await hub.aclose()`, or `async with` for a `with`")

    def _close_without_loop(self) -> None:
        """Close what can be closed while the process exits; connections end with the process."""
        self._refuse_calls()
        self._calls.close_without_loop()
        if self._telemetry is not None:
            self._telemetry.flush()
        self.usage.close()
        self._close_finished = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        if is_loop_running():
            raise RuntimeError("an event loop is running here: use `async with Hub...` instead of `with Hub...`")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
