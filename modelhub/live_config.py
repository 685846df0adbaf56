"""The configuration of a hub as it is now: what was built from it, what the application holds of it, how it changes."""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from modelhub.accounting.accounting import Accounting
from modelhub.build import Builder
from modelhub.core.errors import ConfigError, HubClosed
from modelhub.core.events import Reloaded, ReloadFailed
from modelhub.core.process import register_at_fork
from modelhub.middleware.chain.call_keys import UnusedPart
from modelhub.middleware.chain.layer import ChainHandle
from modelhub.retired_models import RetiredModels
from modelhub.secret_renewal import SecretRenewal
from modelhub.telemetry.observer import Telemetry

if TYPE_CHECKING:
    from modelhub.config.changes import ConfigChanges
    from modelhub.config.load import Loaded
    from modelhub.config_source import ConfigSource
    from modelhub.core.active_calls import ActiveCalls
    from modelhub.core.clock import Clock
    from modelhub.core.context import Services
    from modelhub.core.model import ChatModelBase
    from modelhub.file_watcher import FileWatcher
    from modelhub.shared.store import SharedStore

__all__ = ["LiveConfig"]


class LiveConfig:
    """What a hub has of its configuration, and replaces as a whole when that changes.

    *source* reads the configuration again, if there is one. *services* are those that the hub was made with, and
    *calls* its calls under way. Safe to use from several threads.
    """

    def __init__(self, loaded: Loaded, source: ConfigSource | None, services: Services, calls: ActiveCalls) -> None:
        self.source = source
        self.services = services
        self.calls = calls
        self.retired = RetiredModels(calls)
        self.is_closed = False
        self.watcher: FileWatcher | None = None
        self._must_watch = False  # in a forked child, from its first call on
        self._chains: dict[str, ChainHandle] = {}
        self._lock, self._reload_lock = threading.RLock(), threading.Lock()
        self.renewal = SecretRenewal(WeakMethod(self._resolve_again), WeakMethod(self._find_retry), services.clock)
        self.assembly = Assembly(loaded, self)
        self.assembly.take_over()
        self.renewal.start(loaded.config.secrets.refresh if loaded.renewable else None)
        register_at_fork(self)

    @property
    def loaded(self) -> Loaded:
        """The configuration."""
        return self.assembly.loaded

    def find_model(self, name: str) -> ChatModelBase | None:
        """Return the provider of the entry *name* of the configuration as it is now, if it was made already."""
        return self.assembly.builder.find_model(name)

    def _find_retry(self, label: str) -> ChatModelBase | None:
        with self._lock:
            return self.assembly.builder.find_retry(label)

    # -- what the application holds --------------------------------------------------------------------------------

    def get(self, name: str) -> ChainHandle:
        """Return the handle of *name*, the same one each time. Raises UnknownModel, and HubClosed."""
        with self._lock:
            if self.is_closed:
                raise HubClosed(f"the hub is closed; `{name}` is no longer available")
            self.loaded.check_name(name)
            if self._must_watch:
                self._watch_in_child()
            if name not in self._chains:
                handle = self._chains[name] = ChainHandle(self.assembly.builder.chain(name))
                self._tie(handle)
            return self._chains[name]

    def _tie(self, handle: ChainHandle) -> None:
        """Have *handle* keep alive what makes it follow the configuration, and renew secrets when they are due."""
        is_renewed = self.renewal.period is not None
        handle.refresh_secrets = self.renewal.ensure_fresh if is_renewed else None
        handle.owner = self if is_renewed or self.watcher is not None else None

    def refuse_calls(self) -> None:
        """Refuse every call that begins from now on, with HubClosed, and change nothing any more."""
        with self._lock:
            self.is_closed = True
            if self.watcher is not None:
                self.watcher.stop()
            for chain in self._chains.values():
                chain.closed = True

    def take_owned(self) -> list[UnusedPart]:
        """Return all that is not closed yet, in the order in which it was made; the caller closes it."""
        with self._lock:
            return [*self.retired.take_all(), *self.assembly.list_owned()]

    # -- changes ---------------------------------------------------------------------------------------------------

    def reload(self, config: Mapping[str, Any] | None = None) -> ConfigChanges:
        """Read the configuration again, or use *config*, as `Hub.reload` says. Raises ConfigError and HubClosed."""
        source = self.source
        if source is None:
            raise ConfigError("this hub was made from a `Loaded`, which cannot be read again")
        source = source if config is None else source.with_config(config)
        changes = self._change(source.load)
        self.source = source
        return changes

    def _resolve_again(self) -> None:
        """Resolve the references of the configuration again, as its text was when it was last read.

        A problem is logged by then, and the values before stay in use.
        """
        with suppress(ConfigError, HubClosed):
            self._change(self.loaded.resolve_again)

    def _change(self, load: Callable[[], Loaded]) -> ConfigChanges:
        """Use what *load* returns from now on; log what has changed, or why it cannot be used. Raises ConfigError."""
        observe = self.services.observe
        try:
            with self._reload_lock:
                changes, retired = self._replace(load())
        except ConfigError as error:
            observe(ReloadFailed(self.loaded.file, error))
            raise
        self.retired.add(retired)
        observe(Reloaded(self.loaded.file, changes))
        return changes

    def _replace(self, loaded: Loaded) -> tuple[ConfigChanges, list[UnusedPart]]:
        """Use *loaded* from now on; return what has changed, and the models that are not used by further calls."""
        from modelhub.config.changes import compare  # only a hub that is reloaded compares

        with self._lock:
            if self.is_closed:
                raise HubClosed("the hub is closed, and cannot be reloaded")
            assembly = Assembly(loaded, self, self.assembly)
            chains = {name: assembly.builder.chain(name) for name in self._chains if name in loaded}
            changes = compare(self.loaded, loaded)
            retired = assembly.take_over()
            self.assembly = assembly
            self.renewal.start(loaded.config.secrets.refresh if loaded.renewable else None)
            for name, handle in self._chains.items():
                if name in chains:
                    handle.follow(chains[name])
                    handle.before_call = self._watch_in_child if self._must_watch else None
                else:
                    handle.before_call = partial(self._refuse_removed, name)
                self._tie(handle)
            return changes, retired

    def _refuse_removed(self, name: str) -> None:
        """Raise UnknownModel for a call of a chain that the application holds and the configuration has no more."""
        if self.is_closed:
            raise HubClosed(f"the hub of `{name}` is closed")
        self.loaded.check_name(name)

    # -- watching --------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Reload whenever a file changes that was read. Raises ConfigError without watchfiles, and HubClosed."""
        from modelhub.file_watcher import FileWatcher, require_watchfiles

        require_watchfiles()
        with self._lock:
            if self.is_closed:
                raise HubClosed("the hub is closed, and its file is not watched")
            if self.watcher is None:
                self.watcher = FileWatcher(WeakMethod(self._list_files), WeakMethod(self._reload_changed))
                weakref.finalize(self, self.watcher.stop).atexit = False
            self.watcher.start()
            for handle in self._chains.values():
                self._tie(handle)

    def _list_files(self) -> set[Path]:
        return set() if self.source is None else set(self.source.files)

    def _reload_changed(self) -> None:
        """Reload, in the watcher's thread; a problem is logged by then."""
        with suppress(ConfigError):
            self.reload()

    def reset_after_fork(self) -> None:
        """Replace the locks in a forked child, and let it watch for itself from its first call on."""
        self._lock, self._reload_lock = threading.RLock(), threading.Lock()
        if self.watcher is not None:
            self.watcher.forget_thread()
            self._must_watch = True
            for handle in self._chains.values():
                handle.before_call = handle.before_call or self._watch_in_child

    def _watch_in_child(self) -> None:
        """Watch in a forked child: called before its first call."""
        with self._lock:
            self._must_watch = False
            for handle in self._chains.values():
                if handle.before_call == self._watch_in_child:
                    handle.before_call = None
            if self.watcher is not None and not self.is_closed:
                self.watcher.start()


