"""What a hub makes of one configuration. A reload makes another one, which takes over what has not changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelhub.accounting.accounting import Accounting
from modelhub.build import Builder
from modelhub.core.active_calls import ActiveCalls
from modelhub.core.context import Services
from modelhub.core.model import ChatModelBase
from modelhub.middleware.build_context import RenewModel
from modelhub.telemetry.observer import Telemetry

if TYPE_CHECKING:
    from modelhub.config.load import Loaded
    from modelhub.retired_models import Closable
    from modelhub.shared.store import SharedStore

__all__ = ["Assembly", "Surroundings"]


class Surroundings(NamedTuple):
    """What a hub has whatever its configuration says: the *services* it was made with, and its *calls* under way.

    *find_model* returns the provider of an entry of the current configuration, for telemetry. *close_idle* closes
    models that no call will use again. *renew* is that of `Builder`.
    """

    services: Services
    calls: ActiveCalls
    find_model: Callable[[str], ChatModelBase | None]
    close_idle: Callable[[Sequence[Closable]], None]
    renew: RenewModel


class Assembly:
    """The accounting, the telemetry, the services and the models of one configuration.

    With *previous*, that of the configuration before, everything is prepared while *previous* is still in use, and
    fails without a trace (ConfigError); `take_over` then completes the change and cannot fail.
    """

    def __init__(self, loaded: Loaded, surroundings: Surroundings, previous: Assembly | None = None) -> None:
        self.loaded = loaded
        self._previous = previous
        config = loaded.config
        self.folder: Path = Path(loaded.file).parent if previous is None else previous.folder
        self.shared = self._find_shared(surroundings)
        self.accounting: Accounting = Accounting(
            config.usage,
            config.budgets,
            folder=self.folder,
            clock=surroundings.services.clock,
            previous=previous.accounting if previous is not None else None,
            budget_store=None if self.shared is None else self.shared.budgets,
        )
        self.telemetry = self._make_telemetry(surroundings)
        if self.shared is not None:
            self.shared.monitor.record = None if self.telemetry is None else self.telemetry.record_shared_store
        hooks = surroundings.services.instrumentations
        self.services = dataclasses.replace(
            surroundings.services,
            observers=(self.accounting.meter, *surroundings.services.observers),
            instrumentations=(
                *self.accounting.instrumentations,
                *hooks,
                *(() if self.telemetry is None else (self.telemetry,)),
            ),
            calls=surroundings.calls,
            files=config.files.access(self.folder),
        )
        self.builder: Builder = Builder(
            loaded,
            self.services,
            self.accounting,
            limit_store=self.shared,
            cooldowns=None if self.shared is None else self.shared.cooldowns,
            previous=previous.builder if previous is not None else None,
            close_idle=surroundings.close_idle,
            renew=surroundings.renew,
        )

    def _find_shared(self, surroundings: Surroundings) -> SharedStore | None:
        """Return the store of limits that processes share: the previous one, if its options are the same."""
        options = self.loaded.config.shared
        if self._previous is not None and self._previous.loaded.config.shared == options:
            return self._previous.shared
        if options is None:
            return None
        from modelhub.shared.store import SharedStore

        return SharedStore(options, surroundings.services.clock)

    def _make_telemetry(self, surroundings: Surroundings) -> Telemetry | None:
        options = self.loaded.config.telemetry
        if self._previous is not None and self._previous.loaded.config.telemetry == options:
            return self._previous.telemetry
        if options.enabled is False or any(
            isinstance(hook, Telemetry) for hook in surroundings.services.instrumentations
        ):
            return None
        return Telemetry(
            content=options.content,
            propagate=options.propagate,
            required=options.enabled is True,
            find=surroundings.find_model,
        )

    def list_owned(self) -> list[Closable]:
        """Return what was made so far and must be closed, in the order in which it was made."""
        return [*(() if self.shared is None else (self.shared,)), *self.builder.list_models()]

    def take_over(self) -> list[Closable]:
        """Complete the change from the previous assembly, and return what only its calls still use."""
        previous, self._previous = self._previous, None
        if previous is None:
            return []
        self.accounting.take_over()
        retired: list[Closable] = [*self.builder.take_over()]
        if previous.shared is not None and previous.shared is not self.shared:
            retired.insert(0, previous.shared)
        if self.telemetry is not None:
            self.telemetry.forget_models()
        return retired
