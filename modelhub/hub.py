"""The hub: opens, finds, owns and closes models."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelhub._sync import run_sync
from modelhub.accounting.accounts import Accounts
from modelhub.build import Builder
from modelhub.config.load import Loaded, load_dict, load_file
from modelhub.context import Follower, Services, tagged
from modelhub.errors import ConfigError, HubClosed, UnknownModel
from modelhub.logs import LogObserver
from modelhub.middleware.chain import Chain
from modelhub.middleware.limit import Pool
from modelhub.model import ChatModelBase
from modelhub.process import register_at_fork
from modelhub.telemetry.observer import Telemetry

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["CONFIG_VARIABLE", "Hub", "config_path"]

CONFIG_VARIABLE = "MODELHUB_CONFIG"
"""The environment variable that names the file."""


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


class Hub:
    """Finds models by name.

    `async with Hub.from_yaml() as hub: reply = await hub.get("primary")(messages)`. Iterating gives the names of all
    models and chains. The hub makes each model when it is first asked for, owns it, and closes it; it may be used from
    several threads and event loops.
    """

    def __init__(self, loaded: Loaded, *, services: Services | None = None) -> None:
        self.loaded = loaded
        given = services or Services(observers=(LogObserver(),))
        config = loaded.config
        accounts = Accounts(config.usage, config.budgets, folder=Path(loaded.file).parent, clock=given.clock)
        self.usage = accounts.meter
        """What all calls used and cost: totals, the ledger's health, the budgets."""
        self._owned: list[ChatModelBase] = []
        self.services = dataclasses.replace(
            given, observers=(self.usage, *given.observers), followers=self._followers(given)
        )
        self._builder = Builder(loaded, self.services, self._owned.append, accounts)
        self._chains: dict[str, Chain] = {}
        self._lock = threading.RLock()
        self._closed = False
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Renew the lock in a forked child: another thread of the parent may have held it."""
        self._lock = threading.RLock()

    def _followers(self, given: Services) -> tuple[Follower, ...]:
        options = self.loaded.config.telemetry
        self._telemetry: Telemetry | None = None
        if options.enabled is False or any(isinstance(follower, Telemetry) for follower in given.followers):
            return given.followers
        self._telemetry = Telemetry(content=options.content, required=options.enabled is True, find=self._provider)
        return (*given.followers, self._telemetry)

    def _provider(self, name: str) -> ChatModelBase | None:
        return next((model for model in self._owned if model.entry == name), None)

    @classmethod
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
        return cls(load_file(config_path(path, environ), environ=environ), services=services)

    @classmethod
    def from_dict(
        cls,
        config: Mapping[str, Any],
        *,
        environ: Mapping[str, str] | None = None,
        services: Services | None = None,
    ) -> Self:
        """The hub of *config*, which has the file's form. Raises ConfigError with every problem."""
        return cls(load_dict(config, environ=environ), services=services)

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

    def _unknown(self, name: str) -> str:
        names = list(self)
        close = difflib.get_close_matches(str(name), names, 1)
        meant = f"; did you mean `{close[0]}`?" if close else ""
        return f"no model or chain is called `{name}`{meant} (there are: {', '.join(names)})"

    @property
    def limits(self) -> Mapping[str, Pool]:
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

    async def aclose(self) -> None:
        """Close every model, last made first. Safe to call twice; a failure to close is logged, not raised."""
        with self._lock:
            self._closed = True
            owned, self._owned = self._owned[::-1], []
            for chain in self._chains.values():
                chain.closed = True
        for model in owned:
            if (aclose := getattr(model, "aclose", None)) is None:
                continue  # a provider of a third party that has nothing to give back
            try:
                await aclose()
            except Exception:
                logging.getLogger("modelhub").exception("closing %s failed", model.name)
        if self._telemetry is not None:
            self._telemetry.flush()
        await self.usage.aclose()

    def close(self) -> None:
        """The same for code without an event loop."""
        run_sync(self.aclose())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
