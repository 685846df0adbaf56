"""The hub: opens, finds, owns and closes models."""

from __future__ import annotations

import dataclasses
import difflib
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
from modelhub.core.context import Instrumentation, Services, as_seconds, bounded, tagged
from modelhub.core.errors import ConfigError, HubClosed, InvalidRequest, UnknownModel
from modelhub.core.model import ChatModelBase
from modelhub.core.process import is_in_finalizer, register_at_fork
from modelhub.core.sync import can_run_sync, is_loop_running, register_loop_at_exit, run_in_background, run_sync
from modelhub.core.tracebacks import raises_without_frames
from modelhub.logs import LogObserver
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.limit.layer import RateLimitPool
from modelhub.telemetry.observer import Telemetry

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["CLOSE_GRACE", "CONFIG_VARIABLE", "Hub", "config_path"]

CONFIG_VARIABLE = "MODELHUB_CONFIG"
"""The environment variable that names the file."""
CLOSE_GRACE = 5.0
"""How many seconds a closing hub gives to calls that are under way."""


def config_path(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """Which file is meant: *path*, else $MODELHUB_CONFIG, else ./models.yaml. Raises ConfigError if it is not there."""
    environ = os.environ if environ is None else environ
    variable = environ.get(CONFIG_VARIABLE)
    found = Path(path or variable or "models.yaml")
    if found.is_file():
        return found
    if path is None and variable is None:
        raise ConfigError(
            f"there is no {found} in {Path.cwd()}: write one, or name another file with ${CONFIG_VARIABLE} or a path"
        )
    origin = "" if path is not None else f" (from ${CONFIG_VARIABLE})"
    raise ConfigError(f"{found}{origin} is not a file")


@dataclasses.dataclass(frozen=True, slots=True)
class _Source:
    """What a hub was made from: the method of `Hub`, and the path or the dict that it was given."""

    method: str
    config: Any = dataclasses.field(repr=False)
    has_environ: bool = False


def _unpicklable(reason: str) -> pickle.PicklingError:
    return pickle.PicklingError(f"this hub cannot be pickled: {reason}")


def _open_again(cls: type[Hub], method: str, config: Any) -> Hub:
    """Make the hub that was pickled."""
    hub: Hub = getattr(cls, method)(config)
    return hub


class Hub:
    """Finds models by name.

    `async with Hub.from_yaml() as hub: reply = await hub.get("primary")(messages)`. Iterating gives the names of all
    models and chains. The hub makes each model when it is first asked for, owns it, and closes it; it may be used from
    several threads and event loops.

    A hub that is not closed is recorded in full when its process ends in good order, also as a worker of
    multiprocessing or Celery. What ends by `os._exit` or by a signal, such as RQ's work horse, must close it: use
    `with Hub...` there. In a forked child it begins anew; pickled, it is its configuration.
    """

    def __init__(self, loaded: Loaded, *, services: Services | None = None) -> None:
        self.loaded = loaded
        given = services or Services(observers=(LogObserver(),))
        config = loaded.config
        accounts = Accounting(config.usage, config.budgets, folder=Path(loaded.file).parent, clock=given.clock)
        self.usage = accounts.meter
        """What all calls used and cost: totals, the ledger's health, the budgets."""
        self._owned: list[ChatModelBase] = []
        self._calls = ActiveCalls(given.clock)
        self.services = dataclasses.replace(
            given,
            observers=(self.usage, *given.observers),
            instrumentations=self._instrumentations(given),
            calls=self._calls,
            files=config.files.access(Path(loaded.file).parent),
        )
        self._builder = Builder(loaded, self.services, self._owned.append, accounts)
        self._chains: dict[str, Chain] = {}
        self._lock = threading.RLock()
        self._closed = self._close_finished = False
        self._source: _Source | None = None
        self._has_own_services = services is not None
        register_at_fork(self)
        register_loop_at_exit()

    def reset_after_fork(self) -> None:
        """Renew the lock in a forked child: another thread of the parent may have held it."""
        self._lock = threading.RLock()

    def _instrumentations(self, given: Services) -> tuple[Instrumentation, ...]:
        options = self.loaded.config.telemetry
        self._telemetry: Telemetry | None = None
        if options.enabled is False or any(isinstance(follower, Telemetry) for follower in given.instrumentations):
            return given.instrumentations
        self._telemetry = Telemetry(
            content=options.content, propagate=options.propagate, required=options.enabled is True, find=self._provider
        )
        return (*given.instrumentations, self._telemetry)

    def _provider(self, name: str) -> ChatModelBase | None:
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
        """The hub of the file *path*, or of $MODELHUB_CONFIG, or of ./models.yaml.

        *environ* takes the place of the process's environment, *services* that of the system's time and chance.
        Raises ConfigError with every problem of the file.
        """
        file = config_path(path, environ)
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
        """The hub of *config*, which has the file's form. Raises ConfigError with every problem."""
        hub = cls(load_dict(config, environ=environ), services=services)
        hub._source = _Source("from_dict", copy_plain(config), has_environ=environ is not None)
        return hub

    # -- copies ----------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the configuration: the path of the file, or the dict with its references, and no secret.

        The hub that comes out is a new one: it reads the file, and looks references up, where it is unpickled. Raises
        PicklingError for what is of this process alone: `services`, `environ`, and secrets that stand in the dict
        itself.
        """
        source = self._source
        if source is None:
            raise _unpicklable("it was made from a `Loaded`; make it with `from_yaml` or `from_dict`")
        if self._has_own_services:
            raise _unpicklable("it was made with `services`, which are of this process; make it where it is used")
        if source.has_environ:
            raise _unpicklable("it was made with `environ`, which may hold secrets; make it where it is used")
        places = find_literal_secrets(source.config) if source.method == "from_dict" else iter(())
        if (place := next(places, None)) is not None:
            raise _unpicklable(f"it holds a secret itself, at `{place}`: write a reference, such as ${{VAR}}")
        return _open_again, (type(self), source.method, source.config)

    def __copy__(self) -> Self:
        """Return the hub itself: there is one of it, with its limits, connections and ledger, whoever holds it."""
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        """Return the hub itself, as a copy does."""
        return self

    def get(self, name: str) -> Chain:
        """The chain *name*, or the model of that name as a chain of one; the same object each time.

        Raises UnknownModel, with the names that exist, and HubClosed.
        """
        with self._lock:
            if self._closed:
                raise HubClosed(f"the hub is closed; `{name}` can no longer be had from it")
            chain = self._chains.get(name)
            if chain is None:
                if name not in self:
                    raise UnknownModel(self._unknown(name))
                chain = self._chains[name] = self._builder.chain(name)
            return chain

    __getitem__ = get

    def tags(self, given: Mapping[str, Any] | None = None, /, **tags: Any) -> AbstractContextManager[None]:
        """Tags for every call begun inside: `with hub.tags(user="42"): ...`; for this task and those it starts.

        `hub.get(name).with_tags(...)` and a call's own `tags=` come on top.
        """
        return tagged({**(given or {}), **tags})

    def deadline(self, duration: str | float, /) -> AbstractContextManager[None]:
        """An end for every call begun inside, from now on: `with hub.deadline("5s"): ...`; in the same tasks as `tags`.

        The tighter of this, the chain's own and the call's `deadline=` holds. Raises InvalidRequest for no duration.
        """
        allowed = as_seconds(duration)
        if allowed is None:
            raise InvalidRequest("deadline: expected a duration such as 500ms, 5s, 2m or a number of seconds")
        return bounded(self.services.clock.now() + allowed)

    def _unknown(self, name: str) -> str:
        names = list(self)
        close = difflib.get_close_matches(str(name), names, 1)
        meant = f"; did you mean `{close[0]}`?" if close else ""
        return f"no model or chain is called `{name}`{meant} (there are: {', '.join(names)})"

    @property
    def limits(self) -> Mapping[str, RateLimitPool]:
        """Every limit of the file by its name; `hub.limits["tier"].left()` tells what is left of it."""
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
        """Close every model, last made first. Safe to call twice; a failure to close is logged, not raised.

        From now on nothing is sent. Calls that are at a vendor's get *grace* seconds; what is left then, and at once
        every call that waits in a limit's queue or to try again, raises `HubClosed`. So does a stream that is not read
        to its end by then, at its next read; one that nobody reads when the hub closes does not hold it up.
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
        """The same for code without an event loop; also in a handler of `atexit` and in a finalizer.

        Raises RuntimeError where this thread runs an event loop: there, `await hub.aclose()`.
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
        """Close what can be closed when the process is ending: connections end with it."""
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