class Assembly:
    """The accounting, the telemetry, the services and the models of one configuration.

    With *previous*, that of the configuration before, everything is prepared while *previous* is still in use, and
    fails without a trace (ConfigError); `take_over` then completes the change and cannot fail.
    """

    def __init__(self, loaded: Loaded, hub_config: LiveConfig, previous: Assembly | None = None) -> None:
        self.loaded = loaded
        self._previous = previous
        services = hub_config.services
        config = loaded.config
        self.folder: Path = Path(loaded.file).parent if previous is None else previous.folder
        self.shared = self._find_shared(services.clock)
        self.accounting: Accounting = Accounting(
            config.usage,
            config.budgets,
            folder=self.folder,
            clock=services.clock,
            previous=previous.accounting if previous is not None else None,
            budget_store=None if self.shared is None else self.shared.budgets,
        )
        self.telemetry = self._make_telemetry(hub_config)
        instrumentations = [*self.accounting.instrumentations, *services.instrumentations]
        if self.telemetry is not None:
            instrumentations.append(self.telemetry)
        self.services = dataclasses.replace(
            services,
            observers=(self.accounting.meter, *services.observers),
            instrumentations=tuple(instrumentations),
            calls=hub_config.calls,
            files=config.files.access(self.folder),
        )
        self.builder: Builder = Builder(
            loaded,
            self.services,
            self.accounting,
            self.shared,
            previous=previous.builder if previous is not None else None,
            close_idle=hub_config.retired.close_idle,
            renew=hub_config.renewal.renew,
        )

    def _find_shared(self, clock: Clock) -> SharedStore | None:
        """Return the store of limits that processes share: the previous one, if its options are the same."""
        options = self.loaded.config.shared
        if self._previous is not None and self._previous.loaded.config.shared == options:
            return self._previous.shared
        if options is None:
            return None
        from modelhub.shared.store import SharedStore

        return SharedStore(options, clock)

    def _make_telemetry(self, hub_config: LiveConfig) -> Telemetry | None:
        options = self.loaded.config.telemetry
        if self._previous is not None and self._previous.loaded.config.telemetry == options:
            return self._previous.telemetry
        has_own = any(isinstance(hook, Telemetry) for hook in hub_config.services.instrumentations)
        if options.enabled is False or has_own:
            return None
        return Telemetry(
            content=options.content,
            propagate=options.propagate,
            required=options.enabled is True,
            find=hub_config.find_model,
        )

    def list_owned(self) -> list[UnusedPart]:
        """Return what was made so far and must be closed, in the order in which it was made."""
        models = self.builder.list_models()
        return [*models] if self.shared is None else [self.shared, *models]

    def take_over(self) -> list[UnusedPart]:
        """Complete the change from the previous assembly, if there is one; return what only its calls still use."""
        if self.shared is not None:
            self.shared.monitor.record = None if self.telemetry is None else self.telemetry.record_shared_store
        previous, self._previous = self._previous, None
        if previous is None:
            return []
        self.accounting.take_over()
        retired: list[UnusedPart] = [*self.builder.take_over()]
        if previous.shared is not None and previous.shared is not self.shared:
            retired.insert(0, previous.shared)
        if self.telemetry is not None:
            self.telemetry.forget_models()
        return retired
